"""Known crystals of exactly the formula asked for."""

from __future__ import annotations

from crystallm.data.templates import TemplateLibrary
from crystallm.sample.crystal import Crystal
from crystallm.sample.prompts import NamedPrompt


def known_crystals(item: NamedPrompt, library: TemplateLibrary | None) -> list[Crystal]:
    """The known crystals that a prompt allows, as they are in their source.

    Args:
        item: a prompt; without a formula there are none.
        library: known crystals; None where the checkpoint has none.

    Returns:
        One crystal for each structure, in the order of the library; no draw stands for it yet. Where a multiple of
        the formula was typed, only those whose formula units are a multiple of it.
    """
    prompt = item.prompt
    if library is None or prompt.amounts is None:
        return []
    found = library.known(prompt.amounts, formula_units=prompt.formula_units, space_group=prompt.space_group)
    if prompt.formula_units is None:
        found = [known for known in found if known.formula_units % prompt.multiple == 0]
    return [Crystal(item, known.description, known=known, count=0) for known in found]

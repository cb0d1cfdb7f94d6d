"""What is known of each candidate of a formula, for the ranking."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from crystallm.crystal.checks.fast_bonds import has_unreasonable_bonds
from crystallm.crystal.description import Description, first_atoms
from crystallm.crystal.formulas.composition import Amounts, element_order
from crystallm.crystal.formulas.element_similarity import Similarity, load_similarity
from crystallm.crystal.wyckoff import space_group
from crystallm.data.templates import Template, TemplateLibrary
from crystallm.energy.ranking import Evidence
from crystallm.sample.crystal import Crystal
from crystallm.sample.drawing.template_structures import Protostructure, protostructure
from crystallm.sample.prompts import NamedPrompt
from crystallm.tokenizer.layout import FREE_PARAMETERS


@dataclass(frozen=True)
class Relatives:
    """The templates of a prompt: known crystals with the elements exchanged, and how they are spread."""

    by_id: Mapping[str, Template] = field(default_factory=dict)
    votes: Mapping[Protostructure, float] = field(default_factory=dict)
    """Share of the weight of all templates that each protostructure has; those of the formula itself have no vote."""
    observed_votes: Mapping[Protostructure, float] = field(default_factory=dict)
    """The same among the observed ones."""
    own: frozenset[Protostructure] = frozenset()
    """Protostructures of known crystals of the formula itself."""

    @classmethod
    def of(cls, item: NamedPrompt, library: TemplateLibrary | None) -> Relatives:
        """The relatives of a prompt; none without a formula or a library."""
        prompt = item.prompt
        if library is None or prompt.amounts is None:
            return cls()
        found = library.find(prompt.amounts, formula_units=prompt.formula_units, space_group=prompt.space_group)
        others = [template for template in found if template.description != template.known]
        return cls(
            {template.id: template for template in found},
            _shares(others),
            _shares([template for template in others if template.observed]),
            frozenset(protostructure(one.known) for one in found if one.description == one.known),
        )


def _shares(templates: Sequence[Template]) -> dict[Protostructure, float]:
    weights: dict[Protostructure, float] = defaultdict(float)
    for template in templates:
        weights[protostructure(template.description)] += template.weight
    total = sum(weights.values())
    return {kind: weight / total for kind, weight in weights.items()}


def evidence_of(crystals: Sequence[Crystal], relatives: Relatives) -> list[Evidence]:
    """What is known of each crystal of a formula.

    Args:
        crystals: the candidates, known and drawn.
        relatives: of the same prompt.

    Returns:
        One for each crystal, in order; energies in eV per atom.
    """
    return [_evidence(crystal, relatives) for crystal in crystals]


def _evidence(crystal: Crystal, relatives: Relatives) -> Evidence:
    description, attempt, known, energy = crystal.description, crystal.attempt, crystal.known, crystal.energy
    drawn = description if attempt is None or attempt.description is None else attempt.description
    kind = protostructure(drawn)
    followed = None if attempt is None else attempt.followed
    template = None if followed is None else relatives.by_id.get(followed.id)
    return Evidence(
        space_group=description.space_group,
        formula_units=description.formula_units,
        n_sites=description.n_sites,
        n_orbits=len(description.sites),
        n_free=n_free(description),
        volume_ratio=crystal.cell.volume / (crystal.formula_units * expected_volume(description.amounts)),
        bonds_reasonable=not has_unreasonable_bonds(crystal.cell, first_atoms(description)),
        ranking_log_probability=None if attempt is None else attempt.ranking_log_probability,
        protostructure_log_probability=None if attempt is None else attempt.protostructure_log_probability,
        log_probability=None if attempt is None else attempt.log_probability,
        draw=None if attempt is None else attempt.number,
        draws=crystal.count,
        share=None if attempt is None else 0.0 if followed is None else followed.share,
        distance=None if template is None else float(-np.log(max(template.weight, 1e-12))),
        votes=relatives.votes.get(kind, 0.0),
        observed_votes=relatives.observed_votes.get(kind, 0.0),
        like_own=kind in relatives.own,
        template_observed=None if template is None else template.observed,
        template_above_hull=None if template is None else template.energy_above_hull,
        known=known is not None,
        observed=None if known is None else known.observed,
        measured=known is not None and known.measured,
        source_ids=() if known is None else known.ids,
        dft_above_hull=None if known is None else known.energy_above_hull,
        energy=None if energy is None else energy.as_given,
        relaxed_energy=None if energy is None else energy.relaxed,
        above_hull=None if energy is None else energy.above_hull,
    )


def n_free(description: Description) -> int:
    """Free parameters of cell and coordinates.

    Example:
        >>> n_free(rutile)  # a, c and x of oxygen  # doctest: +SKIP
        3
    """
    return len(FREE_PARAMETERS[space_group(description.space_group).crystal_system]) + sum(
        len(site.free) for site in description.sites
    )


def expected_volume(amounts: Amounts, similarity: Similarity | None = None) -> float:
    """Volume in cubic angstrom that one formula unit takes on average, by its elements."""
    volumes = (similarity or load_similarity()).volumes
    return float(sum(volumes[element_order(symbol)[1]] * amount for symbol, amount in amounts))

"""What the known crystals of similar elements say: each votes for the structure that it becomes when its elements are
exchanged for those of the formula asked for, the more the nearer its elements are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crystallm.crystal.description import Description
from crystallm.data.templates import Template


@dataclass(frozen=True)
class Votes:
    """The votes for one candidate.

    votes: share of the weight of all relatives. observed: share of the weight of all that were observed in those that
    were observed and vote for it. nearest: distance of the elements of the nearest relative that votes for it; None
    where none does. own: whether one of them is a known crystal of the formula itself.
    """

    votes: float
    observed: float
    nearest: float | None
    own: bool


def count_votes(
    templates: Sequence[Template],
    candidates: Sequence[Description],
    like: Callable[[Description], Sequence[int]],
) -> list[Votes]:
    """Votes of the templates of a formula for each candidate.

    Args:
        templates: Known crystals with the elements of the formula, as `TemplateLibrary.find` gives them.
        candidates: Crystals of the formula.
        like: Gives the numbers of the templates that are the same structure as a candidate.

    Returns:
        One for each candidate.

    Example:
        >>> templates = library.find(parse_formula("MgO"), formula_units=1)
        >>> structures = Structures([template.description for template in templates])
        >>> count_votes(templates, [rock_salt], structures.like)
    """
    weights = [template.weight for template in templates]
    total = sum(weights)
    total_observed = sum(template.weight for template in templates if template.observed)
    found = []
    for candidate in candidates:
        own = list(like(candidate))
        nearest = max((templates[number].weight for number in own), default=0.0)
        found.append(
            Votes(
                votes=sum(weights[number] for number in own) / total if total else 0.0,
                observed=sum(weights[number] for number in own if templates[number].observed) / (total_observed or 1.0),
                nearest=-math.log(nearest) if nearest else None,
                own=any(templates[number].description == templates[number].known for number in own),
            )
        )
    return found

"""How far the distribution of samples is from that of a reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from crystallm.eval.denovo.sample_properties import Facts


def total_variation(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Half the sum of the absolute differences of the shares: 0 for equal shares, 1 where nothing is shared."""
    shares = _shares(first, second)
    return sum(abs(a - b) for a, b in shares) / 2


def jensen_shannon(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Jensen-Shannon divergence in bits: 0 for equal shares, 1 where nothing is shared (Lin 1991)."""
    one, other = zip(*_shares(first, second), strict=True)
    distance = float(jensenshannon(one, other, base=2))
    return 0.0 if distance != distance else distance**2  # rounding can put a NaN where a 0 belongs


def distances(samples: Sequence[Facts], reference: Sequence[Facts]) -> dict[str, float | None]:
    """Distances between two sets of crystals; None where one is empty.

    Wasserstein's first (earth mover's) distance of density in g/cm3 and of the number of elements, as CDVAE reports
    them; total variation and Jensen-Shannon divergence of the space groups, where no symmetry is a group of its own.
    """
    if not samples or not reference:
        return dict.fromkeys(NAMES)
    groups = [crystal.space_group for crystal in samples], [crystal.space_group for crystal in reference]
    return {
        "density_wasserstein": float(
            wasserstein_distance([c.density for c in samples], [c.density for c in reference])
        ),
        "n_elements_wasserstein": float(
            wasserstein_distance([c.n_elements for c in samples], [c.n_elements for c in reference])
        ),
        "space_group_total_variation": total_variation(*groups),
        "space_group_jensen_shannon": jensen_shannon(*groups),
    }


NAMES = (
    "density_wasserstein",
    "n_elements_wasserstein",
    "space_group_total_variation",
    "space_group_jensen_shannon",
)

UNITS: dict[str, str] = {
    "density_wasserstein": "g/cm3",
    "n_elements_wasserstein": "elements",
    "space_group_total_variation": "0 to 1",
    "space_group_jensen_shannon": "bits, 0 to 1",
}


def counts(values: Sequence[Any]) -> dict[str, int]:
    """Occurrences of each value, for a report."""
    return {str(value): count for value, count in sorted(Counter(values).items(), key=lambda pair: -pair[1])}


def _shares(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[tuple[float, float]]:
    one, other = Counter(first), Counter(second)
    keys = [*one, *(key for key in other if key not in one)]
    return [(one[key] / len(first), other[key] / len(second)) for key in keys]

"""The one home of the structure matcher's tolerances: every benchmark, report and merge takes them from here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerances:
    """Of pymatgen's StructureMatcher (Ong et al., Comput. Mater. Sci. 68, 314 (2013)).

    Args:
        stol: Largest displacement of a site, over (volume / atoms)^(1/3).
        ltol: Largest relative difference of the lengths of two cells.
        angle_tol: Largest difference of the angles of two cells, in degrees.

    Example:
        >>> STRICT.stol < STANDARD.stol
        True
    """

    stol: float = 0.5
    ltol: float = 0.3
    angle_tol: float = 10.0


STANDARD = Tolerances(stol=0.5, ltol=0.3, angle_tol=10.0)
"""Of the published structure-prediction benchmarks (CDVAE, DiffCSP, CrystaLLM)."""

STRICT = Tolerances(stol=0.3, ltol=0.2, angle_tol=5.0)
"""pymatgen's defaults: of every rate that is called strict."""

DUPLICATE = STRICT
"""What is merged as one and the same crystal."""

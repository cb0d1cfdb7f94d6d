"""Functions for one line of Python: the checks of one crystal, and whether two are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from crystallm.crystal.cell import Cell
from crystallm.crystal.cif.writing import write_atoms
from crystallm.crystal.matching.tolerances import STANDARD, STRICT

if TYPE_CHECKING:
    from crystallm.crystal.checks.paths import ChecksPath
    from crystallm.crystal.checks.validity import Checks
    from crystallm.crystal.matching.matchers import MatcherName


class HasCif(Protocol):
    """What a `Crystal` has, of which `check` takes the CIF."""

    @property
    def cif(self) -> str:
        """A complete CIF."""


class HasCell(Protocol):
    """What a `Crystal` has, of which `match` takes the atoms."""

    @property
    def cell(self) -> Cell:
        """All atoms."""


def check(crystal: str | Cell | HasCif, *, path: ChecksPath = "reference") -> Checks:
    """The checks of one crystal: readable, formula, multiplicity, space group, bond lengths, distance, densities.

    The first five make a crystal valid as CrystaLLM counts (Antunes et al., Nat. Commun. 15, 10570 (2024)). Bonds are
    those of CrystalNN (Zimmermann and Jain, RSC Adv. 10, 6063 (2020)) against sums of tabulated radii. docs: eval has
    each check and its source.

    Args:
        crystal: The text of a CIF, a `Cell`, or a `Crystal`. A cell claims no formula and no space group: checks of
            claims pass with the reason `not stated`.
        path: `reference` for numbers that are published (spglib, CrystalNN), `fast` for filtering (moyopy, a neighbour
            list). Both nearly always agree; docs/explanation/eval.md says how often.

    Returns:
        The verdicts by name. `.valid` is the verdict on the crystal; a text that is no crystal fails every check.

    Raises:
        ConfigError: There is no such path.

    Example:
        >>> from crystallm import check, known
        >>> halite = known("NaCl")[0]
        >>> check(halite).valid, check(halite, path="fast").valid
        (True, True)
        >>> check("no CIF")["readable"].reason
        'unreadable'
    """
    from crystallm.crystal.checks.paths import CHECKS_PATHS

    text = write_atoms(crystal) if isinstance(crystal, Cell) else crystal if isinstance(crystal, str) else crystal.cif
    return CHECKS_PATHS[path].load()(text)


def match(
    first: Cell | HasCell, second: Cell | HasCell, *, strict: bool = False, matcher: MatcherName = "pymatgen"
) -> float | None:
    """Whether two crystals are the same up to a change of volume, by pymatgen's structure matcher.

    The verdict may depend on the order where a pair is at the edge of the tolerances: benchmarks give the reference
    second, see docs/decisions. Nothing limits the time of a comparison, most of which take milliseconds.

    Args:
        first: A `Cell` or `Crystal`.
        second: Another.
        strict: Take the tolerances of pymatgen (stol 0.3, ltol 0.2, angles 5 degrees) instead of those of published
            benchmarks (0.5, 0.3, 10 degrees).
        matcher: `pymatgen`, or `compiled` for its compiled twin, which scoring uses.

    Returns:
        The root mean square distance of matched atoms over (volume / atoms)^(1/3), without unit; None where the two
        do not match. A perfect match is 0.0, so compare with None.

    Raises:
        ConfigError: There is no such matcher.

    Example:
        >>> from crystallm import known, match
        >>> halite, cscl_type = known("NaCl")[:2]
        >>> match(halite, halite) < 1e-6
        True
        >>> match(halite, cscl_type) is None
        True
    """
    from crystallm.crystal.matching.matchers import MATCHERS

    one, other = (crystal if isinstance(crystal, Cell) else crystal.cell for crystal in (first, second))
    return MATCHERS[matcher].load().distances([one], other, [STRICT if strict else STANDARD])[0][0]

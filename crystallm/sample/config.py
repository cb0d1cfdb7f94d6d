"""How crystals are sampled."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isinf, log10
from typing import Annotated, Any, Literal, get_args

from crystallm.base.command_line import Option
from crystallm.base.errors import ConfigError
from crystallm.energy.potentials import PotentialName


@dataclass(frozen=True)
class Spread:
    """How draws are spread: over the `top` most probable values, as often as each is probable, or evenly."""

    top: int
    evenly: bool = False


def parse_spread(text: str, option: str) -> Spread:
    """Read `top:5` or `top:5:even`. Raises ConfigError for anything else."""
    found = re.fullmatch(r"top:([1-9]\d*)(:even)?", text.strip())
    if found is None:
        raise ConfigError(f"{option} {text!r} is not understood; write top:5, or top:5:even for as many draws of each")
    return Spread(int(found[1]), evenly=found[2] is not None)


MOST_DRAWS = 10**12
"""Of a prompt: more than anyone can wait for."""

MOST_SEED = 2**128
"""Seeds are below this."""


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How many crystals are drawn for a prompt, and from which distribution.

    Args: the fields below, each by name and with a default.

    Raises:
        ConfigError: A value is out of its range; the message names it and the remedy.

    Example:
        >>> from crystallm import SampleConfig
        >>> SampleConfig(n=5, seed=1).temperature
        0.5
    """

    n: Annotated[int, Option("-n")] = 10
    """Draws per prompt; each one counts in the denominator."""
    temperature: float = 0.5
    """Below 1 sharpens the distribution towards what the model finds most probable."""
    top_k: int = 0
    """Keep only the k most probable tokens at each choice; 0 keeps all."""
    top_p: float = 1.0
    """Keep only the most probable tokens that together hold this share."""
    repeat: float = 0.0
    """What is left of the chance of a protostructure (formula units, space group, Wyckoff letters) for the next draws
    of a prompt with a formula, once it has been drawn; 1: independent draws, 0: none comes twice while others are left.
    """
    seed: int = 0
    """Same seed, same crystals, whatever the batch size or the order of prompts."""
    batch_size: int = 32
    """Crystals drawn at the same time; memory grows with it."""
    max_atoms: int = 80
    """Largest number of atoms in the primitive cell."""
    contact: float = 0.68
    """Sites closer to another atom than this part of the expected bond length are drawn again, and nonmetals that
    are neither bonded nor apart; 0: only atoms closer than 0.5 A."""
    bond_tries: int = 4
    """How often at most a crystal is drawn again because CrystalNN finds a bond of unreasonable length in it (and none
    in the known crystal it follows); 0: never, nor with contact 0. The last one stays, whatever its bonds."""
    symmetry_path: Literal["fast", "reference"] = "fast"
    """Who tells whether a complete draw has more symmetry than it was written in: `fast` counts operations, `reference`
    asks spglib, and for cubic groups moyopy."""
    guide: float = 1.0
    """What the odds of templates, known crystals of similar elements that draws of a formula may follow, against the
    model alone are multiplied by; 0: the model alone."""
    space_groups: Annotated[str | None, Option(metavar="top:K")] = None
    """With `top:5` draws are spread over the 5 most probable space groups; with `top:5:even` equally many of each."""
    units: Annotated[str | None, Option(metavar="top:K")] = None
    """The same for the formula units of the primitive cell."""

    def __post_init__(self) -> None:
        if self.space_groups is not None and self.units is not None:
            raise ConfigError("give one of space_groups and units: draws are spread over the values of one of them")
        if self.space_groups is not None:
            parse_spread(self.space_groups, "space_groups")
        if self.units is not None:
            parse_spread(self.units, "units")
        for name in ("n", "batch_size", "max_atoms"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {_shown(getattr(self, name))}")
        if self.n > MOST_DRAWS:
            raise ConfigError(f"n must be at most {MOST_DRAWS}, got {_shown(self.n)}; draw in several runs")
        if isinf(self.temperature):
            raise ConfigError(f"temperature must be finite, got {self.temperature}; 1 draws as the model has learnt")
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0, got {self.temperature}; for the most probable use top_k=1")
        if self.top_k < 0:
            raise ConfigError(f"top_k must not be negative, got {self.top_k}; 0 keeps all tokens")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not 0 <= self.repeat <= 1:
            raise ConfigError(f"repeat must be between 0 and 1, got {self.repeat}; 1 makes draws independent")
        if not 0 <= self.bond_tries <= 100:
            raise ConfigError(f"bond_tries must be between 0 and 100, got {self.bond_tries}; 0 lets all bonds stand")
        if self.symmetry_path not in ("fast", "reference"):
            raise ConfigError(f"symmetry_path must be fast or reference, got {self.symmetry_path!r}")
        if not 0 <= self.guide <= 1000:
            raise ConfigError(f"guide must be between 0 and 1000, got {self.guide}; 0 leaves templates out")
        if not 0 <= self.contact <= 0.9:
            raise ConfigError(
                f"contact must be between 0 and 0.9, got {self.contact}; real crystals come down to about 0.64"
            )
        if not 0 <= self.seed < MOST_SEED:
            raise ConfigError(f"seed must be at least 0 and below 2 to the 128, got {_shown(self.seed)}")


def _shown(number: int) -> str:
    """A whole number as text; Python does not write those of thousands of digits."""
    return str(number) if number.bit_length() < 200 else f"one of some {round(number.bit_length() * log10(2))} digits"


KNOWN = ("beside", "only", "none")


@dataclass(frozen=True, kw_only=True)
class AnswerConfig:
    """What is made of the draws of a prompt: known crystals beside them, energies, and how they are ranked.

    Args: the fields below, each by name and with a default.

    Raises:
        ConfigError: A value is out of its range; the message names it and the remedy.

    Example:
        >>> from crystallm import AnswerConfig
        >>> AnswerConfig(energies=False).known
        'beside'
    """

    known: Annotated[Literal["beside", "only", "none"], Option(listed=False)] = "beside"
    """Known crystals of exactly the formula asked for are answers of their own; `only`: nothing is drawn; `none`: only
    what is drawn."""
    energies: bool = True
    """Whether a potential judges the crystals."""
    relax: bool = True
    """Whether drawn crystals are relaxed by it in their space group; known ones stay as they are."""
    potential: PotentialName = "chgnet"
    """Name of the potential: `chgnet`, `sevenn`, or `package.module:callable` that returns an ASE calculator."""
    question: Literal["nature", "database"] = "nature"
    """Of which question the chance in the table is: which structure nature makes at ambient conditions, or which one a
    row of a database has."""
    merge: bool = True
    """Whether equal crystals, and slightly distorted copies of one, become one."""
    search: int = 0
    """Energy evaluations that a search may spend beyond the draws; 0: none."""

    def __post_init__(self) -> None:
        if self.known not in KNOWN:
            raise ConfigError(f"known must be one of {', '.join(KNOWN)}, got {self.known!r}")
        if self.search < 0:
            raise ConfigError(f"search must not be negative, got {self.search}; 0 searches nothing")
        if self.search and not self.energies:
            raise ConfigError("a search is guided by energies; leave out --no-energies")


Format = Literal["cif", "poscar", "extxyz", "json"]


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """What a run writes and prints."""

    checks: Literal["fast", "reference", "none"] = "fast"
    """How crystals are checked: by compiled means that give the verdicts of the reference path, by that path itself
    (pymatgen, spglib, CrystalNN), or not."""
    formats: Annotated[tuple[Format, ...], Option("--format", each=True)] = ("cif",)
    """Format of the files; give it again for more formats; json is pymatgen's."""
    lattice: bool = False
    """Whether the table shows the lattice."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in get_args(Format)]
        if unknown or not self.formats:
            raise ConfigError(f"unknown format {(*unknown, '')[0]!r}; choose from {', '.join(get_args(Format))}")


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options by name as those of SampleConfig and those of AnswerConfig.

    Args:
        options: name -> value.

    Returns:
        Two mappings, for the one and the other.

    Raises:
        ConfigError: neither has a field of that name.

    Example:
        >>> split_options({"n": 5, "relax": False})
        ({'n': 5}, {'relax': False})
    """
    drawing, judging = ({field.name for field in fields(kind)} for kind in (SampleConfig, AnswerConfig))
    for name in options:
        if name not in drawing | judging:
            near = difflib.get_close_matches(name, sorted(drawing | judging), n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(sorted(drawing | judging))}"
            raise ConfigError(f"unknown option {name!r}; {remedy}")
    return (
        {name: value for name, value in options.items() if name in drawing},
        {name: value for name, value in options.items() if name in judging},
    )

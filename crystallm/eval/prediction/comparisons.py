"""Which samples match which true structures: made in a pool of processes, kept as they are made."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from crystallm.base.whole_file import cannot_write
from crystallm.base.workers import NO_VERDICT, Lost, run_limited
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.checks.subject import SMALLEST_VOLUME
from crystallm.crystal.checks.validity import SHORTEST_DISTANCE_ANGSTROM
from crystallm.crystal.cif import read_cif
from crystallm.crystal.matching.matchers import MATCHERS, MatcherName, prepared_truth
from crystallm.crystal.matching.reduced_crystal import amounts_of
from crystallm.crystal.matching.tolerances import Tolerances
from crystallm.crystal.symmetry import primitive, space_group_number
from crystallm.energy.journal import open_to_append
from crystallm.eval.charge_neutrality import smact_valid
from crystallm.eval.sets.samples import Sample, SampleSet
from crystallm.eval.sets.targets import Target


@dataclass(frozen=True)
class Outcome:
    """One comparison: the normalised rms under both sets of tolerances if the sample matches, else why not.

    valid: the sample passes the filter of CDVAE; only asked of samples that match. volume_error: of samples that match,
    |ln(volume of the sample / volume of the truth)|, both per atom: the matcher scales volumes and does not see it.
    """

    rms: float | None
    reason: str = ""
    rms_strict: float | None = None
    valid: bool = False
    volume_error: float | None = None

    @property
    def undecided(self) -> bool:
        """Whether there is no verdict, because time or memory ran out."""
        return self.reason in NO_VERDICT


@dataclass(frozen=True)
class Symmetry:
    """What a sample turns out to be: space group (spglib, 0.1 angstrom) and formula units of its primitive cell.

    undecided: Why neither is known, where time or memory ran out.
    """

    space_group: int | None
    formula_units: int | None
    undecided: str = ""


@dataclass(frozen=True)
class Question:
    """A comparison to be made: a sample, drawn for target `origin`, with the true structure of `target`."""

    target: str
    origin: str
    number: int

    @property
    def key(self) -> tuple[str, str, int]:
        """How the comparison is found again."""
        return self.target, self.origin, self.number


Outcomes = Mapping[tuple[str, str, int], Outcome]
"""(target id, id of the target that the sample was drawn for, sample number) -> outcome."""


@dataclass(frozen=True)
class Group:
    """A true structure and samples to be compared with it, as CIF texts, and the tolerances."""

    true_cif: str
    cifs: tuple[str | Rejection, ...]
    standard: Tolerances
    strict: Tolerances
    matcher: MatcherName = "compiled"


AT_ONCE = 20
"""Most samples in a group: together they are compared faster than one by one, and a kill loses as many."""


def questions(targets: Sequence[Target], samples: SampleSet, *, foreign: int) -> list[Question]:
    """Every sample with its own target; the first `foreign` ones with the other targets of the same formula, too."""
    family: dict[object, list[str]] = defaultdict(list)
    for target in targets:
        family[target.amounts].append(target.id)
    asked = []
    for target in targets:
        for rank, sample in enumerate(samples.by_target.get(target.id, [])):
            asked.append(Question(target.id, target.id, sample.number))
            if rank < foreign:
                others = (other for other in family[target.amounts] if other != target.id)
                asked += [Question(other, target.id, sample.number) for other in others]
    return asked


def compare(
    targets: Sequence[Target],
    samples: SampleSet,
    asked: Sequence[Question],
    *,
    standard: Tolerances,
    strict: Tolerances,
    workers: int,
    time_limit_s: float,
    log: Path,
    matcher: MatcherName = "compiled",
) -> Outcomes:
    """Answer every question within a time limit each; finished comparisons are kept in `log` (JSONL).

    A comparison found in `log` is not made again: the caller names the log after what it belongs to. One that gave no
    verdict is tried again, since the limit may be another. The samples of a target are compared together; where that
    takes too long or ends the process, each alone.
    """
    done = dict(_read_log(log))
    truth = {target.id: target.cif for target in targets}
    drawn: dict[tuple[str, int], Sample] = {
        (name, sample.number): sample for name, found in samples.by_target.items() for sample in found
    }
    todo = [question for question in asked if question.key not in done]

    def answer(parts: Sequence[Sequence[Question]]) -> Iterator[tuple[Sequence[Question], list[Outcome] | Lost]]:
        cifs = (tuple(drawn[q.origin, q.number].cif for q in part) for part in parts)
        groups = (
            Group(truth[part[0].target], some, standard, strict, matcher)
            for part, some in zip(parts, cifs, strict=True)
        )
        warm_up = MATCHERS[matcher].warm_up
        calls = run_limited(match, groups, workers=workers, time_limit_s=time_limit_s, warm_up=warm_up)
        for place, found in calls:
            yield parts[place], found

    try:
        with (
            open_to_append(log) as file,
            tqdm(total=len(asked), initial=len(asked) - len(todo), desc="matching", disable=None) as bar,
        ):

            def keep(part: Sequence[Question], outcomes: Sequence[Outcome]) -> None:
                for question, outcome in zip(part, outcomes, strict=True):
                    done[question.key] = outcome
                    file.write(json.dumps(asdict(question) | asdict(outcome)) + "\n")
                file.flush()
                bar.update(len(part))

            lost: list[Question] = []
            for part, found in answer(_parts(todo)):
                if isinstance(found, Lost):
                    lost += part
                else:
                    keep(part, found)
            for part, found in answer([[question] for question in lost]):
                keep(part, [Outcome(None, str(found.fate))] if isinstance(found, Lost) else found)
    except OSError as error:
        raise cannot_write(log, error) from error
    return done


def _parts(asked: Sequence[Question]) -> list[Sequence[Question]]:
    """Questions about one target together, at most `AT_ONCE`."""
    of_target: dict[str, list[Question]] = defaultdict(list)
    for question in asked:
        of_target[question.target].append(question)
    return [found[at : at + AT_ONCE] for found in of_target.values() for at in range(0, len(found), AT_ONCE)]


def match(group: Group) -> list[Outcome]:
    """Compare samples with a true structure, all as CIF text; runs in a worker process."""
    truth = prepared_truth(_truth(group.true_cif))
    cells = {cif: cif if isinstance(cif, Rejection) else read_cif(cif) for cif in dict.fromkeys(group.cifs)}
    outcomes: dict[str | Rejection, Outcome] = {}
    able: list[str | Rejection] = []
    for cif, cell in cells.items():
        if isinstance(cell, Rejection):
            outcomes[cif] = Outcome(None, str(cell.reason))
        elif amounts_of(cell) != truth.amounts:
            outcomes[cif] = Outcome(None, "another formula")
        else:
            able.append(cif)
    few = [cell for cif in able if not isinstance(cell := cells[cif], Rejection)]
    judge = MATCHERS[group.matcher].load()
    distances = judge.distances(few, _truth(group.true_cif), (group.standard, group.strict))
    for cif, cell, (rms, strict) in zip(able, few, distances, strict=True):
        if rms is None:
            outcomes[cif] = Outcome(None, "no match")
            continue
        swelling = (cell.volume / len(cell)) / (truth.lattice.volume / len(truth))
        outcomes[cif] = Outcome(rms, "", strict, cdvae_valid(cell), abs(math.log(swelling)))
    return [outcomes[cif] for cif in group.cifs]


@lru_cache(maxsize=1024)
def _truth(cif: str) -> Cell:
    cell = read_cif(cif)
    assert not isinstance(cell, Rejection)  # refused before
    return cell


def cdvae_valid(cell: Cell) -> bool:
    """The filter of CDVAE: SMACT passes the composition, no two atoms of the cell come within 0.5 angstrom, volume.

    Images of one and the same atom are not looked at, as published.
    """
    if not smact_valid(dict(amounts_of(cell))) or cell.volume < SMALLEST_VOLUME:
        return False
    # Two atoms are at least as far apart as the lattice planes on which they lie: most crystals need no more than that.
    limits = SHORTEST_DISTANCE_ANGSTROM * np.linalg.norm(np.linalg.inv(cell.lattice), axis=0)
    near = np.ones((len(cell), len(cell)), dtype=bool)
    for fractional, limit in zip(cell.positions.T, limits, strict=True):
        apart = fractional[:, None] - fractional
        near &= np.abs(apart - np.rint(apart)) <= limit
    if near.sum() == len(cell):  # each atom and itself
        return True
    distances = cell.to_structure().distance_matrix
    np.fill_diagonal(distances, np.inf)
    return bool(distances.min() >= SHORTEST_DISTANCE_ANGSTROM)


def symmetry_of(cif: str | Rejection) -> Symmetry:
    """Space group and formula units of the primitive cell of a sample; None for what cannot be found."""
    cell = cif if isinstance(cif, Rejection) else read_cif(cif)
    if isinstance(cell, Rejection):
        return Symmetry(None, None)
    return Symmetry(space_group_number(cell), primitive(cell, symprec_angstrom=0.1).formula_units)


def symmetries(
    samples: SampleSet, targets: Sequence[Target], *, workers: int, time_limit_s: float
) -> dict[str, Symmetry]:
    """Symmetry of the first sample of every target that has one."""
    first = {t.id: drawn[0].cif for t in targets if (drawn := samples.by_target.get(t.id))}
    names = list(first)
    result: dict[str, Symmetry] = {}
    for place, found in run_limited(symmetry_of, first.values(), workers=workers, time_limit_s=time_limit_s):
        result[names[place]] = Symmetry(None, None, str(found.fate)) if isinstance(found, Lost) else found
    return result


def _read_log(path: Path) -> Iterator[tuple[tuple[str, str, int], Outcome]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            question = Question(row["target"], row["origin"], row["number"])
            outcome = Outcome(row["rms"], row["reason"], row["rms_strict"], row["valid"], row["volume_error"])
        except (ValueError, KeyError, TypeError):  # the last line of a killed run
            continue
        if not outcome.undecided:
            yield question.key, outcome

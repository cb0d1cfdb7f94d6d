"""Which targets a checkpoint has seen: by id, by the ids of copies, or as a known crystal of its library."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crystallm.base.errors import CheckpointError
from crystallm.base.workers import Lost, run_limited
from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_cif, write_cif
from crystallm.crystal.formulas.composition import format_formula
from crystallm.crystal.matching.matchers import CompiledMatcher
from crystallm.crystal.matching.tolerances import Tolerances
from crystallm.crystal.matching.warm_up import warm_up_matcher
from crystallm.data.seen import Seen
from crystallm.eval.prediction.comparisons import AT_ONCE
from crystallm.eval.sets.targets import Target
from crystallm.model.checkpoint import TEMPLATES_FILE
from crystallm.tokenizer.layout import get_layout


class State(StrEnum):
    """Whether a target was seen."""

    SEEN = "seen"
    UNSEEN = "unseen"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Verdict:
    """Whether a model has seen a target, and how that is known."""

    state: State
    how: str
    """`id`, `structure`, or why it was not seen or could not be decided."""
    formula: bool = False
    """Whether it has seen any crystal of the reduced formula."""

    @property
    def seen(self) -> bool | None:
        """None where it could not be decided."""
        return None if self.state is State.UNDECIDED else self.state is State.SEEN

    @property
    def part(self) -> str:
        """What the targets of this verdict are called where they stand beside others."""
        return "seen: not a prediction" if self.state is State.SEEN else str(self.state)


ANOTHER_FORMULA = "no crystal of its formula"
NO_MATCH = "other structures of its formula"
NOT_LISTED = "the model does not say what it has seen"
NO_LIBRARY = "crystals of its formula, of which only the ids are known"
UNANSWERED = "a comparison of structures gave no answer"


def judge_targets(
    targets: Sequence[Target], folder: Path, *, tolerances: Tolerances, workers: int, time_limit_s: float
) -> dict[str, Verdict]:
    """Whether the checkpoint in a folder has seen each target.

    A target was seen if the list of the checkpoint holds its id with its formula, or if its structure matches a known
    crystal of the library. It is undecided where neither list nor library can tell.

    Args:
        targets: true structures.
        folder: the checkpoint.
        tolerances: of the structure matcher, in whose verdict of two crystals (on the largest displacement of an atom)
            they are the same; as `crystallm data prepare --exclude-matching` asks.
        workers: processes.
        time_limit_s: seconds for the comparisons of one target, and again for each alone.

    Returns:
        Target id -> verdict.

    Raises:
        CheckpointError: the list or the library of the checkpoint is damaged.

    Example:
        >>> judge_targets([rutile], default_folder("full"), tolerances=STANDARD, workers=1, time_limit_s=30)
        {'mp-2657': Verdict(state=<State.SEEN: 'seen'>, how='id', formula=True)}
    """
    listed = Seen.read(folder)
    by_id = {t.id for t in targets if listed is not None and listed.has_id(t.id, t.amounts)}
    rest = [t for t in targets if t.id not in by_id]
    known = known_crystals(folder / TEMPLATES_FILE, {format_formula(t.amounts) for t in rest})
    matched = {} if known is None else matches(rest, known, tolerances, workers=workers, time_limit_s=time_limit_s)
    verdicts = {}
    for target in targets:
        formula = format_formula(target.amounts)
        has_formula = bool(known and formula in known) or (listed is not None and listed.has_formula(target.amounts))
        if target.id in by_id:
            verdicts[target.id] = Verdict(State.SEEN, "id", formula=True)
        else:
            verdicts[target.id] = _by_structure(
                matched.get(target.id), has_formula, has_list=listed is not None, has_library=known is not None
            )
    return verdicts


def _by_structure(matched: bool | None, has_formula: bool, *, has_list: bool, has_library: bool) -> Verdict:
    """The verdict of a target that is not listed by id. matched: None where a comparison gave no answer."""
    if matched:
        return Verdict(State.SEEN, "structure", formula=True)
    if not has_list:
        return Verdict(State.UNDECIDED, NOT_LISTED, has_formula)
    if not has_formula:
        return Verdict(State.UNSEEN, ANOTHER_FORMULA)
    if not has_library:
        return Verdict(State.UNDECIDED, NO_LIBRARY, True)
    return Verdict(State.UNDECIDED, UNANSWERED, True) if matched is None else Verdict(State.UNSEEN, NO_MATCH, True)


def known_crystals(library: Path, formulas: set[str]) -> dict[str, list[str]] | None:
    """Reduced formula -> crystals of a library as CIF texts, of some formulas; None where there is no library."""
    if not library.is_file():
        return None
    try:
        table = pq.read_table(library, columns=["formula", "text"])
        layout = get_layout((table.schema.metadata or {})[b"layout"].decode())
    except (OSError, pa.ArrowException, KeyError) as error:
        raise CheckpointError(f"cannot read {library}: {error}; copy the checkpoint again, or delete it") from error
    table = table.filter(pc.is_in(table["formula"], pa.array(sorted(formulas), pa.string())))
    found: dict[str, list[str]] = defaultdict(list)
    for formula, text in zip(table["formula"].to_pylist(), table["text"].to_pylist(), strict=True):
        description = layout.read(text)
        if isinstance(description, Rejection):
            raise CheckpointError(
                f"{library} holds a text that is no crystal ({description}); copy the checkpoint again"
            )
        found[formula].append(write_cif(description))
    return dict(found)


def matches(
    targets: Sequence[Target],
    known: Mapping[str, Sequence[str]],
    tolerances: Tolerances,
    *,
    workers: int,
    time_limit_s: float,
) -> dict[str, bool | None]:
    """Target id -> whether it matches a known crystal of its formula; None where a comparison gave no answer."""
    verdicts: dict[str, bool | None] = dict.fromkeys((t.id for t in targets), False)

    def ask(parts: Sequence[tuple[Target, tuple[str, ...]]]) -> Iterator[tuple[Target, tuple[str, ...]]]:
        """Note the answers; yields what gave none."""
        questions = ((target.cif, cifs, tolerances) for target, cifs in parts)
        calls = run_limited(has_twin, questions, workers=workers, time_limit_s=time_limit_s, warm_up=warm_up_matcher)
        for place, found in calls:
            target, cifs = parts[place]
            if isinstance(found, Lost):
                yield target, cifs
            elif found:
                verdicts[target.id] = True

    parts = [
        (target, tuple(cifs[start : start + AT_ONCE]))
        for target in targets
        if (cifs := known.get(format_formula(target.amounts)))
        for start in range(0, len(cifs), AT_ONCE)
    ]
    alone = [(target, (cif,)) for target, cifs in ask(parts) for cif in cifs]
    for target, _ in ask(alone):
        verdicts[target.id] = verdicts[target.id] or None
    return verdicts


def has_twin(question: tuple[str, tuple[str, ...], Tolerances]) -> bool:
    """Whether a true structure is the same crystal as one of others, all as CIF text; runs in a worker process.

    By pymatgen's matcher, asked where the compiled one says that it may say yes. The known crystal is named first, as
    in preparation: now and then the matcher says no to two crystals in the other order.
    """
    true_cif, cifs, tolerances = question
    truth, *others = (cell for cif in (true_cif, *cifs) if not isinstance(cell := read_cif(cif), Rejection))
    return any(CompiledMatcher().equal(others, truth, tolerances))

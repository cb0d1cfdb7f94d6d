"""What a report says of targets that the model has seen; by default it then says nothing of match rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from crystallm.eval.prediction.results import Report, SeenTargets
from crystallm.eval.seen.makers import Maker
from crystallm.eval.seen.verdicts import State, Verdict

MARK = "seen in training: not a prediction"
FLAG = "--print-seen"


FEW = 0.01
"""Where no larger share of the targets was seen, these count as not matched: the rates are a lower bound."""


def few_seen(verdicts: Mapping[str, Verdict]) -> frozenset[str]:
    """The targets that were seen, where they are few; empty where they are many: then no rate means anything.

    Example:
        >>> few_seen({"a": Verdict(State.SEEN, "id"), "b": Verdict(State.UNSEEN, "no crystal of its formula")})
        frozenset()
    """
    seen = frozenset(name for name, verdict in verdicts.items() if verdict.seen)
    return seen if len(seen) <= FEW * len(verdicts) else frozenset()


def mark_seen(
    report: Report, maker: Maker, verdicts: Mapping[str, Verdict] | None, *, shown: bool, missed: bool = False
) -> Report:
    """A report with who made its samples, how many targets that model has seen, and for each target whether it has.

    Args:
        report: of the samples.
        maker: the model.
        verdicts: of every target; None where the model is not at hand.
        shown: whether match rates of seen targets are to be shown, marked.
        missed: whether seen targets were counted as not matched.

    Returns:
        A new report; without match rates if targets were seen that are neither shown nor counted as missed.

    Example:
        >>> mark_seen(report, UNKNOWN, None, shown=False).seen.targets is None
        True
    """
    report = replace(report, made_by=maker.made_by)
    if verdicts is None:
        return replace(report, seen=SeenTargets(targets=None, of=report.targets, shown=True))
    states = Counter(verdict.state for verdict in verdicts.values())
    seen = SeenTargets(
        targets=states[State.SEEN],
        of=report.targets,
        undecided=states[State.UNDECIDED],
        of_known_formula=sum(verdict.formula for verdict in verdicts.values()),
        shown=shown or not states[State.SEEN],
        missed=missed,
        how=dict(Counter(verdict.how for verdict in verdicts.values()).most_common()),
    )
    rows = tuple(tuple(replace(row, seen=verdicts[row.id].seen) for row in found) for found in report.per_target)
    report = replace(report, seen=seen, per_target=rows)
    return report.without_matches() if report.withheld else report


def seen_sentence(report: Report) -> str:
    """What a report says of targets that were seen, as Markdown; empty for reports of version 0.1.

    Example:
        >>> seen_sentence(report)
        '3 of 4 targets were seen by the model that made these samples (full edition): match rates are withheld...'
    """
    maker, seen = report.made_by, report.seen
    if maker is None or seen is None:
        return ""
    if seen.targets is None:
        return f"Made by: {maker.name}. Whether the model has seen the targets is unknown: {maker.unknown}."
    who = f"the model that made these samples ({maker.name})"
    text = f"{seen.targets} of {seen.of} targets were seen by {who}"
    if seen.undecided:
        text += f", {seen.undecided} could not be decided"
    if not seen.targets:
        return text + "."
    if seen.missed:
        return f"{text}: they count as not matched. `{FLAG}` counts them as they are, marked."
    if not seen.shown:
        return f"**{text}: match rates are withheld.** `{FLAG}` prints them, marked."
    return f"**{text}: {MARK}.**"

"""Whether a model has seen the targets that it is measured on: who made the samples, which targets it knows, and what a
report may then say."""

from crystallm.eval.seen.makers import UNKNOWN, Maker, maker_called, maker_in, maker_of_samples
from crystallm.eval.seen.reporting import MARK, few_seen, mark_seen, seen_sentence
from crystallm.eval.seen.verdicts import State, Verdict, judge_targets

__all__ = [
    "MARK",
    "UNKNOWN",
    "Maker",
    "State",
    "Verdict",
    "few_seen",
    "judge_targets",
    "maker_called",
    "maker_in",
    "maker_of_samples",
    "mark_seen",
    "seen_sentence",
]

"""What a model can do while it is trained: one draw for each of a few validation crystals, checked and matched."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crystallm.base.errors import LayoutError
from crystallm.base.workers import Lost, run_limited
from crystallm.crystal.cell import Rejection
from crystallm.crystal.checks.fast_validity import check_cif_fast
from crystallm.crystal.checks.warm_up import warm_up_all
from crystallm.crystal.cif import write_cif
from crystallm.crystal.matching.matcher import TIME_LIMIT_S
from crystallm.crystal.matching.tolerances import STANDARD, STRICT
from crystallm.eval.prediction.comparisons import Group, match
from crystallm.eval.sets.targets import Target
from crystallm.model.checkpoint import Checkpoint
from crystallm.sample.config import SampleConfig
from crystallm.sample.generator import Generator
from crystallm.tokenizer.layout import get_layout
from crystallm.train.config import TrainConfig
from crystallm.train.held_out import prompts_of, targets_of
from crystallm.train.optim.adapter import merged
from crystallm.train.schedule import Position
from crystallm.train.state.run_folder import RunFolder
from crystallm.train.texts.corpus import Corpus

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

GIVEN = "formula_units"
"""What a prompt holds: the formula and Z of the primitive cell."""

SAMPLING = SampleConfig(n=1, temperature=0.5, repeat=1.0, max_atoms=60)
"""One draw for each crystal, at the temperature of the benchmark reports and with the same seed in every probe."""


@dataclass(frozen=True)
class Verdict:
    """What became of one draw; None where time ran out before there was a verdict."""

    valid: bool | None
    matched: bool | None


class Probe:
    """Draws the same validation crystals again and again; only the main process of a run has one.

    Draws come from streams of random numbers of their own: training is not disturbed.
    """

    def __init__(self, config: TrainConfig, corpus: Corpus, tokenizer: PreTrainedTokenizerFast, run: RunFolder) -> None:
        self.config, self.tokenizer, self.run = config, tokenizer, run
        self.targets = chosen_targets(corpus, tokenizer, count=config.probe, seed=config.seed, layout=config.layout)

    def due(self, position: Position, *, last: bool) -> bool:
        """Return whether the evaluation at this position is to be followed by a probe, and has not been yet."""
        asked = last or position.step // self.config.eval_every % self.config.probe_every == 0
        return asked and not any(line["kind"] == "probe" and line["step"] == position.step for line in self.run.lines())

    def draw(self, model: PreTrainedModel) -> dict[str, float]:
        """Draw all crystals with the model as it is and count what came of it; the model stays in training mode."""
        started = time.monotonic()
        training = model.training
        try:
            cifs = self._cifs(merged(model))
        finally:
            model.train(training)
        return counts(judge(self.targets, cifs), finished=len(cifs)) | {"draw_seconds": time.monotonic() - started}

    def _cifs(self, model: PreTrainedModel) -> dict[str, str]:
        """CIF of each target whose draw was finished."""
        checkpoint = Checkpoint(
            model, self.tokenizer, self.config.layout, self.config.descriptions, provenance={}, folder=Path("probe")
        )
        generator = Generator(checkpoint, device=str(model.device))
        attempts = generator.attempts(prompts_of(self.targets, GIVEN), SAMPLING)
        return {a.prompt.name: write_cif(a.description) for a in attempts if a.description is not None}


def chosen_targets(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast, *, count: int, seed: int, layout: str
) -> list[Target]:
    """Return `count` crystals of a corpus in an order drawn by seed, those too large to be sampled left out.

    Fewer where the corpus has no more; LayoutError where its texts are not of the layout.
    """
    rows: list[dict[str, Any]] = []
    for row in np.random.default_rng(seed).permutation(len(corpus)):
        text = tokenizer.decode(corpus.tokens(int(row)))
        found = get_layout(layout).read(text)
        if isinstance(found, Rejection):
            raise LayoutError(
                f"a validation text is no crystal of layout {layout!r} ({found}); prepare it again, or set probe=0"
            )
        if found.formula_units * sum(amount for _, amount in found.amounts) <= SAMPLING.max_atoms:
            rows.append({"id": f"val-{row}", "text": text})
        if len(rows) == count:
            break
    return targets_of(rows, layout)


def judge(targets: Sequence[Target], cifs: Mapping[str, str]) -> list[Verdict]:
    """Check and match the draws, each within a time limit; a target without a draw is neither valid nor matched.

    What takes longer is undecided. Loops are compiled before the clock starts.
    """
    pairs = [(cifs[target.id], target.cif) for target in targets if target.id in cifs]
    found = dict(run_limited(judge_one, pairs, workers=1, time_limit_s=TIME_LIMIT_S, warm_up=warm_up_all))
    undecided, missing = Verdict(valid=None, matched=None), Verdict(valid=False, matched=False)
    verdicts = [undecided if isinstance(verdict, Lost) else verdict for verdict in found.values()]
    return verdicts + [missing] * (len(targets) - len(verdicts))


def judge_one(pair: tuple[str, str]) -> Verdict:
    """Check one crystal by the fast checks and compare it with the truth; both as CIF texts."""
    cif, truth = pair
    (outcome,) = match(Group(truth, (cif,), STANDARD, STRICT))
    return Verdict(check_cif_fast(cif).valid, outcome.rms is not None)


def counts(verdicts: Sequence[Verdict], *, finished: int) -> dict[str, Any]:
    """Return how many of all draws ended in a crystal, were valid and matched, and on how many there is no verdict."""
    return {
        "attempted": len(verdicts),
        "finished": finished,
        "valid": sum(verdict.valid is True for verdict in verdicts),
        "matched": sum(verdict.matched is True for verdict in verdicts),
        "undecided": sum(verdict.matched is None for verdict in verdicts),
    }

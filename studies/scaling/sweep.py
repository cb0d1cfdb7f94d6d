"""Loss against compute for several sizes of model, from which the size worth training is argued.

`crystallm train sweep DATA OUT --recipes train/sweep/*.yaml --flops 1e13 2e13 4e13`. Every size is trained
once, at a stable rate; for each budget it is decayed from where that budget's decay begins, and then goes on from there
(docs/experiments/training.md). What is done is kept; the same command continues.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystallm.base.config import load_recipe, to_mapping
from crystallm.base.errors import ConfigError
from crystallm.base.provenance import output_folder, provenance, write_json, write_text
from crystallm.cli import run_program
from crystallm.train.config import TrainConfig
from crystallm.train.monitor.throughput import flops_per_token
from studies.scaling.sweep_report import draw, markdown

if TYPE_CHECKING:
    from crystallm.train.texts.corpus import Corpus

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Size:
    """A model of the sweep, and what training it on the corpus costs."""

    name: str
    config: TrainConfig
    parameters: int
    flops_per_token: float
    tokens_per_epoch: int
    """Predicted tokens: all but the first of each text."""

    def epochs(self, flops: float) -> float:
        """Passes over the corpus that so much compute pays for."""
        return flops / self.flops_per_token / self.tokens_per_epoch

    def with_budget(self, flops: float) -> TrainConfig:
        """The recipe with a budget of compute; ConfigError where the warm-up would take it up."""
        steps = flops / self.flops_per_token / self.config.batch_tokens
        if self.config.warmup_steps > steps * (1 - self.config.decay_fraction):
            raise ConfigError(
                f"{flops:g} FLOPs are about {steps:.0f} steps of {self.name}, and "
                f"warmup_steps={self.config.warmup_steps} would reach into the decay; "
                "raise --flops or lower warmup_steps or batch_tokens"
            )
        return replace(self.config, epochs=self.epochs(flops), max_steps=None, max_minutes=None)


def make_size(name: str, config: TrainConfig, corpus: Corpus, vocabulary: int) -> Size:
    """Count parameters and compute of a recipe."""
    from crystallm.model.architecture import build_model, count_parameters

    parameters = count_parameters(build_model(config.model, vocab_size=vocabulary, bos=0, eos=0, pad=0))
    length = float((corpus.lengths.astype(float) ** 2).sum() / corpus.lengths.sum())
    return Size(
        name,
        config,
        parameters,
        flops_per_token(config.model, parameters=parameters, length=length),
        len(corpus.ids) - len(corpus),
    )


def train_size(
    size: Size, budgets: Sequence[float], data: Path, out: Path, *, tokenizer_folder: Path | None = None
) -> list[dict[str, Any]]:
    """Train one size for each budget in turn; returns a point for each. Points that are there are not made again."""
    from crystallm.train.session import train

    file, folder = out / f"{size.name}.json", out / size.name
    points: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    done = [point["budget"] for point in points]
    for budget in sorted(set(budgets) - set(done)):
        if done and budget < max(done):
            raise ConfigError(
                f"{size.name} has gone beyond {budget:g} FLOPs already, to {max(done):g}, and cannot go back; "
                "choose another OUT, or larger --flops"
            )
        started = (folder / "recipe.yaml").is_file()
        config = size.with_budget(budget)
        trained = train(config, data, folder, resume=started, tokenizer_folder=tokenizer_folder)
        points.append(point_of(size, budget, trained.run.lines()[-1]))
        done.append(budget)
        write_json(file, points)
    return [point for point in points if point["budget"] in budgets]


def point_of(size: Size, budget: float, line: dict[str, Any]) -> dict[str, Any]:
    """What the sweep keeps of the last evaluation of a run."""
    return {
        "size": size.name,
        "parameters": size.parameters,
        "budget": budget,
        "flops": size.flops_per_token * line["tokens"],
        "tokens": line["tokens"],
        "steps": line["step"],
        "seconds": line["seconds"],
        "loss": line["loss"],
        "loss_per_crystal": line["loss_per_crystal"],
    }


def reference_points(folder: Path, corpus: Corpus, vocabulary: int) -> list[dict[str, float]]:
    """Evaluations of another run, from the recipe and metrics in its folder: compute and loss."""
    config = load_recipe(TrainConfig, folder / "recipe.yaml")
    size = make_size(folder.name, config, corpus, vocabulary)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {"flops": size.flops_per_token * line["tokens"], "loss": line["loss"], "parameters": size.parameters}
        for line in lines
        if line["kind"] == "eval"
    ]


def sweep(
    recipes: Sequence[Path],
    budgets: Sequence[float],
    data: Path,
    out: Path,
    report: Path,
    *,
    reference: Path | None = None,
    overrides: Sequence[str] = (),
    tokenizer_folder: Path | None = None,
) -> list[dict[str, Any]]:
    """Train every size for every budget and write the report after each size; returns the points."""
    from crystallm.train.starting_model import load_tokenizer
    from crystallm.train.texts.corpus import load_corpus

    configs = {recipe.stem: load_recipe(TrainConfig, recipe, overrides=overrides) for recipe in recipes}
    for name, config in configs.items():
        if config.schedule != "wsd":
            raise ConfigError(f"{name}: schedule={config.schedule}; a sweep continues its runs and needs schedule: wsd")
    first = next(iter(configs.values()))
    if any((c.layout, c.longest_text) != (first.layout, first.longest_text) for c in configs.values()):
        raise ConfigError("the recipes of a sweep must have one layout and one max_tokens: their losses are compared")
    tokenizer = load_tokenizer(first.layout, tokenizer_folder)
    corpus = load_corpus(data / "train.parquet", tokenizer, max_tokens=first.longest_text)
    sizes = [make_size(name, config, corpus, len(tokenizer)) for name, config in configs.items()]
    sizes.sort(key=lambda size: size.parameters)
    for size in sizes:
        for budget in budgets:
            size.with_budget(budget)  # a slip must not cost the time of the sizes before
    beside = reference_points(reference, corpus, len(tokenizer)) if reference is not None else []
    output_folder(out)
    output_folder(report)
    points: list[dict[str, Any]] = []
    for size in sizes:
        logger.info("== %s: %s parameters, %.3g FLOPs a token", size.name, f"{size.parameters:,}", size.flops_per_token)
        points += train_size(size, budgets, data, out, tokenizer_folder=tokenizer_folder)
        settings = {"recipes": {size.name: to_mapping(size.config) for size in sizes}, "flops": list(budgets)}
        origin = provenance(settings, inputs=[data / "train.parquet", data / "val.parquet"])
        write_json(report / "scaling.json", {"points": points, "reference": beside, "provenance": origin})
        write_text(report / "scaling.md", markdown(points))
        draw(points, beside, report / "scaling.png")
    return points


def main(argv: list[str]) -> None:
    """Train every size for every budget, and write scaling.json, scaling.md and scaling.png."""
    parser = argparse.ArgumentParser(prog="python -m studies.scaling.sweep", description=main.__doc__)
    parser.add_argument("data", type=Path, help="prepared folder with train.parquet and val.parquet")
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--recipes", type=Path, nargs="+", required=True, help="train/sweep/*.yaml, one for each size")
    parser.add_argument("--flops", type=float, nargs="+", required=True, help="budgets of compute, such as 1e13 2e13")
    parser.add_argument("--report", type=Path, help="folder of the report (default: OUT/report)")
    parser.add_argument("--reference", type=Path, help="recipe.yaml and metrics.jsonl of a run to show beside them")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="for all recipes")
    options = parser.parse_args(argv)
    points = sweep(
        options.recipes,
        options.flops,
        options.data,
        options.out,
        options.report or options.out / "report",
        reference=options.reference,
        overrides=options.set,
    )
    print(markdown(points))


if __name__ == "__main__":
    run_program(main)

"""README.md of a run directory: what the files are, how the run was started, how it stands and how to go on."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from crystallm.base.errors import CrystallmError, InputError
from crystallm.base.provenance import write_text
from crystallm.train.state.run_folder import RunFolder

FILES = {
    "recipe.yaml": "the recipe with every field spelled out",
    "provenance.json": "versions, commit, command and hashes of the training files",
    "metrics.jsonl": "training (`train`), evaluations (`eval`) and draws (`probe`), one JSON object a line",
    "loss.png": "the same as a figure",
    "tensorboard": "the same for `tensorboard --logdir .`",
    "tracker_name.txt": "name of the run in the tracker that the recipe asks for",
    "checkpoints": "the last states to resume from",
    "before_decay.json": "step at which the rate began to fall; a larger budget continues from its checkpoint",
    "adapter": "the LoRA adapter of the best model",
    "best": "model with the lowest validation loss so far, a checkpoint folder with a model card",
    "final": "model at the end of the run, likewise",
    "final_ema": "average of the weights at the end of the run, likewise",
}
"""What may be in a run directory."""

ADVICE = {
    "running": "If no process is at work on it, it was killed; the command below with `--resume` continues it.",
    "finished": "The budget is spent. With a larger one, `--resume --set FIELD=VALUE` continues the run.",
    "stopped": "It was asked to stop and saved first; the command below with `--resume` continues it.",
}


def page(run: RunFolder, origin: Mapping[str, Any], status: str, advice: str) -> str:
    """Return the README of a run as Markdown."""
    lines = run.lines()
    there = {name: text for name, text in FILES.items() if (run.path / name).exists()}
    decayed = sorted(folder.name for folder in run.path.glob("decayed-*"))
    there |= dict.fromkeys(decayed, "model and metrics at the end of an earlier decay")
    files = "\n".join(
        f"| `{name}{'/' if (run.path / name).is_dir() else ''}` | {text} |" for name, text in there.items()
    )
    return f"""# Run {run.path.resolve().name}: {status}

{advice}

| | |
|---|---|
| written | {datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")} |
| started or resumed | {origin["time_utc"]} |
| command, without folders | `{origin["command"]}` |
| crystallm | {origin["crystallm"]}, commit {origin["commit"] or "unknown"} |
{_where(lines)}
| file | content |
|---|---|
{files}

Explained in docs/explanation/train.md.
"""


def _where(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    last = {line["kind"]: line for line in lines}
    if lines:
        rows.append(f"| last line of metrics | step {lines[-1]['step']:,}, {lines[-1]['tokens']:,} tokens |")
    if "eval" in last:
        found = last["eval"]
        averaged = f"; averaged weights {found['ema_loss']:.4f}" if "ema_loss" in found else ""
        rows.append(
            f"| last evaluation | step {found['step']:,}: {found['loss']:.4f} nats a token, "
            f"{found['loss_per_crystal']:.2f} a crystal{averaged} |"
        )
        lowest = min(min(line["loss"], line.get("ema_loss", line["loss"])) for line in lines if line["kind"] == "eval")
        rows.append(f"| lowest validation loss | {lowest:.4f} nats a token |")
    if "probe" in last:
        found = last["probe"]
        rows.append(
            f"| last draws | step {found['step']:,}: valid {found['valid']}/{found['attempted']}, "
            f"matching the truth {found['matched']}/{found['attempted']} |"
        )
    return "".join(row + "\n" for row in rows)


@contextmanager
def explained(run: RunFolder, origin: Mapping[str, Any], *, enabled: bool) -> Iterator[None]:
    """Keep the README of a run up to date: when it begins, and when it is finished, stopped or refused to go on."""

    def write(status: str, advice: str) -> None:
        if enabled:
            write_text(run.path / "README.md", page(run, origin, status, advice))

    run.after_evaluation = partial(write, "running", ADVICE["running"])
    run.after_evaluation()
    try:
        yield
    except KeyboardInterrupt:
        with suppress(InputError):  # what stopped the run is worth more than what its page suffers from
            write("stopped", ADVICE["stopped"])
        raise
    except CrystallmError as error:
        with suppress(InputError):
            write("stopped by an error", str(error))
        raise
    write("finished", ADVICE["finished"])

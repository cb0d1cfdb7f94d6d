"""The report of a fine-tuning: Markdown, figure, and what goes into the checkpoint that travels."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crystallm.base.markdown import table
from crystallm.base.provenance import write_json, write_text
from crystallm.base.whole_file import save_figure
from crystallm.crystal.matching.tolerances import STANDARD, STRICT, Tolerances
from crystallm.eval.benchmarking.report import show
from crystallm.eval.seen import MARK
from crystallm.model.checkpoint import ABOUT_FILE

logger = logging.getLogger(__name__)

PARTS = {"val": "validation crystals", "heldout": "held-out crystals", "general": "general validation sample"}


def markdown(report: Mapping[str, Any]) -> str:
    """A report (as JSON holds it) for people."""
    recipe = report["recipe"]
    names = ", ".join(report["sources"])
    lines = [f"# Fine-tuning on {names}", "", f"Started from the model `{recipe['model']}`. {_data(report)}", ""]
    lines += [
        _known(report),
        "",
        verdict(report),
        "",
        f"![curves](curves.png)\n\n{_training(report)}",
        "",
        *_losses(report),
        "",
        _forgot(report),
    ]
    if recipe["draws"]:
        lines += ["", *_rates(report)]
    made = report["provenance"]
    lines += ["", "## Provenance", ""]
    lines += [f"- {name}: `{made[name]}`" for name in ("crystallm", "commit", "command", "time_utc")]
    lines += [f"- input `{name}`, sha256 `{digest}`" for name, digest in made["inputs"].items()]
    return "\n".join(lines) + "\n"


def summary(report: Mapping[str, Any]) -> str:
    """The result in a few lines."""
    old, new = (report[time]["losses"]["val"]["per_token"] for time in ("before", "after"))
    lines = [f"validation loss: {old:.3f} before, {new:.3f} after, nats a token", _forgot(report)]
    if draws := report["recipe"]["draws"]:
        for name in dict.fromkeys(("match_rate@1", f"match_rate@{draws}")):
            was, now = (show(report[time]["metrics"][name]) for time in ("before", "after"))
            lines.append(f"held-out {name}: {was} before, {now} after{_mark(report)}")
        if report["after"]["validity"] is not None:
            was, now = (show(report[time]["validity"]) for time in ("before", "after"))
            lines.append(f"valid: {was} before, {now} after")
    return "\n".join([*lines, verdict(report).replace("*", "")])


def verdict(report: Mapping[str, Any]) -> str:
    """Whether the held-out crystals are written better than before, by their loss and by the draws that match."""
    old, new = (report[time]["losses"]["heldout"]["per_crystal"] for time in ("before", "after"))
    told, better = f"loss of held-out crystals {old:.1f} nats before, {new:.1f} after", [new < old]
    if report["recipe"]["draws"]:
        old, new = (report[time]["matching_draws"]["passed"] for time in ("before", "after"))
        told += f"; draws that match {old} before, {new} after"
        better.append(new > old)
    if all(better):
        return f"What was held out is written better than before: {told}."
    if any(better):
        return f"What was held out is written better by one measure and not by the other: {told}."
    keep = f"Keep the model `{report['recipe']['model']}`, or give more crystals of the kind you want."
    return f"**What was held out is not written better than before** ({told}). {keep}"


def _data(report: Mapping[str, Any]) -> str:
    counts, parts = report["preparation"], report["crystals"]
    refused = ", ".join(f"{reason} {number}" for reason, number in counts["refused"].items()) or "none"
    formulas = {part: report["formulas_in_general_training"][part]["formulas"] for part in parts}
    said = ", ".join(f"{part} {number} ({formulas[part]} formulas)" for part, number in parts.items())
    return (
        f"{counts['read']} crystals were read; refused: {refused}; duplicates: {counts['duplicates']['taken_out']}; "
        f"equal to a benchmark structure: {counts['leakage']['taken_out']} (each with its reason in "
        f"`prepared/drops.jsonl`). Used: {said}."
    )


def _known(report: Mapping[str, Any]) -> str:
    found = report["formulas_in_general_training"]
    said = f"{found['heldout']['known']} of the {found['heldout']['formulas']} held-out formulas and "
    said += f"{found['all']['known']} of all {found['all']['formulas']} occur in the general training corpus."
    if "seen_before" in report:
        return f"{said} {_seen(report)}"
    if report["recipe"]["model"] not in ("benchmark", "default"):  # `default`: reports of version 0.1
        return said + " What the model started from was trained on beyond that is not known."
    if found["heldout"]["known"] == found["heldout"]["formulas"]:
        said += " **All held-out formulas were known to the model before:** its match rate before is no prediction."
    return said


def _seen(report: Mapping[str, Any]) -> str:
    """How many of the held-out crystals the model knew before."""
    seen, model = report["seen_before"], report["recipe"]["model"]
    text = f"{seen['targets']} of the {seen['of']} held-out crystals were seen by `{model}`"
    text += f", of {seen['undecided']} it is not known" if seen["undecided"] else ""
    return f"**{text}: its match rates are {MARK}.**" if seen["targets"] else f"{text}."


def _mark(report: Mapping[str, Any]) -> str:
    """What stands beside match rates of crystals that the model knew before."""
    return f", {MARK}" if report.get("seen_before", {}).get("targets") else ""


def _training(report: Mapping[str, Any]) -> str:
    recipe, training = report["recipe"], report["training"]
    names = ("learning_rate", "frozen_layers", "layer_decay", "lora_rank", "replay_share", "augmented_share", "dropout")
    settings = ", ".join(f"{name} {recipe[name]:g}" for name in names)
    return (
        f"{report['steps']} steps of up to {training['batch_tokens']} tokens ({report['epochs']:.1f} epochs) in "
        f"{report['seconds'] / 60:.1f} minutes; the best model is that of step {report['best_step']}. {settings}; "
        f"seed {recipe['seed']}."
    )


def _losses(report: Mapping[str, Any]) -> list[str]:
    head = ("nats", "texts", "before, a token", "after", "before, a crystal", "after")
    rows = []
    for part, title in PARTS.items():
        old, new = (report[time]["losses"][part] for time in ("before", "after"))
        values = (old["per_token"], new["per_token"], old["per_crystal"], new["per_crystal"])
        rows.append((title, old["texts"], *(f"{value:.3f}" for value in values)))
    return ["## Losses", "", table(head, rows)]


def _forgot(report: Mapping[str, Any]) -> str:
    old, new = (report[time]["losses"]["general"]["per_token"] for time in ("before", "after"))
    return f"Forgetting: the loss on general crystals went from {old:.3f} to {new:.3f} nats a token ({new - old:+.3f})."


def _rates(report: Mapping[str, Any]) -> list[str]:
    recipe, before, after = report["recipe"], report["before"], report["after"]
    draws = recipe["draws"]
    rows = {
        "match rate, first draw": "match_rate@1",
        "match rate, most probable draw": "match_rate@1_by_log_probability",
        f"match rate, any of {draws}": f"match_rate@{draws}",
        "match rate, first draw, strict": "match_rate@1_strict",
        "RMSE of matches, first draw": "rmse@1",
    }
    lines = [f"## Held-out crystals, {draws} draws each{_mark(report)}", "", "| | before | after |", "|---|---|---|"]
    for title, name in rows.items():
        if name in after["metrics"]:
            lines.append(f"| {title} | {show(before['metrics'][name])} | {show(after['metrics'][name])} |")
    shares = [report[time]["matching_draws"] for time in ("before", "after")]
    lines.append(f"| draws that match, of all | {show(shares[0])} | {show(shares[1])} |")
    if after["validity"] is not None:
        lines.append(f"| valid, first draw | {show(before['validity'])} | {show(after['validity'])} |")
    told = [f"Of the true structures {show(report['truth_valid'])} are valid."] if "truth_valid" in report else []
    told += [
        f"Within the first {name.removeprefix('@')}: {found['gained']} targets were gained, {found['lost']} lost"
        + (f", {found['undecided']} undecided." if found.get("undecided") else ".")
        for name, found in report["changes"].items()
    ]
    lines += ["", " ".join(told)]
    lines += [
        "",
        f"Given: {recipe['prompt']}; temperature {recipe['temperature']:g}, weight of templates {recipe['guide']:g}, "
        f"seed {recipe['seed']}. Every held-out crystal is in every denominator; Wilson intervals at 95 %. "
        f"Matcher: {_told(STANDARD)}; strict: {_told(STRICT)}.",
    ]
    return lines


def _told(tolerances: Tolerances) -> str:
    return f"stol {tolerances.stol:g}, ltol {tolerances.ltol:g}, angle_tol {tolerances.angle_tol:g}"


def draw_curves(report: Mapping[str, Any], path: Path) -> None:
    """Draw losses over steps, and match rates over draws before and after; without matplotlib, say so."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.info("no figure: install crystallm[finetune] for one")
        return
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for kind, label, style in (("train", "training", {"color": "0.7"}), ("eval", "validation", {"marker": "."})):
        chosen = [line for line in report["curve"] if line["kind"] == kind]
        left.plot([line["step"] for line in chosen], [line["loss"] for line in chosen], label=label, **style)
    left.axvline(report["best_step"], color="0.5", linestyle=":", label="best model")
    left.set(xlabel="step", ylabel="loss (nats per token)")
    left.legend()
    for time in ("before", "after"):
        points = report[time].get("curve", [])
        numbers = [point["samples"] for point in points]
        low, high = ([point["interval_95"][side] for point in points] for side in (0, 1))
        right.fill_between(numbers, low, high, alpha=0.2)
        right.plot(numbers, [point["share"] for point in points], marker="o", label=f"{time} fine-tuning")
    right.set(xlabel="draws of each held-out crystal", ylabel="matched (Wilson interval, 95 %)", ylim=(0, 1))
    right.locator_params(axis="x", integer=True)
    right.legend()
    save_figure(figure, path, dpi=120, metadata={"Software": None})


def add_to_card(checkpoint: Path, report: Mapping[str, Any]) -> None:
    """Write what was measured into the model card and crystallm.json of the fine-tuned checkpoint."""
    about = json.loads((checkpoint / ABOUT_FILE).read_text(encoding="utf-8"))
    after = report["after"]
    rates = {**after.get("metrics", {}), "validity": after.get("validity")}
    about["evaluation"] = {
        "dataset": ", ".join(report["sources"]) + " (held out)",
        "metrics": {name: value for name, value in rates.items() if value is not None},
        "losses": after["losses"],
    }
    about["trained_from"] = report["recipe"]["model"]
    write_json(checkpoint / ABOUT_FILE, about)
    card = (checkpoint / "README.md").read_text(encoding="utf-8").split(_MARK)[0].rstrip()
    body = markdown(report).replace("![curves](curves.png)\n\n", "").replace("\n# ", "\n## ").removeprefix("# ")
    write_text(checkpoint / "README.md", f"{card}\n\n{_MARK}\n\n## {body}")


_MARK = "<!-- fine-tuning -->"

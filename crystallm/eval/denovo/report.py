"""The report of a de novo evaluation: Markdown and figures."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crystallm.base.whole_file import save_figure
from crystallm.base.workers import Worker
from crystallm.crystal.cell import Cell
from crystallm.crystal.checks.validity import CheckName
from crystallm.crystal.formulas.composition import format_formula
from crystallm.eval.denovo.distributions import UNITS
from crystallm.eval.denovo.evaluation import ENERGY_RATES, RATES, DenovoScore, SampleVerdict
from crystallm.eval.denovo.named_reference import Reference
from crystallm.eval.denovo.sample_properties import Facts
from crystallm.eval.pages.page import html_page
from crystallm.eval.pages.pictures import LARGEST_CELL, conventional, draw_crystals
from crystallm.eval.sets.inputs import Record

logger = logging.getLogger(__name__)

GROUPS_SHOWN = 20
"""Space groups drawn one by one, the most common in the reference first."""

PictureRow = tuple[str, list[tuple[str, Cell]]]
"""Label of a row of pictures, and its crystals with their titles."""

PICTURES = 4
PICTURE_TIME_LIMIT_S = 20.0

MEANING: Mapping[str, str] = {
    "readable": "an ordered crystal of known elements",
    "structurally_valid": "no two atoms within 0.5 A, volume above 0.1 A3 (CDVAE)",
    "composition_valid": "SMACT filter (CDVAE)",
    "valid": "both",
    "reference_checks_valid": "formula, multiplicity, space group, bond lengths (CrystaLLM)",
    "unique": "structurally valid, repeats no earlier sample",
    "novel": "structurally valid, not in the reference",
    "unique_and_novel": "both, for the same sample",
    "valid_unique_and_novel": "valid as well",
    "reference_checks_valid_unique_and_novel": "passes the reference checks as well",
    "relaxed": "the potential relaxes it",
    "converged": "to the largest force asked for",
    "placed_above_hull": "has an energy above hull",
    "stable": "energy above hull <= 0",
    "stable_within_1_meV": "the same within the scatter of relaxations: <= 0.001 eV per atom",
    "metastable": "energy above hull <= 0.1 eV per atom",
    "sun": "stable, unique and novel",
    "msun": "metastable, unique and novel",
}


def markdown(
    score: DenovoScore, *, reference: Sequence[str], settings: Mapping[str, Any], figures: Sequence[str]
) -> str:
    """The report for people."""
    total = len(score.verdicts)
    lines = ["# De novo evaluation", ""]
    lines += [
        f"{total} samples, all of them in every denominator. Reference: {', '.join(reference)} "
        f"({score.reference_size} structures; {score.reference_read} rows were read, refused: "
        f"{_listed(score.reference_refused)}). Every rate is counted sample by sample; intervals are Wilson's at 95 %.",
        "",
        "| | rate | meaning |",
        "|---|---|---|",
    ]
    rates = score.rates
    lines += [f"| {name.replace('_', ' ')} | {rates[name].with_interval()} | {MEANING[name]} |" for name in RATES]
    if score.stability is not None:
        hull = score.stability
        lines += ["", "## Energy", "", "| | rate | meaning |", "|---|---|---|"]
        lines += [f"| {name} | {rates[name].with_interval()} | {MEANING[name]} |" for name in ENERGY_RATES]
        lines += [
            "",
            f"One potential, one hull: samples and references are evaluated by {settings['potential']}. Hulls of "
            f"{hull.systems} chemical systems from {hull.references} reference structures, of which the "
            f"{hull.relaxed_references} that make the hull below a sample were relaxed, which gained at most "
            f"{hull.largest_gain:.3f} eV per atom. References without energy: {_listed(hull.reference_failures)}.",
            f"Root mean square displacement on relaxing: {_spread([r.rmsd_angstrom for r in _relaxed(score)], 'A')}; "
            f"volume ratio: {_spread([r.volume_ratio for r in _relaxed(score)], '')}; "
            f"energy above hull: {_spread(_above_hull(score), 'eV per atom')}.",
        ]
    lines += ["", "## Distance to the reference", "", "| | samples | as many reference structures | unit |"]
    lines += ["|---|---|---|---|"]
    lines += [
        f"| {name.replace('_', ' ')} | {_number(value)} | {_number(score.floor[name])} | {UNITS[name]} |"
        for name, value in score.distances.items()
    ]
    lines += [
        "",
        f"Structurally valid samples against {len(score.reference_facts)} structures drawn from the reference. The "
        "second column is what equal distributions give with so few samples.",
        "",
        "## Reference checks",
        "",
        "| check | rate |",
        "|---|---|",
    ]
    checked = score.validity.rates()
    lines += [f"| {name} | {checked[name].with_interval()} |" for name in ["valid", *map(str, CheckName)]]
    lines += ["", "## Reasons", ""]
    lines += [f"- {question}: {_listed(found)}" for question, found in score.reasons.items()]
    lines += [f"- {check}: {_listed(found)}" for check, found in score.validity.reasons.items() if found]
    lines += ["", *[f"![{name}]({name})" for name in figures]]
    lines += ["", "## Settings", "", *[f"- {key}: {value}" for key, value in settings.items()]]
    return "\n".join(lines) + "\n"


def page(score: DenovoScore, rows: Sequence[PictureRow], figures: Sequence[Path]) -> str:
    """The report as one HTML file."""
    rates = {name.replace("_", " "): (rate, MEANING[name]) for name, rate in score.rates.items()}
    return html_page("De novo evaluation", rates, figures, rows)


def draw_figures(score: DenovoScore, rows: Sequence[PictureRow], folder: Path) -> list[str]:
    """Write the figures of a report into `folder` and return their names; none without matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        logger.info("no figures: install crystallm[train] for them")
        return []
    names = ["rates.png", "space_groups.png", "density.png"]
    _draw_rates(score, folder / names[0])
    usable = [v.facts for v in score.verdicts if v.facts is not None and v.structural]
    _draw_space_groups(usable, score.reference_facts, folder / names[1])
    _draw_densities(usable, score.reference_facts, folder / names[2])
    if draw_crystals(rows, folder / "crystals.png"):
        names.append("crystals.png")
    return names


def choose_pictures(score: DenovoScore, samples: Sequence[Record], reference: Reference) -> list[PictureRow]:
    """The first samples that equal a true structure, that structure below each, and the first new and valid ones."""
    known = [i for i, v in enumerate(score.verdicts) if v.known_as is not None and _drawable(v)]
    new = [i for i, v in enumerate(score.verdicts) if v.novel and v.unique and v.checks_valid and _drawable(v)]
    formulas = {i: facts.amounts for i in known if (facts := score.verdicts[i].facts) is not None}
    rows = reference.of_formulas(list(formulas.values())[:PICTURES])
    generated: list[tuple[str, Cell]] = []
    true: list[tuple[str, Cell]] = []
    novel: list[tuple[str, Cell]] = []
    with Worker(conventional) as worker:

        def cell_of(cif: str) -> Cell | None:
            cell = worker.call(cif, time_limit_s=PICTURE_TIME_LIMIT_S)
            return cell if isinstance(cell, Cell) and len(cell) <= LARGEST_CELL else None

        for index in known[:PICTURES]:
            verdict = score.verdicts[index]
            twin = next(row for row in rows[formulas[index]] if row.id == verdict.known_as)
            pair = cell_of(str(samples[index].cif)), cell_of(twin.cif)
            if pair[0] is not None and pair[1] is not None:
                generated.append((_title(verdict), pair[0]))
                true.append((f"{format_formula(formulas[index])} {twin.id}"[:30], pair[1]))
        for index in new[:PICTURES]:
            cell = cell_of(str(samples[index].cif))
            if cell is not None:
                novel.append((_title(score.verdicts[index]), cell))
    return [("generated", generated), ("true", true), ("generated, not in the reference", novel)]


def _drawable(verdict: SampleVerdict) -> bool:
    return verdict.facts is not None and verdict.facts.n_atoms <= LARGEST_CELL


def _title(verdict: SampleVerdict) -> str:
    assert verdict.facts is not None
    return f"{format_formula(verdict.facts.amounts)}, {verdict.facts.space_group or 'no symmetry'}"


def _draw_rates(score: DenovoScore, path: Path) -> None:
    from matplotlib.figure import Figure

    rates = {name: rate for name, rate in score.rates.items() if rate.share is not None}
    figure = Figure(figsize=(6, 0.3 * len(rates) + 0.8), layout="constrained")
    axes = figure.add_subplot()
    for place, rate in enumerate(rates.values()):
        assert rate.share is not None
        # Of 3 in 3 the upper end comes out a rounding error below 1.
        below, above = (max(0.0, rate.share - rate.interval_95[0]), max(0.0, rate.interval_95[1] - rate.share))
        axes.barh(place, rate.share, color="C0", xerr=[[below], [above]], ecolor="0.3")
    axes.set_yticks(range(len(rates)), [name.replace("_", " ") for name in rates], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel=f"share of {len(score.verdicts)} samples, with 95 % interval")
    save_figure(figure, path, dpi=130)


def _draw_space_groups(samples: Sequence[Facts], reference: Sequence[Facts], path: Path) -> None:
    from matplotlib.figure import Figure

    ours, theirs = (Counter(crystal.space_group for crystal in crystals) for crystals in (samples, reference))
    shown = [group for group, _ in theirs.most_common(GROUPS_SHOWN)]
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot()
    for shift, counter, label, color in ((-0.2, theirs, "reference", "0.6"), (0.2, ours, "samples", "C0")):
        total = max(counter.total(), 1)
        heights = [counter[group] / total for group in shown]
        rest = 1 - sum(heights) if counter.total() else 0.0
        axes.bar([i + shift for i in range(len(shown) + 1)], [*heights, rest], width=0.4, label=label, color=color)
    axes.set_xticks(
        range(len(shown) + 1), [*(str(group or "none") for group in shown), "rest"], fontsize=7, rotation=90
    )
    axes.set(xlabel="space group", ylabel="share")
    axes.legend()
    save_figure(figure, path, dpi=130)


def _draw_densities(samples: Sequence[Facts], reference: Sequence[Facts], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    density, elements = figure.subplots(1, 2)
    top = max((crystal.density for crystal in reference), default=1.0)
    for crystals, label, color in ((reference, "reference", "0.6"), (samples, "samples", "C0")):
        if crystals:
            density.hist(
                [c.density for c in crystals], bins=40, range=(0, top), density=True, histtype="step", color=color,
                label=label,
            )  # fmt: skip
            counts = Counter(c.n_elements for c in crystals)
            elements.plot(sorted(counts), [counts[n] / len(crystals) for n in sorted(counts)], "o-", color=color)
    density.set(xlabel="density (g/cm3)", ylabel="frequency per g/cm3")
    density.legend()
    elements.set(xlabel="number of elements", ylabel="share")
    save_figure(figure, path, dpi=130)


def _relaxed(score: DenovoScore) -> list[Any]:
    return [v.stability.relaxation for v in score.verdicts if v.stability and v.stability.relaxation]


def _above_hull(score: DenovoScore) -> list[float]:
    return [v.stability.above_hull for v in score.verdicts if v.stability and v.stability.above_hull is not None]


def _spread(values: Sequence[float], unit: str) -> str:
    """Median and the range of the middle 80 % of some values."""
    if not values:
        return "none"
    ordered = sorted(values)
    low, middle, high = (ordered[min(int(q * len(ordered)), len(ordered) - 1)] for q in (0.1, 0.5, 0.9))
    return f"median {middle:.3g} {unit}".strip() + f" (10 to 90 %: {low:.3g} to {high:.3g}, of {len(ordered)})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _listed(found: Mapping[str, int]) -> str:
    ordered = sorted(found.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{reason} {count}" for reason, count in ordered) or "none"

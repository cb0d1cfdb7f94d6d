"""Which candidate has the structure of a database row: fit and report.

`python -m studies.ranking.database EVIDENCE... --without TEXTBOOK --out DIR` reads what `studies.ranking.collect` wrote
for validation rows, fits on half of the formulas (seed 0) and reports on the other half.
`... --judge WEIGHTS` fits nothing and reports how these weights rank rows of a test set.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from crystallm.base.provenance import provenance, write_json, write_text
from crystallm.energy.ranking import Evidence, Ranking, read_ranking
from crystallm.eval.prediction.metrics import mcnemar
from studies.ranking.fitting import Array, Calibration, Case, calibration, fit, folds, nearest, told
from studies.ranking.nature import read_textbook

PROBABILITY = ("ranking", "ranking_below_best")
"""The ranking by probability alone, made into chances."""

DRAWN = (*PROBABILITY, "model_below_best", "first_draw", "log_draw", "log_draws")
RELATIVES = (
    *DRAWN,
    *("followed", "distance", "like_own", "template_observed", "template_near_hull"),
    *("votes", "log_votes", "log_observed_votes"),
)
ALL = (*RELATIVES, "numbers", "log_operations", "log_sites", "log_free", "bonds_unreasonable", "volume_off")
ENERGIES = ("energy_to_5", "energy_to_30", "energy_to_130", "energy_unknown")
ABLATION: Mapping[str, Sequence[str]] = {
    "probability alone, fitted": PROBABILITY,
    "and draws": DRAWN,
    "and relatives": RELATIVES,
    "**and the crystal itself**": ALL,
    "without votes": tuple(name for name in ALL if "votes" not in name),
    "without observed": tuple(name for name in ALL if "observed" not in name),
    "without numbers": tuple(name for name in ALL if name != "numbers"),
}
WITH_ENERGIES: Mapping[str, Sequence[str]] = {
    "without energies": ALL,
    "energies and probability": (*DRAWN, *ENERGIES),
    "energies alone": ENERGIES,
    "**energies and everything**": (*ALL, *ENERGIES),
}


@dataclass(frozen=True, eq=False)
class Row:
    """A target: its candidates, and verdicts on all of its draws as `collect` writes them."""

    case: Case
    verdicts: Sequence[Any]
    numbers: Sequence[int]
    """Of the draw of each candidate."""

    def matches(self, number: int, *, filtered: bool) -> bool:
        """Whether a draw matches the target, under the filter of CDVAE if wanted."""
        verdict = self.verdicts[number]
        return verdict is not None and verdict[0] is not None and (verdict[2] or not filtered)


def read_rows(paths: Sequence[Path], without: frozenset[str] = frozenset()) -> list[Row]:
    """Targets of files of `collect`, but for these formulas."""
    known = {field.name for field in fields(Evidence)}
    rows = []
    for path in paths:
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            if line["formula"] in without:
                continue
            evidence = [
                Evidence(**{name: value for name, value in one.items() if name in known}) for one in line["candidates"]
            ]
            numbers = [one["number"] for one in line["candidates"]]
            right = nearest([line["verdicts"][number] for number in numbers])
            part = {True: "observed", False: "hypothetical", None: "not known"}[line["observed"]]
            relatives = "relatives" if any(one.votes for one in evidence) else "no relative"
            rows.append(Row(Case(line["formula"], evidence, right, (part, relatives)), line["verdicts"], numbers))
    return rows


def chosen(row: Row, ranking: Ranking | None) -> int:
    """Number of the draw that is the answer: the best by a ranking, by probability if None; 0 where there is none."""
    if not row.numbers:
        return 0
    return row.numbers[0 if ranking is None else int(np.argmax(row.case.scores(ranking)))]


def chances(rows: Sequence[Row], ranking: Ranking) -> tuple[Array, Array]:
    """Chances of all candidates of all targets, and whether they are right."""
    found = [np.array(ranking.probabilities(row.case.evidence)) for row in rows if row.numbers]
    return np.concatenate(found), np.concatenate([row.case.right for row in rows if row.numbers])


def raw_chances(rows: Sequence[Row]) -> Array:
    """The probabilities of the draws themselves, as the ranking by probability has them."""
    return np.concatenate(
        [
            np.exp([min(one.ranking_log_probability or 0.0, 0.0) for one in row.case.evidence])
            for row in rows
            if row.numbers
        ]
    )


def likelihood(rows: Sequence[Row], ranking: Ranking) -> float:
    """Mean negative log-chance of what is right."""
    total = 0.0
    for row in rows:
        share = np.array(ranking.probabilities(row.case.evidence))
        total -= float(np.log(max(share[row.case.right].sum() if row.case.right.any() else 1 - share.sum(), 1e-9)))
    return total / len(rows)


def rates(rows: Sequence[Row], ranking: Ranking | None, *, filtered: bool) -> list[bool]:
    """Whether the answer to each target is right."""
    return [row.matches(chosen(row, ranking), filtered=filtered) for row in rows]


def comparison(rows: Sequence[Row], ranking: Ranking) -> list[str]:
    """First draw, ranking by probability, this ranking, and the ceiling; with McNemar's test against the first two."""
    lines = ["| one answer of 20 draws | match | with the filter of CDVAE |", "|---|---|---|"]
    ways: dict[str, tuple[list[bool], list[bool]]] = {
        "first draw": tuple([row.matches(0, filtered=f) for row in rows] for f in (False, True)),  # type: ignore[dict-item]
        "by probability": tuple(rates(rows, None, filtered=f) for f in (False, True)),  # type: ignore[dict-item]
        "**fitted ranking**": tuple(rates(rows, ranking, filtered=f) for f in (False, True)),  # type: ignore[dict-item]
        "any of 20": tuple(  # type: ignore[dict-item]
            [any(row.matches(n, filtered=f) for n in range(len(row.verdicts))) for row in rows] for f in (False, True)
        ),
    }
    lines += [f"| {name} | {told(a, len(rows))} | {told(b, len(rows))} |" for name, (a, b) in ways.items()]
    ours = dict(enumerate(ways["**fitted ranking**"][1]))
    for name in ("first draw", "by probability"):
        test = mcnemar(ours, dict(enumerate(ways[name][1])))
        lines.append("")
        lines.append(f"Against {name}: {test.only_first} won, {test.only_second} lost, p = {test.p:.2g}.")
    return lines


def trust(rows: Sequence[Row], ranking: Ranking, alone: Ranking) -> tuple[list[str], dict[str, Any]]:
    """Calibration of a ranking, beside that of the probability ranking alone."""
    ours, right = chances(rows, ranking)
    judged: dict[str, Calibration] = {
        "fitted ranking": calibration(ours, right),
        "probability alone, as drawn": calibration(raw_chances(rows), right),
        "probability alone, fitted": calibration(chances(rows, alone)[0], right),
    }
    lines = ["| chances | expected calibration error, points | Brier |", "|---|---|---|"]
    lines += [f"| {name} | {100 * one.error:.2f} | {one.brier:.4f} |" for name, one in judged.items()]
    top = np.concatenate([_is_best(ranking.probabilities(row.case.evidence)) for row in rows if row.numbers])
    first = calibration(ours[top], right[top])
    lines += ["", f"First answers alone: error {100 * first.error:.1f} points.", ""]
    lines += ["| mean chance of the first answer | right | targets |", "|---|---|---|"]
    lines += [f"| {100 * chance:.0f} % | {100 * share:.0f} % | {count} |" for chance, share, count in first.bins]
    alone_rows = [row for row in rows if "no relative" in row.case.parts and row.numbers]
    lines += ["", f"Formulas of which no draw has the structure of a relative: {len(alone_rows)} targets"]
    if alone_rows:
        few, verdicts = chances(alone_rows, ranking)
        lines[-1] += (
            f", {len(few)} candidates, mean chance {100 * few.mean():.1f} %, right {100 * verdicts.mean():.1f} %; "
            f"one of them {100 * few.sum() / len(alone_rows):.0f} %, right {verdicts.sum()} of {len(alone_rows)}."
        )
    return lines, {name: {"error": one.error, "brier": one.brier, "bins": one.bins} for name, one in judged.items()}


def _is_best(values: Sequence[float]) -> Array:
    return np.arange(len(values)) == int(np.argmax(values))


def fit_and_report(
    rows: Sequence[Row], ablation: Mapping[str, Sequence[str]], penalty: float, out: Path
) -> tuple[list[str], dict[str, Any]]:
    """Fit on half of the formulas, report on the others; the weights of the entry in bold go to a file."""
    half = folds([row.case.name for row in rows], 2, seed=0)
    fitted = [row for row, part in zip(rows, half, strict=True) if part == 0]
    others = [row for row, part in zip(rows, half, strict=True) if part == 1]
    lines = [f"Fitted on {len(fitted)} targets, reported on {len(others)} of other formulas.", ""]
    lines += [
        "| evidence | fit half, likelihood | report half | first right | first, filter |",
        "|---|---|---|---|---|",
    ]
    rankings = {}
    for name, features in ablation.items():
        found = rankings[name] = fit([row.case for row in fitted], features, penalty=penalty)
        first = [told(rates(others, found, filtered=f), len(others)) for f in (False, True)]
        fits = f"{likelihood(fitted, found):.3f} | {likelihood(others, found):.3f}"
        lines.append(f"| {name} | {fits} | {first[0]} | {first[1]} |")
    ranking = next(found for name, found in rankings.items() if name.startswith("**"))
    for part in ("observed", "hypothetical", None):
        some = [row for row in others if part is None or part in row.case.parts]
        if some:
            lines += ["", f"Report half, {part or 'all'}: {len(some)} targets.", "", *comparison(some, ranking)]
    told_lines, judged = trust(others, ranking, fit([row.case for row in fitted], PROBABILITY, penalty=penalty))
    weights = {"made_by": f"studies.ranking.database, {len(fitted)} targets", "none": ranking.none}
    write_json(out, weights | {"weights": dict(ranking.weights)})
    return [*lines, "", *told_lines], {"fitted": len(fitted), "reported": len(others), "calibration": judged}


def main() -> None:
    """Fit and report, or report alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evidence", nargs="+", type=Path)
    parser.add_argument(
        "--energies", nargs="+", type=Path, help="what `studies.ranking.energies` wrote for some of them"
    )
    parser.add_argument("--without", type=Path, help="textbook list, no formula of which is used")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judge", type=Path, metavar="WEIGHTS", help="a ranking to be judged; nothing is fitted")
    parser.add_argument("--penalty", type=float, default=10.0)
    options = parser.parse_args()
    without = frozenset(read_textbook(options.without)) if options.without else frozenset()
    rows = read_rows(options.evidence, without)
    options.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any]
    if options.judge:
        lines = [f"{len(rows)} targets.", "", *comparison(rows, read_ranking(options.judge))]
        report = {"targets": len(rows)}
    else:
        lines, report = fit_and_report(rows, ABLATION, options.penalty, options.out / "weights.json")
        if options.energies:
            some = read_rows(options.energies, without)
            more, also = fit_and_report(some, WITH_ENERGIES, options.penalty, options.out / "weights_energies.json")
            lines += ["", "## With energies", "", *more]
            report["with_energies"] = also
    write_text(options.out / "database.md", "\n".join(lines) + "\n")
    write_json(options.out / "database.json", report | {"provenance": provenance(None, inputs=options.evidence)})
    print("\n".join(lines))


if __name__ == "__main__":
    main()

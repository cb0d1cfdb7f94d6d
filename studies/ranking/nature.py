"""Which of the known crystals of a formula nature makes: labels, fit, report.

`python -m studies.ranking.nature LIBRARY --textbook FILE --out DIR` reads the library of an edition (its columns say
what is known of each crystal), fits on formulas with a measured structure (COD, AMCSD) and reports on them by cross
validation, on observed polymorphs by their energy above the hull, and on a list of textbook formulas, none of which is
fitted on.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crystallm.base.provenance import provenance, write_json, write_text
from crystallm.crystal.formulas.composition import format_formula, parse_formula
from crystallm.energy.ranking import Evidence, Ranking
from crystallm.energy.ranking.features import hull_estimates
from studies.ranking.fitting import Case, calibration, firsts, fit, folds, nearest, told

COLUMNS = [
    "id",
    "formula",
    "space_group",
    "formula_units",
    "observed",
    "measured",
    "dft_above_hull",
    "energy",
    "copies",
    "copy_of",
]
STEPS = 10_000
"""Of the library's energies in one eV."""

TIE_EV = 0.005
"""Observed crystals so near the lowest one all count as right."""

ENERGY = ("observed", "observed_unknown", "hull_to_5", "hull_to_30", "hull_to_130", "below_observed")
FEATURES = (*ENERGY, "later_id", "measured")

ABLATION: Mapping[str, Sequence[str]] = {
    "observed alone": ENERGY[:2],
    "and energy above the hull": ENERGY,
    "and later ids": (*ENERGY, "later_id"),
    "**and measured**": FEATURES,
    "and operations": (*FEATURES, "log_operations"),
    "and operations, sites": (*FEATURES, "log_operations", "log_sites"),
    "and number of copies": (*FEATURES, "log_copies"),
}
NEW = (
    *("new", "new_ranking_below_best", "new_first_draw", "new_numbers", "new_log_votes", "new_log_observed_votes"),
    *("new_bonds_unreasonable", "new_hull_to_30"),
)
"""Of crystals that are not known; fitted beside the weights of FEATURES."""

BESIDE_OBSERVED = -1.5
"""Weight of a new crystal where an observed one of the formula is known; set by hand. The fit leaves that one out of
the library; in use draws follow it, too, and what of them is not merged with it has its votes."""

MOST_CANDIDATES = 60


def read_candidates(library: Path, also: Sequence[str] = ()) -> dict[str, list[Evidence]]:
    """The known crystals of formulas with a measured crystal, or with several observed ones, and of those in `also`;
    database copies of one crystal put together."""
    table = pq.read_table(library, columns=COLUMNS)
    rows = table.filter(pc.is_in(table["formula"], _formulas_of_interest(table, also))).to_pylist()
    groups: dict[str, list[dict[str, Any]]] = {row["id"]: [row] for row in rows}
    for row in rows:
        leader = row["copy_of"]
        if leader in groups and leader != row["id"] and row["id"] in groups:
            groups[leader] += groups.pop(row["id"])
    found: dict[str, list[Evidence]] = defaultdict(list)
    for copies in groups.values():
        found[format_formula(parse_formula(copies[0]["formula"]))].append(evidence_of(copies))
    return dict(found)


def _formulas_of_interest(table: pa.Table, also: Sequence[str]) -> pa.Array:
    measured = pc.unique(table.filter(table["measured"])["formula"])
    counts = pc.value_counts(table.filter(table["observed"])["formula"])
    several = [row["values"] for row in counts.to_pylist() if row["counts"] > 1]
    return pa.array({*measured.to_pylist(), *several, *also})


def evidence_of(copies: Sequence[Mapping[str, Any]]) -> Evidence:
    """The evidence for one known crystal from its rows, the first of which leads."""
    first = copies[0]
    atoms = sum(amount for _, amount in parse_formula(first["formula"]))
    observed = [row["observed"] for row in copies if row["observed"] is not None]
    hull = [row["dft_above_hull"] for row in copies if row["dft_above_hull"] is not None]
    ids = (name for row in copies for name in (row["id"], *(row["copies"] or "").split()))
    return Evidence(
        space_group=first["space_group"],
        formula_units=first["formula_units"],
        n_sites=first["formula_units"] * atoms,
        n_orbits=1,  # not looked at for known crystals
        n_free=1,
        known=True,
        observed=any(observed) if observed else None,
        measured=any(bool(row["measured"]) for row in copies),
        source_ids=tuple(dict.fromkeys(ids)),
        dft_above_hull=hull[0] / STEPS if hull else None,
        energy=None if first["energy"] is None else first["energy"] / STEPS,
    )


def read_textbook(path: Path) -> dict[str, frozenset[int]]:
    """Formula -> numbers of the space groups that are right."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {format_formula(parse_formula(formula)): frozenset(map(int, groups)) for formula, *groups in lines}


def lowest(evidence: Sequence[Evidence], among: Sequence[bool]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Those of some candidates within TIE_EV of the lowest of them."""
    mask, energies = np.array(among, dtype=bool), hull_estimates(evidence)
    return mask & (energies <= energies[mask].min() + TIE_EV)


def measured_cases(candidates: Mapping[str, Sequence[Evidence]], without: frozenset[str]) -> list[Case]:
    """Formulas with a measured crystal: that is right, the lowest of several. `measured` is hidden from the evidence.

    Measured crystals without a computed twin are left out: that they have neither id nor energy would give them away.
    """
    cases = []
    for formula, found in sorted(candidates.items()):
        known = [one for one in found if not one.measured or _computed(one.source_ids)]
        measured = [one.measured for one in known]
        if formula in without or not any(measured) or not 1 < len(known) <= MOST_CANDIDATES:
            continue
        right = lowest(known, measured)
        if not right.all():
            hidden = [replace(one, measured=False, source_ids=_computed(one.source_ids)) for one in known]
            cases.append(Case(formula, hidden, right, ("measured",)))
    return cases


def _computed(names: Sequence[str]) -> tuple[str, ...]:
    """Ids that are not of measured structures."""
    return tuple(name for name in names if not name.startswith(("cod-", "amcsd-")))


def observed_cases(candidates: Mapping[str, Sequence[Evidence]], without: frozenset[str]) -> list[Case]:
    """Formulas with several observed crystals, all with a DFT energy: the lowest of them is right, and that energy is
    hidden from the evidence."""
    cases = []
    for formula, found in sorted(candidates.items()):
        observed = [one.observed is True for one in found]
        complete = all(one.dft_above_hull is not None for one in found if one.observed)
        if formula in without or sum(observed) < 2 or not complete or len(found) > MOST_CANDIDATES:
            continue
        right = lowest(found, observed)
        if not right.all():
            cases.append(Case(formula, [replace(one, dft_above_hull=None) for one in found], right, ("DFT",)))
    return cases


def read_lines(path: Path) -> list[dict[str, Any]]:
    """What `collect` or `energies` wrote."""
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def textbook_cases(candidates: Mapping[str, Sequence[Evidence]], groups: Mapping[str, frozenset[int]]) -> list[Case]:
    """Textbook formulas with a known crystal: right is a crystal of one of the groups."""
    return [
        Case(name, candidates[name], np.array([one.space_group in right for one in candidates[name]]))
        for name, right in groups.items()
        if name in candidates
    ]


def plain_rule(case: Case) -> list[float]:
    """What a look-up would do: observed before others, then by energy above the hull."""
    energies = hull_estimates(case.evidence)
    return [-(0.0 if one.observed else 10.0) - x for one, x in zip(case.evidence, energies.tolist(), strict=True)]


def plain_firsts(cases: Sequence[Case], top: int) -> int:
    """Cases where the plain rule has a right candidate among the first `top`."""
    return sum(bool(case.right[np.argsort(-np.array(plain_rule(case)), kind="stable")[:top]].any()) for case in cases)


def cross_validated(cases: Sequence[Case], features: Sequence[str], *, number: int = 5, seed: int = 0) -> list[Ranking]:
    """For each case a ranking that was fitted without it."""
    part = folds([case.name for case in cases], number, seed=seed)
    rankings = [
        fit([case for case, own in zip(cases, part, strict=True) if own != left], features, with_none=False)
        for left in range(number)
    ]
    return [rankings[own] for own in part]


def main() -> None:
    """Fit and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("--textbook", type=Path, required=True)
    parser.add_argument("--drawn", type=Path, help="evidence of draws for observed rows, with energies")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    groups = read_textbook(options.textbook)
    drawn = [] if options.drawn is None else read_lines(options.drawn)
    candidates = read_candidates(options.library, [*groups, *(line["formula"] for line in drawn)])
    without = frozenset(groups)
    cases = [*measured_cases(candidates, without), *observed_cases(candidates, without)]
    textbook = textbook_cases(candidates, groups)
    kinds = {kind: [kind in case.parts for case in cases] for kind in ("measured", "DFT")}
    lines = [
        f"Right first, among three, of {sum(kinds['measured'])} formulas where a measured crystal is right, and of "
        f"{sum(kinds['DFT'])} where it is the observed crystal of lowest DFT energy (which is hidden), fitted on both, "
        f"five-fold cross validation (seed 0). {len(textbook)} of {len(groups)} textbook formulas have a known "
        "crystal; none is fitted on. Likelihood: mean negative logarithm of the chance of what is right.",
        "",
        "| ranking | measured | DFT | textbook | likelihood: measured, DFT |",
        "|---|---|---|---|---|",
    ]
    some = [case for case, own in zip(cases, kinds["measured"], strict=True) if own]
    plain = [
        f"{told(plain_firsts(few, 1), n)}, {told(plain_firsts(few, 3), n)}" for few, n in _sized(some, textbook, groups)
    ]
    lines.append(f"| observed, then energy above the hull | {plain[0]} | | {plain[1]} | |")
    for name, features in ABLATION.items():
        left_out = cross_validated(cases, features)
        ranking = fit(cases, features, with_none=False)
        found, losses = [], []
        for own in kinds.values():
            few = [(r, case) for r, case, mine in zip(left_out, cases, own, strict=True) if mine]
            tops = [[firsts(r, [case], top)[0] for r, case in few] for top in (1, 3)]
            found.append(", ".join(told(hits, len(few)) for hits in tops))
            losses.append(-np.mean([np.log(_shares(r, case)[case.right].sum()) for r, case in few]))
        book = ", ".join(told(firsts(ranking, textbook, top), len(groups)) for top in (1, 3))
        lines.append(f"| {name} | {found[0]} | {found[1]} | {book} | {losses[0]:.3f}, {losses[1]:.3f} |")
    left_out = cross_validated(cases, FEATURES)
    alone = [(r, case) for r, case in zip(left_out, cases, strict=True) if case.right.sum() == 1]
    chances = np.concatenate([_shares(r, case) for r, case in alone])
    judged = calibration(chances, np.concatenate([case.right for _, case in alone]))
    lines += [
        "",
        f"Calibration ({len(alone)} formulas with one right crystal, cross-validated): error "
        f"{100 * judged.error:.1f} points, Brier {judged.brier:.4f}, {len(chances)} candidates.",
    ]
    final = fit(cases, FEATURES, with_none=False)
    if drawn:
        new = left_out_cases(drawn, candidates, without)
        more, final = fit_new(new, final)
        lines += ["", *more, share_of_known(left_out_cases(drawn, candidates, without, put_back=True), final)]
    wrong = [case.name for case, hit in zip(textbook, firsts(final, textbook), strict=True) if not hit]
    lines += ["", "Textbook formulas that are not right first: " + ", ".join(wrong) + "."]
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "known.md", "\n".join(lines) + "\n")
    write_json(
        options.out / "known.json",
        {
            "weights": dict(final.weights),
            "cases": len(cases),
            "none": final.none,
            "calibration": judged.bins,
            "provenance": provenance(None, inputs=[options.library, options.textbook]),
        },
    )
    print("\n".join(lines))


def left_out_cases(
    lines: Sequence[Mapping[str, Any]],
    candidates: Mapping[str, Sequence[Evidence]],
    without: frozenset[str],
    *,
    put_back: bool = False,
) -> list[Case]:
    """Formulas of which one observed crystal is known, as if it were not: its draws beside the hypothetical ones.

    put_back: with it, and without the draws that match it.
    """
    known = {field.name for field in fields(Evidence)}
    cases = []
    for line in lines:
        found = candidates.get(line["formula"], [])
        others = [one for one in found if line["target"] not in one.source_ids]
        if line["formula"] in without or any(one.observed for one in others) or len(others) == len(found):
            continue
        draws = [Evidence(**{key: value for key, value in one.items() if key in known}) for one in line["candidates"]]
        rms = [line["verdicts"][one["number"]] for one in line["candidates"]]
        if put_back:
            draws = [one for one, verdict in zip(draws, rms, strict=True) if not nearest([verdict]).any()]
            evidence = [*found, *draws]
            right = np.array([line["target"] in one.source_ids for one in evidence])
        else:
            evidence = [*others, *draws]
            right = np.append(np.zeros(len(others), dtype=bool), nearest(rms))
        cases.append(Case(line["formula"], evidence, right))
    return cases


def fit_new(cases: Sequence[Case], known: Ranking) -> tuple[list[str], Ranking]:
    """Weights of what is not known beside those of what is; by halves of the formulas, and of all of them."""
    part = folds([case.name for case in cases], 2, seed=0)
    halves = [[case for case, own in zip(cases, part, strict=True) if own == half] for half in (0, 1)]
    ranking = fit(halves[0], NEW, beside=known)
    chances = np.concatenate([ranking.probabilities(case.evidence) for case in halves[1]])
    judged = calibration(chances, np.concatenate([case.right for case in halves[1]]))
    by_draw = sum(bool(case.right[_earliest(case)]) for case in halves[1])
    lines = [
        f"New crystals, with the only observed one left out of the library: fitted on {len(halves[0])}, reported on "
        f"{len(halves[1])} formulas: first {told(firsts(ranking, halves[1]), len(halves[1]))}, first draw "
        f"{told(by_draw, len(halves[1]))}, among three {told(firsts(ranking, halves[1], 3), len(halves[1]))}, "
        f"calibration error {100 * judged.error:.1f} points, Brier {judged.brier:.4f}, {len(chances)} candidates.",
    ]
    return lines, Ranking({**ranking.weights, "new_beside_observed": BESIDE_OBSERVED}, ranking.none)


def _earliest(case: Case) -> int:
    """Place of the candidate that was drawn first."""
    return min(
        range(len(case.evidence)), key=lambda place: (case.evidence[place].draw is None, case.evidence[place].draw)
    )


def share_of_known(cases: Sequence[Case], ranking: Ranking) -> str:
    """What is left for new crystals, and for none, where the observed one is known."""
    found = [ranking.probabilities(case.evidence) for case in cases]
    known = np.mean([np.array(chances)[case.right].sum() for chances, case in zip(found, cases, strict=True)])
    none = np.mean([1 - sum(chances) for chances in found])
    return (
        f"With the observed crystal in the library, and draws of its structure merged with it, it has "
        f"{100 * known:.1f} % on average, none of all candidates {100 * none:.1f} % ({len(cases)} formulas)."
    )


def _sized(
    some: Sequence[Case], textbook: Sequence[Case], groups: Mapping[str, frozenset[int]]
) -> list[tuple[Sequence[Case], int]]:
    """Cases with the number that is their denominator."""
    return [(some, len(some)), (textbook, len(groups))]


def _shares(ranking: Ranking, case: Case) -> np.ndarray[Any, np.dtype[np.float64]]:
    scores = case.scores(ranking)
    shares = np.exp(scores - scores.max())
    return np.asarray(shares / shares.sum())


if __name__ == "__main__":
    main()

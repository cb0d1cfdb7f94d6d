"""The report of `crystallm eval roundtrip` as Markdown and JSON; every rate carries its denominator."""

from __future__ import annotations

from typing import Any

from crystallm.eval.rate import Rate


def markdown(result: dict[str, Any]) -> str:
    """The report for people."""
    lines = ["# Crystal text: there and back", ""]
    if not result["complete"]:
        lines += ["**Interrupted: only a part was measured.**", ""]
    lines += ["| file | can be written | mean tokens | longest |", "|---|---|---|---|"]
    for name, found in (result["files"] | result["length_only"]).items():
        lines.append(f"| {name} | {_share(found['encoded'])} | {found['mean_tokens']} | {found['longest_tokens']} |")
    lines += ["", f"All files but those for length only: {_share(result['encoded'])}."]
    lines += [f"Refused: {_listed(result['refused'])}.", ""]
    if result["trips"]:
        lines += ["| | " + " | ".join(result["trips"]) + " |", "|---|" + "---|" * len(result["trips"])]
        for key in (
            "matches_itself",
            "matches_itself_from_primitive_cells",
            "matches_itself_in_our_cells",
            "same_space_group_moyopy",
            "same_space_group_spglib",
            "same_space_group_spglib_before_and_after",
            "median_rms",
            "largest_rms",
        ):
            cells = [found[key] for found in result["trips"].values()]
            shown = [_share(cell) if isinstance(cell, Rate) else _decimal(cell) for cell in cells]
            lines.append(f"| {key.replace('_', ' ')} | " + " | ".join(shown) + " |")
        lines += ["", f"Did not come back: {_listed(result['trips']['all']['reasons'])}."]
        lines += [f"Rows that do not match themselves: {', '.join(result['not_matched']) or 'none'}."]
        lines += [f"Space groups drawn from: {result['space_groups']}.", ""]
        lines += [
            "A row that cannot be written, or takes too long, fails everything and stays in the denominator. Match:",
            "StructureMatcher(stol=0.5, ltol=0.3, angle_tol=10); rms over (volume / atoms)^(1/3). The space group",
            "found in the crystal that came back is compared with the one written, and spglib's also with what spglib",
            "finds in the crystal as it came. Intervals are Wilson's at 95 %.",
            "",
            "*From primitive cells*: the same matcher, given primitive cells of the two instead of the conventional",
            "cell that the text expands to and the cell of the file. *In our cells*: where the matcher finds no match,",
            "once more without its own search for a primitive cell (tolerance 0.25 angstrom), which takes one of two",
            "nearly equal crystals for a smaller one now and then, and not the same one in every cell.",
            "",
        ]
    if result["speed"]:
        found = result["speed"]
        lines += [
            f"Speed on one core, {found['structures']} structures, tables warm: {found['into_text_per_s']:.0f}",
            "structures/s into text (symmetry search included),",
            f"{found['text_to_structure_per_s']:.0f} texts/s back to pymatgen structures.",
            "",
        ]
    made = result["provenance"]
    lines += [
        f"Made by `{made['command']}`, commit {made['commit']}, {made['time_utc']}, seed {made['config']['seed']}."
    ]
    return "\n".join(lines) + "\n"


def _listed(found: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in found.items()) or "none"


def _share(rate: Rate) -> str:
    # Targets such as 99.9 % need a second decimal.
    low, high = rate.interval_95
    share = "undefined" if rate.share is None else f"{100 * rate.share:.2f}%, {100 * low:.2f}-{100 * high:.2f}"
    return f"{rate.passed}/{rate.attempted} ({share})"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"


def plain(value: Any) -> Any:
    """The result as JSON can hold it."""
    if isinstance(value, Rate):
        return value.to_json()
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value

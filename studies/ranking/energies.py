"""Energies of the candidates that `studies.ranking.collect` found: as given, and after a race.

`python -m studies.ranking.energies EVIDENCE OUT [--most N]` writes the first N targets of EVIDENCE (of at most
`--max-sites` atoms) again, with `energy` and `relaxed_energy` (eV/atom) of every candidate by the packaged potential.
The same command continues a run that was stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crystallm.crystal.cell import Rejection
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.protocol import NoEnergy, Potential
from crystallm.energy.relaxation.race import race
from crystallm.tokenizer.layout import get_layout


def with_energies(line: dict[str, Any], potential: Potential) -> dict[str, Any]:
    """A line with the energies of its candidates; null where there is none."""
    layout = get_layout("wyckoff")
    crystals = [layout.read(one["text"]) for one in line["candidates"]]
    able = [place for place, crystal in enumerate(crystals) if not isinstance(crystal, Rejection)]
    results = race([crystal for crystal in crystals if not isinstance(crystal, Rejection)], potential) if able else []
    candidates: list[dict[str, Any]] = [dict(one) for one in line["candidates"]]
    for place, result in zip(able, results, strict=True):
        if not isinstance(result, NoEnergy):
            candidates[place] |= {
                "energy": round(result.energy_as_given, 5),
                "relaxed_energy": round(result.energy, 5),
                "relaxation": result.stopped.name,
            }
    return line | {"candidates": candidates}


def chosen(lines: Sequence[str], done: set[str], *, most: int, max_sites: int) -> Iterator[dict[str, Any]]:
    """The lines that are wanted and not done."""
    number = 0
    for text in lines:
        line = json.loads(text)
        if not line["candidates"] or max(one["n_sites"] for one in line["candidates"]) > max_sites:
            continue
        number += 1
        if number > most:
            return
        if line["target"] not in done:
            yield line


def main() -> None:
    """Append the lines that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evidence", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--most", type=int, default=10**9)
    parser.add_argument("--max-sites", type=int, default=20)
    options = parser.parse_args()
    old = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    done = {json.loads(line)["target"] for line in old}
    potential = load_potential()
    lines = options.evidence.read_text(encoding="utf-8").splitlines()
    with options.out.open("a", encoding="utf-8") as file:
        for line in chosen(lines, done, most=options.most, max_sites=options.max_sites):
            file.write(json.dumps(with_energies(line, potential)) + "\n")
            file.flush()


if __name__ == "__main__":
    main()

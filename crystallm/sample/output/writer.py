"""Writes and prints the answer of each prompt as soon as there is one: crystal files, crystals.jsonl, a table."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from crystallm.base.provenance import write_text
from crystallm.base.whole_file import cannot_write
from crystallm.base.workers import Lost, run_limited
from crystallm.crystal.checks.validity import Checks
from crystallm.sample.config import OutputConfig
from crystallm.sample.crystal import Crystal
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.formats import text_of
from crystallm.sample.output import folder
from crystallm.sample.output.table import Entry, prompt_table, ranked_lines
from crystallm.sample.prompts import NamedPrompt

CHECK_TIME_LIMIT_S = 60.0
"""For the checks of one crystal; beyond it they fail."""


class Writer:
    """The ranking of a run's folder, written from the start: what an earlier run ranked is removed."""

    def __init__(self, out: Path, prompts: Sequence[NamedPrompt], config: OutputConfig) -> None:
        self.out = out
        self.config = config
        self._folders = folder.prompt_folders(prompts)
        self._several = len(prompts) > 1
        folder.remove_ranking(out)

    def add(self, item: NamedPrompt, attempts: Sequence[Attempt], crystals: Sequence[Crystal]) -> None:
        """Check, write and print the ranked crystals of a prompt.

        Args:
            item: the prompt.
            attempts: all its draws.
            crystals: its answer, best first.

        Raises:
            InputError: a file cannot be written.
        """
        kind = self.config.checks
        if self._several and kind == "fast":
            import scipy.spatial  # noqa: F401 - by some checks, whose workers would import it for each prompt anew
        verdicts = [None] * len(crystals) if kind == "none" else check_all(crystals, reference=kind == "reference")
        entries = [
            Entry(rank, crystal, self._file(item, rank, crystal, len(crystals)), checks)
            for rank, (crystal, checks) in enumerate(zip(crystals, verdicts, strict=True), start=1)
        ]
        # The list first: what it names is ours to replace, should the writing of crystals be cut short.
        lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in ranked_lines(entries))
        try:
            with (self.out / folder.RANKING).open("a", encoding="utf-8") as file:
                file.write(lines)
        except OSError as error:
            raise cannot_write(self.out / folder.RANKING, error) from error
        for entry in entries:
            for name in self.config.formats:
                file_path = folder.in_format(self.out / entry.file, name)
                file_path.parent.mkdir(exist_ok=True)
                write_text(file_path, text_of(entry.crystal, name), durable=False)  # made again from the draws
        tqdm.write(prompt_table(item, attempts, entries, lattice=self.config.lattice) + "\n")

    def _file(self, item: NamedPrompt, rank: int, crystal: Crystal, count: int) -> str:
        """Name of a crystal's first file, below the folder of the run."""
        width = max(2, len(str(count)))
        name = folder.crystal_name(rank, crystal, width, self.config.formats[0])
        return Path(self._folders[item.name], name).as_posix()


def check_all(crystals: Sequence[Crystal], *, reference: bool = False) -> list[Checks]:
    """Checks of every crystal, each within a time limit; beyond it they are undecided.

    Args:
        crystals: to check, as they are written.
        reference: whether by the reference path, some 50 times slower.

    Returns:
        The verdicts, in order.
    """
    # Imported only now: runs without checks need not wait for it.
    from crystallm.crystal.checks.paths import CHECKS_PATHS
    from crystallm.crystal.checks.validity import undecided_checks

    results: dict[int, Checks] = {}
    workers = min(len(crystals), os.cpu_count() or 1) if reference else 1
    cifs = [crystal.cif for crystal in crystals]
    path = CHECKS_PATHS.reference if reference else CHECKS_PATHS.accelerator
    with tqdm(total=len(cifs), desc="checking", unit="crystal", disable=None, leave=False) as bar:
        calls = run_limited(
            path.load(),
            cifs,
            workers=workers,
            time_limit_s=CHECK_TIME_LIMIT_S,
            warm_up=path.warm_up,
        )
        for index, result in calls:
            results[index] = undecided_checks(str(result.fate), result.detail) if isinstance(result, Lost) else result
            bar.update()
    return [results[index] for index in range(len(crystals))]

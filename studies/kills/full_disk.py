"""Runs commands on disks that fill, makes room, gives them again, and compares what they made with a calm run.

python -m studies.kills.full_disk --out eval/reports/kills

A disk is a tmpfs of a share of what the command writes when there is room; mounting it needs root.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crystallm.base.provenance import output_folder, provenance, write_json, write_text
from studies.kills.commands import Command, commands, write_inputs, writers
from studies.kills.kill import differences, last_words, load_libraries, run_until

SHARES = (0.03, 0.2, 0.5, 0.8)
"""Of the room that the result takes."""
BLOCK = 4096
ROOM = "400m"


@dataclass
class Filled:
    """What became of one command."""

    command: str
    bytes: int
    """Of the result of the calm run."""
    full: int = 0
    """Runs that ended for lack of room."""
    without_message: list[str] = field(default_factory=list)
    """Ends with another exit code than 2, or without a sentence that says that room is lacking."""
    not_resumed: list[str] = field(default_factory=list)
    """What the same command said when there was room again, where it did not end well."""
    differing: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every promise held."""
        return not (self.without_message or self.not_resumed or self.differing)


def mount(place: Path, size: str, *, again: bool = False) -> None:
    """A file system of its own, of a size such as `400m`; again: change the size of one that is there."""
    options = f"remount,size={size}" if again else f"size={size}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)


def study(command: Command, folder: Path, shares: Sequence[float]) -> Filled:
    """Run a command on a disk for each of some shares of the room that it takes."""
    log = folder / "log"
    for name in ("first", "calm"):  # the first one fills caches
        if (code := run_until(command.arguments(folder / name), log, kill_after=None)) != 0:
            raise RuntimeError(f"{command.name} ended with {code} on a disk with room: {last_words(log)}")
    truth = command.result(folder / "calm")
    calm = [folder / "calm", *(folder / "calm").rglob("*")]
    size = sum(-(-file.stat().st_size // BLOCK) * BLOCK for file in calm if file.is_file())
    outcome = Filled(command.name, size)
    for share in shares:
        disk = output_folder(folder / f"disk{share}")
        mount(disk, str(max(BLOCK, int(share * size))))
        try:
            code = run_until(command.arguments(disk / "out"), log, kill_after=None)
            if code == 0:
                continue
            outcome.full += 1
            words = last_words(log)
            outcome.messages.append(words)
            told = any(sign in words for sign in ("No space left", "os error 28", "make room"))
            if code != 2 or not told or "Traceback" in log.read_text(errors="replace"):
                outcome.without_message.append(f"at {share:g}, exit code {code}: {words}")
            mount(disk, ROOM, again=True)
            code = run_until(command.arguments(disk / "out"), log, kill_after=None)
            if code != 0:
                outcome.not_resumed.append(f"at {share:g}, exit code {code}: {last_words(log)}")
            elif different := differences(command.result(disk / "out"), truth):
                outcome.differing.append(f"at {share:g}: {', '.join(different)}")
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)
    return outcome


def markdown(outcomes: Sequence[Filled]) -> str:
    """The table of a report."""
    lines = [
        "# Commands on disks that fill",
        "",
        "| command | bytes | full disks | no sentence | not resumed | differing |",
    ]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for one in outcomes:
        counts = (one.bytes, one.full, len(one.without_message), len(one.not_resumed), len(one.differing))
        lines.append(f"| {one.command} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run the study and write its report; 0 if every promise held."""
    parser = argparse.ArgumentParser(prog="python -m studies.kills.full_disk", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="commands, such as 'data prepare'")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="of the room needed (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for full_disk.json and .md")
    options = parser.parse_args(argv)
    load_libraries()
    outcomes = []
    with tempfile.TemporaryDirectory() as name:
        write_inputs(Path(name) / "inputs")
        inputs = Path(name) / "inputs"
        for command in [*commands(inputs), *writers(inputs)]:
            if options.only and command.name not in options.only:
                continue
            folder = output_folder(Path(name) / command.name.replace(" ", "_"))
            outcomes.append(study(command, folder, options.shares))
            print(outcomes[-1], flush=True)
    out = output_folder(options.out)
    report: dict[str, Any] = {"outcomes": [vars(one) for one in outcomes], "provenance": provenance()}
    write_json(out / "full_disk.json", report)
    write_text(out / "full_disk.md", markdown(outcomes))
    return 0 if all(one.clean for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())

"""One sampling run: draw what is missing in its folder, then rank, check, write and print what is there."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from crystallm.crystal.layout import get_layout
from crystallm.crystal.limited import Lost, run_limited
from crystallm.crystal.text_layout import TextLayout
from crystallm.model.checkpoint import TEMPLATES_FILE
from crystallm.provenance import provenance, sha256, write_text
from crystallm.sample import folder
from crystallm.sample.config import SampleConfig
from crystallm.sample.device import Precision, chosen_device, native_precision
from crystallm.sample.garbage import old_objects_left_alone
from crystallm.sample.generator import Attempt, Crystal, Generator, rank
from crystallm.sample.parts import gather, joined_processes, part_file, read_all_records
from crystallm.sample.plans import waits
from crystallm.sample.prompts import NamedPrompt
from crystallm.sample.records import RECORDS, RecordFile, attempt_of, record_of
from crystallm.sample.shares import shares, work_of
from crystallm.sample.table import Entry, prompt_table, ranked_lines

if TYPE_CHECKING:
    from accelerate import PartialState

    from crystallm.crystal.validity import Checks

CHECK_TIME_LIMIT_S = 60.0
"""For the checks of one crystal; beyond it they fail."""


def run(
    prompts: Sequence[NamedPrompt],
    config: SampleConfig,
    *,
    model: Path,
    layout_name: str,
    out: Path | None = None,
    prompts_file: Path | None = None,
    merge: bool = True,
    checks: bool = True,
    device: str | None = None,
    precision: Precision | None = None,
) -> Path:
    """Draw, rank, write and print; returns the folder. Draws already in the folder are not made again.

    Started as several processes, each makes its share of the draws, and the first one does the rest.
    """
    precision = precision or native_precision(chosen_device(device))
    label = f"{model.resolve().name}@{sha256(model / 'model.safetensors')[:12]}"
    library = model / TEMPLATES_FILE
    templates = sha256(library)[:12] if config.guide and library.is_file() else None
    settings = folder.run_settings(prompts, config, label) | {"precision": precision, "templates": templates}
    state = joined_processes()
    first = state is None or state.is_main_process
    if first:
        out = folder.open_folder(out, folder.run_title(prompts, prompts_file), settings)
    if state is not None:
        from accelerate.utils import broadcast_object_list

        (out,) = broadcast_object_list([out])
    assert out is not None
    layout = get_layout(layout_name)
    with folder.only_writer(out) if first else nullcontext():  # what the other processes write belongs to the first
        try:
            draw(
                out,
                prompts,
                config,
                model,
                label,
                settings,
                device=device,
                precision=precision,
                file=prompts_file,
                state=state,
            )
            if state is not None:
                state.wait_for_everyone()
                # Its threads, if left to the end of the interpreter, may abort the process, and that ends the others.
                state.destroy_process_group()
            if not first:
                return out
            gather(out)
            attempts = read_attempts(out, prompts, layout)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "No Pauling electronegativity")  # pymatgen, for each noble gas
                rankings = write_ranking(out, prompts, attempts, merge=merge, checks=checks)
        except KeyboardInterrupt:
            if first:
                done = sum(1 for _ in read_all_records(out))
                print(
                    f"stopped; {done} of {len(prompts) * config.n} draws are kept in {out / RECORDS}; "
                    "the same command continues",
                    file=sys.stderr,
                )
            raise
    for item in prompts:
        print(prompt_table(item, attempts[item.name], rankings[item.name]), end="\n\n")
    print(f"seed {config.seed}, temperature {config.temperature:g}, {_truncation(config)}model {label}, {precision}")
    print(f"CIFs: {out if len(prompts) == 1 else out / '*'}/*.cif; every draw: {out / RECORDS}")
    return out


def draw(
    out: Path,
    prompts: Sequence[NamedPrompt],
    config: SampleConfig,
    model: Path,
    label: str,
    settings: dict[str, Any],
    *,
    device: str | None,
    precision: Precision,
    file: Path | None,
    state: PartialState | None,
) -> None:
    """Make this process's share of the draws that the folder does not hold yet; each is appended as it ends."""
    done = {(record["target_id"], record["sample"]) for record in read_all_records(out)}
    missing = [(item.name, n) for item in prompts for n in range(config.n) if (item.name, n) not in done]
    first = state is None or state.is_main_process
    if state is not None:
        named = {item.name: item for item in prompts}
        # The draws of a prompt that wait for each other stay together.
        units = [(name, -1 if waits(named[name], config) else number) for name, number in missing]
        work = Counter[tuple[str, int]]()
        for unit in units:
            work[unit] += work_of(named[unit[0]].prompt)
        dealt = shares(list(work.values()), state.num_processes)[state.process_index]
        own = {list(work)[place] for place in dealt}
        missing = [draw for draw, unit in zip(missing, units, strict=True) if unit in own]
        device = device or str(state.device)
        state.wait_for_everyone()  # nobody appends before everybody has read
    if first and missing:
        inputs = [model, *([file] if file else [])]
        folder.add_run(out, settings, provenance(config, inputs=inputs))
    if not missing:
        return
    generator = Generator.from_pretrained(model, device=device, precision=precision)
    mine = set(missing)
    draws = generator.attempts(prompts, config, skip=lambda name, number: (name, number) not in mine)
    with (
        old_objects_left_alone(),
        RecordFile(part_file(out, state)) as records,
        tqdm(total=len(missing), desc="drawing", unit="crystal", disable=None if first else True, leave=False) as bar,
    ):
        for attempt in draws:
            records.append(record_of(attempt, config, label))
            bar.update()


def read_attempts(out: Path, prompts: Sequence[NamedPrompt], layout: TextLayout) -> dict[str, list[Attempt]]:
    """All draws in the folder by name of their prompt, in the order of their numbers."""
    named = {item.name: item for item in prompts}
    attempts: dict[str, list[Attempt]] = {name: [] for name in named}
    for record in read_all_records(out):
        name = record["target_id"]
        attempts[name].append(attempt_of(record, named[name], layout))
    return {name: sorted(found, key=lambda attempt: attempt.number) for name, found in attempts.items()}


def write_ranking(
    out: Path, prompts: Sequence[NamedPrompt], attempts: dict[str, list[Attempt]], *, merge: bool, checks: bool
) -> dict[str, list[Entry]]:
    """Rank the crystals of every prompt, write their CIFs and crystals.jsonl."""
    folder.remove_ranking(out)
    folders = folder.prompt_folders(prompts)
    places: list[tuple[str, int, Crystal, str]] = []
    for item in tqdm(prompts, desc="ranking", unit="prompt", disable=None if len(prompts) > 1 else True, leave=False):
        crystals = rank(attempts[item.name], merge=merge)
        width = max(2, len(str(len(crystals))))
        for place, crystal in enumerate(crystals, start=1):
            file = Path(folders[item.name], folder.cif_name(place, crystal, width)).as_posix()
            places.append((item.name, place, crystal, file))
    verdicts = check_all([crystal for _, _, crystal, _ in places]) if checks else [None] * len(places)
    rankings: dict[str, list[Entry]] = {item.name: [] for item in prompts}
    for (name, place, crystal, file), verdict in zip(places, verdicts, strict=True):
        rankings[name].append(Entry(place, crystal, file, verdict))
    lines = ranked_lines(entry for entries in rankings.values() for entry in entries)
    # The list first: what it names is ours to replace, should the writing of CIFs be cut short.
    write_text(out / folder.RANKING, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    for _, _, crystal, file in places:
        (out / file).parent.mkdir(exist_ok=True)
        write_text(out / file, crystal.cif)
    return rankings


def check_all(crystals: Sequence[Crystal]) -> list[Checks]:
    """Reference checks of every crystal, each within a time limit."""
    # Imported only now: runs without checks need not wait for it.
    from crystallm.crystal.validity import check_cif, failed_checks

    results: dict[int, Checks] = {}
    workers = min(len(crystals), os.cpu_count() or 1)
    cifs = [crystal.cif for crystal in crystals]
    with tqdm(total=len(cifs), desc="checking", unit="crystal", disable=None, leave=False) as bar:
        for index, result in run_limited(check_cif, cifs, workers=workers, time_limit_s=CHECK_TIME_LIMIT_S):
            results[index] = failed_checks(str(result.fate), result.detail) if isinstance(result, Lost) else result
            bar.update()
    return [results[index] for index in range(len(crystals))]


def _truncation(config: SampleConfig) -> str:
    told = [f"top-k {config.top_k}"] if config.top_k else []
    told += [f"top-p {config.top_p:g}"] if config.top_p < 1 else []
    told += [f"repeat {config.repeat:g}"] if config.repeat < 1 else []
    return "".join(f"{part}, " for part in told)

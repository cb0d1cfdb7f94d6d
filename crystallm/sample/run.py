"""One sampling run: draw what is missing in its folder; answer, write and print prompt by prompt."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from crystallm.base.folder_lock import only_writer
from crystallm.base.provenance import provenance, sha256
from crystallm.crystal.checks.paths import CHECKS_PATHS, SYMMETRY_PATHS
from crystallm.model.checkpoint import TEMPLATES_FILE
from crystallm.sample.answers.assess import Assessor
from crystallm.sample.answers.search.further import FurtherDraws
from crystallm.sample.config import AnswerConfig, OutputConfig, SampleConfig
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.formats import FILE_SUFFIX
from crystallm.sample.garbage import old_objects_left_alone
from crystallm.sample.output import folder
from crystallm.sample.output.missing import Missing, all_of, deal
from crystallm.sample.output.process_parts import gather, joined_processes, part_file, read_all_records
from crystallm.sample.output.records import RECORDS, RecordFile, as_recorded, attempt_of, record_of
from crystallm.sample.output.writer import Writer
from crystallm.sample.prompts import NamedPrompt
from crystallm.tokenizer.layout import get_layout
from crystallm.tokenizer.text_layout import TextLayout

if TYPE_CHECKING:
    from accelerate import PartialState

    from crystallm.sample.decoding.decoders import DecoderName
    from crystallm.sample.decoding.device import Precision
    from crystallm.sample.generator import Generator


def run(
    prompts: Sequence[NamedPrompt],
    config: SampleConfig,
    *,
    model: Path,
    layout_name: str,
    answers: AnswerConfig | None = None,
    output: OutputConfig | None = None,
    out: Path | None = None,
    prompts_file: Path | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    decoder: DecoderName = "compiled",
) -> Path:
    """Draw, answer, write and print; returns the folder. Draws already in the folder are not made again.

    Started as several processes, each makes its share of the draws, and the first one does the rest. A single process
    writes and prints each prompt as soon as its draws have ended.
    """
    answers, output = answers or AnswerConfig(), output or OutputConfig()
    draws = answers.known != "only"
    if draws:
        # Imported only now, with torch: what is only looked up does without.
        from crystallm.sample.decoding.device import chosen_device, native_precision

        precision = precision or native_precision(chosen_device(device))
    label = f"{model.resolve().name}@{sha256(model / 'model.safetensors')[:12]}"
    library = model / TEMPLATES_FILE
    templates = sha256(library)[:12] if config.guide and library.is_file() else None
    settings = folder.run_settings(prompts, config, label) | {"templates": templates}
    if draws:
        settings |= {"precision": precision, "decoder": decoder}
    state = joined_processes()
    first = state is None or state.is_main_process
    if first:
        out = folder.open_folder(out, folder.run_title(prompts, prompts_file), settings)
    if state is not None:
        from accelerate.utils import broadcast_object_list

        (out,) = broadcast_object_list([out])
    assert out is not None
    layout = get_layout(layout_name)
    device = device or (None if state is None else str(state.device))
    how = (device, precision, decoder, output.checks)
    job = _Job(out, prompts, config, answers, model, label, settings, *how, prompts_file)
    # What the other processes write belongs to the first.
    with only_writer(out, remedy="choose another --out") if first else nullcontext():
        try:
            if state is None:
                _draw_and_answer(job, output, layout)
            else:
                for _ in _draw(job, _missing(job, state), state):
                    pass
                state.wait_for_everyone()
                # Its threads, if left to the end of the interpreter, may abort the process, and that ends the others.
                state.destroy_process_group()
                if not first:
                    return out
                gather(out)
                _answer_all(job, output, layout)
        except KeyboardInterrupt:
            if first:
                done = sum(1 for _ in read_all_records(out))
                print(
                    f"stopped; {done} of {len(prompts) * job.n} draws are kept in {out / RECORDS}; "
                    "the same command continues",
                    file=sys.stderr,
                )
            raise
    _print_end(job, output)
    return out


@dataclass(frozen=True)
class _Job:
    """What a run is about."""

    out: Path
    prompts: Sequence[NamedPrompt]
    config: SampleConfig
    answers: AnswerConfig
    model: Path
    label: str
    settings: dict[str, Any]
    device: str | None
    precision: Precision | None
    decoder: DecoderName
    checks: str
    """Their path, or `none`."""
    file: Path | None

    @property
    def n(self) -> int:
        """Draws for each prompt."""
        return 0 if self.answers.known == "only" else self.config.n

    @cached_property
    def generator(self) -> Generator:
        """What draws; loaded when it is first asked for, once for the draws of the run and those of its searches."""
        from crystallm.sample.generator import Generator

        return Generator.from_pretrained(self.model, device=self.device, precision=self.precision, decoder=self.decoder)


def _missing(job: _Job, state: PartialState | None) -> Missing:
    """This process's share of the draws that are missing."""
    done = ((record["target_id"], record["sample"]) for record in read_all_records(job.out))
    if state is None:
        return Missing(all_of(job.prompts), job.n, done)
    own = deal(job.prompts, job.config, process=state.process_index, processes=state.num_processes)
    missing = Missing(own, job.n, done)
    state.wait_for_everyone()  # nobody appends before everybody has read
    return missing


def _draw(job: _Job, missing: Missing, state: PartialState | None) -> Iterator[Attempt]:
    """Make the missing draws; each is in the folder before it is yielded."""
    prompts = [item for item in job.prompts if missing.left(item.name)]
    if not prompts:
        return
    first = state is None or state.is_main_process
    if first:
        _note_run(job)
    draws = job.generator.attempts(prompts, job.config, skip=lambda name, number: (name, number) not in missing)
    with (
        old_objects_left_alone(),
        RecordFile(part_file(job.out, state)) as records,
        tqdm(total=missing.total, desc="drawing", unit="crystal", disable=None if first else True, leave=False) as bar,
    ):
        for attempt in map(as_recorded, draws):
            records.append(record_of(attempt, job.config, job.label))
            bar.update()
            yield attempt


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _note_run(job: _Job) -> None:
    inputs = [job.model, *([job.file] if job.file else [])]
    folder.add_run(job.out, job.settings, provenance(job.config, inputs=inputs) | {"judges": _judges(job)})


def _judges(job: _Job) -> dict[str, Any]:
    """Who computed and who judged: name, whose verdict it is, versions."""
    told = {} if job.checks == "none" else {"checks": CHECKS_PATHS[job.checks].to_json()}
    if job.n:
        from crystallm.sample.decoding.decoders import DECODERS

        told["decoder"] = DECODERS[job.decoder].to_json()
        told["symmetry of draws"] = SYMMETRY_PATHS[job.config.symmetry_path].to_json()
    return told


class _Answers:
    """Answers the prompts of a run, each when its last draw has ended."""

    def __init__(self, job: _Job, output: OutputConfig, layout: TextLayout) -> None:
        self._prompts = {item.name: item for item in job.prompts}
        self._attempts = read_attempts(job.out, job.prompts, layout)
        further = FurtherDraws(lambda: job.generator, job.config) if job.n else None
        self._assessor = Assessor.open(
            job.model, job.answers, drawing=job.config, out=job.out, further=further, tell=_tell
        )
        self._writer = Writer(job.out, job.prompts, output)

    def add(self, attempt: Attempt) -> None:
        """Note a draw that was just made."""
        self._attempts[attempt.prompt.name].append(attempt)

    def finish(self, name: str) -> None:
        """Answer a prompt, all of whose draws have ended; they are forgotten."""
        item, attempts = self._prompts[name], sorted(self._attempts.pop(name), key=lambda attempt: attempt.number)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No Pauling electronegativity")  # pymatgen, for each noble gas
            self._writer.add(item, attempts, self._assessor.answer(item, attempts))


def _draw_and_answer(job: _Job, output: OutputConfig, layout: TextLayout) -> None:
    """Draw what is missing; a prompt is answered as soon as nothing of it is."""
    missing = _missing(job, None)
    if not missing.total and not folder.read_provenance(job.out):  # nothing is drawn here, now or before
        _note_run(job)
    left = {item.name: missing.left(item.name) for item in job.prompts}
    answers = _Answers(job, output, layout)
    for item in job.prompts:
        if not left[item.name]:
            answers.finish(item.name)
    for attempt in _draw(job, missing, None):
        answers.add(attempt)
        left[attempt.prompt.name] -= 1
        if not left[attempt.prompt.name]:
            answers.finish(attempt.prompt.name)


def _answer_all(job: _Job, output: OutputConfig, layout: TextLayout) -> None:
    """Answer every prompt from the draws in the folder."""
    answers = _Answers(job, output, layout)
    for item in job.prompts:
        answers.finish(item.name)


def read_attempts(out: Path, prompts: Sequence[NamedPrompt], layout: TextLayout) -> dict[str, list[Attempt]]:
    """All draws in the folder by name of their prompt, in the order of their numbers."""
    named = {item.name: item for item in prompts}
    attempts: dict[str, list[Attempt]] = {name: [] for name in named}
    for record in read_all_records(out):
        name = record["target_id"]
        attempts[name].append(attempt_of(record, named[name], layout))
    return {name: sorted(found, key=lambda attempt: attempt.number) for name, found in attempts.items()}


def _print_end(job: _Job, output: OutputConfig) -> None:
    config, out = job.config, job.out
    drawn = f"seed {config.seed}, temperature {config.temperature:g}, {_truncation(config)}"
    print(f"{drawn}model {job.label}, {job.precision}" if job.n else f"model {job.label}")
    suffix = FILE_SUFFIX[output.formats[0]]
    files = f"crystals: {out if len(job.prompts) == 1 else out / '*'}/*{suffix}"
    print(files + (f"; every draw: {out / RECORDS}" if job.n else ""))


def _truncation(config: SampleConfig) -> str:
    told = [f"top-k {config.top_k}"] if config.top_k else []
    told += [f"top-p {config.top_p:g}"] if config.top_p < 1 else []
    told += [f"repeat {config.repeat:g}"] if config.repeat < 1 else []
    return "".join(f"{part}, " for part in told)

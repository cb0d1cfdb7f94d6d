"""`samples.jsonl`: one line for every draw, appended as it ends; read to go on after a kill and to rank."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from crystallm.base.errors import InputError
from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import write_cif
from crystallm.crystal.formulas.composition import format_formula
from crystallm.crystal.symmetry import space_group_symbol
from crystallm.crystal.wyckoff import space_group
from crystallm.sample.config import SampleConfig
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.drawing.template_guide import Followed
from crystallm.sample.grammar.symmetry_search import Searched
from crystallm.sample.prompts import NamedPrompt
from crystallm.tokenizer.text_layout import TextLayout

RECORDS = "samples.jsonl"
FINISHED, UNFINISHED = "finished", "given up"


DECIMALS = 6
"""Of log-probabilities in a record."""


def as_recorded(attempt: Attempt) -> Attempt:
    """A draw with its log-probabilities as a record holds them: what is made of it does not depend on a resumption."""
    return replace(
        attempt,
        token_log_probabilities=tuple(round(score, DECIMALS) for score in attempt.token_log_probabilities),
        protostructure_log_probability=round(attempt.protostructure_log_probability, DECIMALS),
        ranking_log_probability=round(attempt.ranking_log_probability, DECIMALS),
    )


def record_of(attempt: Attempt, config: SampleConfig, model: str) -> dict[str, Any]:
    """A draw as a JSON object. `target_id`, `sample`, `cif` and `log_probability` are what `crystallm eval` reads."""
    name, asked = attempt.prompt.name, attempt.prompt.prompt
    crystal = attempt.description
    attempt = as_recorded(attempt)
    scores = list(attempt.token_log_probabilities)
    total = round(sum(scores), DECIMALS)
    return {
        "id": f"{name}/{attempt.number}",
        "target_id": name,
        "sample": attempt.number,
        "prompt": {
            "formula": asked.formula,
            "formula_units": asked.formula_units,
            "space_group": asked.space_group,
        },
        "status": UNFINISHED if crystal is None else FINISHED,
        "reason": attempt.reason,
        "formula": None if crystal is None else format_formula(crystal.amounts),
        "formula_units": None if crystal is None else crystal.formula_units,
        "z": None if crystal is None else crystal.formula_units * space_group(crystal.space_group).centring_order,
        "space_group": None if crystal is None else crystal.space_group,
        "symbol": None if crystal is None else space_group_symbol(crystal.space_group),
        "text": attempt.text,
        "cif": None if crystal is None else write_cif(crystal),
        "log_probability": total,
        "mean_log_probability": round(total / len(scores), DECIMALS) if scores else None,
        "protostructure_log_probability": attempt.protostructure_log_probability,
        "ranking_log_probability": attempt.ranking_log_probability,
        "token_log_probabilities": scores,
        "n_free": len(scores),
        "n_tokens": attempt.n_tokens,
        "steps": attempt.steps,
        "redrawn": dict(attempt.redrawn),
        "searched": None if attempt.searched is None else asdict(attempt.searched),
        "template": None if attempt.followed is None else asdict(attempt.followed),
        "seed": config.seed,
        "temperature": config.temperature,
        "top_k": config.top_k,
        "top_p": config.top_p,
        "repeat": config.repeat,
        "contact": config.contact,
        "guide": config.guide,
        "bond_tries": config.bond_tries,
        "model": model,
    }


def attempt_of(record: Mapping[str, Any], prompt: NamedPrompt, layout: TextLayout) -> Attempt:
    """The draw of a record; its crystal is read from the text. Raises InputError if the text holds none."""
    description = layout.read(record["text"]) if record["status"] == FINISHED else None
    if isinstance(description, Rejection):
        raise InputError(f"record {record['id']!r} holds no crystal ({description}); delete its line to draw it again")
    return Attempt(
        prompt=prompt,
        number=record["sample"],
        description=description,
        reason=record["reason"],
        text=record["text"],
        token_log_probabilities=tuple(record["token_log_probabilities"]),
        protostructure_log_probability=record["protostructure_log_probability"],
        ranking_log_probability=record["ranking_log_probability"],
        n_tokens=record["n_tokens"],
        steps=record["steps"],
        redrawn=record["redrawn"],
        searched=None if record["searched"] is None else Searched(**record["searched"]),
        followed=None if record["template"] is None else Followed(**record["template"]),
    )


class RecordFile:
    """Appends records so that a kill costs at most the line being written; such a line is removed when reopened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> RecordFile:
        try:
            whole = self.path.read_bytes().rfind(b"\n") + 1 if self.path.exists() else 0
            self._file = self.path.open("ab")
            self._file.truncate(whole)
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}; choose another --out") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._file is not None:
            with suppress(OSError):  # of a full disk, reported before
                self._file.close()

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line through to the file system."""
        assert self._file is not None
        try:
            self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"cannot write {self.path}: {error.strerror}; what was drawn before is kept, the same command continues"
            ) from error


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file; a last line without its end is left out, any other damage is an InputError."""
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            record = json.loads(line)
            record["target_id"], record["sample"], record["status"], record["text"]
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path}, line {number} is no record of a draw; delete that line and the draw is made again"
            ) from None
        yield record

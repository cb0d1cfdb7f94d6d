"""The output folder while a preparation is under way: what may be resumed, and what must be refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystallm import __version__
from crystallm.base.config import to_mapping
from crystallm.base.errors import InputError
from crystallm.base.folder_lock import is_empty
from crystallm.base.provenance import output_folder, write_json
from crystallm.data.config import PrepareConfig
from crystallm.data.sources.sources import Source

PARTS = "parts"
REPORT = "report.json"


def manifest(config: PrepareConfig, sources: list[Source], benchmarks: list[Source]) -> dict[str, Any]:
    """Everything that decides the result; paths are reduced to names, so that a record tells nothing of the machine."""
    options = to_mapping(config)
    for name in ("sources", "exclude_matching", "out", "workers"):
        del options[name]
    return {
        "crystallm": __version__,
        "sources": [source.fingerprint() for source in sources],
        "exclude_matching": [source.fingerprint() for source in benchmarks],
        **options,
    }


@dataclass(frozen=True)
class Workspace:
    """An output folder that belongs to one manifest."""

    out: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, out: Path, wanted: dict[str, Any]) -> Workspace:
        """Take possession of `out`; InputError when it holds anything that was not made the same way."""
        output_folder(out)
        report, unfinished = out / REPORT, out / PARTS / "manifest.json"
        if report.exists():
            _require_equal(_load(report).get("manifest", {}), wanted, f"{out} holds data prepared", f"delete {out}")
        elif unfinished.exists():
            what = f"{out} holds an unfinished preparation made"
            _require_equal(_load(unfinished), wanted, what, f"delete {out / PARTS} to start anew")
        elif not _is_unused(out):
            raise InputError(f"{out} is not empty and was not made by this command; choose a new folder")
        else:
            output_folder(out / PARTS)
            write_json(unfinished, wanted)
        return cls(out, wanted)

    @property
    def finished_report(self) -> dict[str, Any] | None:
        """The report, if the work was done before."""
        report = self.out / REPORT
        return _load(report) if report.exists() else None

    @property
    def key(self) -> str:
        """A short digest of the manifest."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()[:16]

    def folder(self, step: str) -> Path:
        """Where a step keeps its parts."""
        return self.out / PARTS / step

    def clear(self) -> None:
        """Drop the parts; the results stand on their own."""
        shutil.rmtree(self.out / PARTS, ignore_errors=True)


def _is_unused(out: Path) -> bool:
    """Whether a folder holds nothing, or no more than an empty folder for parts, of a run killed as it began."""
    parts = out / PARTS
    return is_empty(out, but=PARTS) and (not parts.is_dir() or is_empty(parts))


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error}); choose another folder or delete it") from error
    return content if isinstance(content, dict) else {}


def _require_equal(found: dict[str, Any], wanted: dict[str, Any], what: str, remedy: str) -> None:
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        changes = "; ".join(f"{name} was {_short(found.get(name))}, now {_short(wanted[name])}" for name in different)
        raise InputError(f"{what} with other inputs or options ({changes}); choose another folder or {remedy}")


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(f"{item['name']} {str(item['digest'])[:8]}" for item in value) + "]"
    return repr(value)

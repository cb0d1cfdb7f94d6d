"""Where a result comes from: versions, commit, command, configuration and the hashes of the files it was made from."""

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from crystallm import __version__
from crystallm.base.config import to_mapping
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.whole_file import whole_file

PACKAGES = (
    *("torch", "transformers", "accelerate", "datasets", "tokenizers", "peft"),
    *("pymatgen", "moyopy", "spglib", "gemmi", "ase", "scipy", "numba", "chgnet"),
)


def provenance(
    config: Any = None, *, inputs: Iterable[Path] = (), command: Sequence[str] | None = None
) -> dict[str, Any]:
    """Describe how a result is made: `config` is a recipe dataclass or a mapping, `inputs` files or folders to hash.

    Paths are recorded without the folders above them, so that a record does not tell whose machine it was.
    """
    return {
        "crystallm": __version__,
        "commit": git_commit(),
        "command": _command_line(sys.argv if command is None else command),
        "time_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": _versions(),
        "config": to_mapping(config) if dataclasses.is_dataclass(config) else config,
        "inputs": {name: digest for path in inputs for name, digest in _digests(Path(path))},
    }


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def git_commit() -> str | None:
    """Return the commit this package is run from, with `+` after it when tracked files differ; None outside a clone."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # a clone around an installed package is not ours
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def output_folder(path: Path | str) -> Path:
    """Create the folder `path` where it is missing and return it; InputError where it cannot be written."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {path}: {error.strerror}; choose another place") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"no permission to write into {path}; choose another place")
    return path


def check_place(path: Path | None) -> None:
    """ConfigError where a file that will be written, if one is, has no folder or may not be written there."""
    if path is not None and not os.access(path.resolve().parent, os.W_OK):
        raise ConfigError(f"cannot write {path}: its folder is missing or not writable; choose another place")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as JSON so that a reader sees the old file or the whole new one, never a part."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, default=_plain) + "\n")


def write_text(path: Path | str, text: str, *, durable: bool = True) -> None:
    """Write a text file as `whole_file` does; InputError where the place cannot be written."""
    with whole_file(Path(path), durable=durable) as partial:
        partial.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_mapping(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"JSON cannot hold {value!r} of type {type(value).__name__}")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _command_line(arguments: Sequence[str]) -> str:
    if not arguments:
        return ""
    program = Path(arguments[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *(re.sub(r"(^|=)/(?:[^/]*/)*", r"\1", argument) for argument in arguments[1:])])


def _digests(path: Path) -> Iterable[tuple[str, str]]:
    if not path.is_dir():
        return [(path.name, sha256(path))]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return [(readable(f"{path.name}/{file.relative_to(path)}"), digest_or_reason(file)) for file in files]


def digest_or_reason(file: Path) -> str:
    """The digest of one file of a folder; one that cannot be read must not cost what was made of the others."""
    try:
        return sha256(file)
    except InputError as error:
        return f"unread: {getattr(error.__cause__, 'strerror', '')}"


def readable(text: str) -> str:
    """A text that can be printed and written: what is no character in UTF-8 is spelled out.

    Args:
        text: a file's name, or a text out of JSON; both may hold lone surrogates.

    Example:
        >>> print(readable("caf" + chr(0xDCE9) + ".cif"))
        caf\\udce9.cif
    """
    return text.encode("utf-8", "backslashreplace").decode()

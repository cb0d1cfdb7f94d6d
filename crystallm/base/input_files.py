"""Files that hold CIFs: which are taken for such, what is not opened, and how much of one is read."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import os
import re
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Literal, cast

from crystallm.base.command_line import Option
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.provenance import readable

MAX_FILE_MB = 64
"""Most megabytes of a file or of a member of an archive, as it is read and as it is when unpacked."""

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
"""How names of archives end."""

SUFFIXES = ".cif, .mcif, or either with .gz, .bz2 or .xz"

_NAME = re.compile(r"\.m?cif(\.(?P<packed>gz|bz2|xz|zst|z|zip|lz4|7z))?$", re.IGNORECASE)

_OPENERS: dict[str, Callable[[IO[bytes]], IO[bytes]]] = {
    "gz": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file)),
    "bz2": lambda file: cast("IO[bytes]", bz2.BZ2File(file)),
    "xz": lambda file: cast("IO[bytes]", lzma.LZMAFile(file)),  # noqa: SIM115
}

DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)
"""What the unpackers of the standard library raise for content that is not theirs."""


@dataclass(frozen=True)
class Unread:
    """Why a file gives no text. `empty`: it holds nothing, rather than something that is no text."""

    reason: str
    empty: bool = False


def is_cif_name(name: str) -> bool:
    """Whether a file is taken for a CIF by its name; `._x.cif`, which macOS leaves in archives, is none.

    Example:
        >>> [is_cif_name(name) for name in ("a.cif", "a.MCIF", "a.cif.gz", "._a.cif", "a.txt")]
        [True, True, True, False, False]
    """
    return _NAME.search(name) is not None and not name.startswith("._")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How CIFs are read, the same in every command that reads some."""

    trust_atoms: bool = False
    """Take the list of atoms where formula sum, Z, multiplicities or attached hydrogens contradict it."""
    max_file_mb: Annotated[float, Option(metavar="MB")] = MAX_FILE_MB
    """Files, members of archives and cells with more megabytes, packed or unpacked, are not read."""

    def __post_init__(self) -> None:
        check_limit(self.max_file_mb)


def count_refused(refused: int, total: int, done: str = "read") -> None:
    """Say on stderr how many structures could not be read, or whatever is done with them, if any.

    Raises:
        InputError: none could: the exit code is 2 then, and else 0.
    """
    if refused == total > 0:
        raise InputError(f"none of {total} structures could be {done}; the reasons stand above")
    if refused:
        print(
            f"crystallm: {refused} of {total} structures could not be {done}; the reasons stand above", file=sys.stderr
        )


def check_limit(max_file_mb: float) -> None:
    """ConfigError for a limit that no file is below."""
    if not max_file_mb > 0:
        raise ConfigError(f"max_file_mb must be above 0, got {max_file_mb:g}; the default is {MAX_FILE_MB}")


@dataclass(frozen=True)
class Found:
    """A file below a folder, by its path there; `refusal` says why it is not opened."""

    name: str
    path: Path
    refusal: str | None = None

    def text(self, max_file_mb: float = MAX_FILE_MB) -> str | Unread:
        """What it holds, or why not."""
        return Unread(self.refusal) if self.refusal else read_text(self.path, max_file_mb=max_file_mb)


def texts(path: Path, *, max_file_mb: float = MAX_FILE_MB) -> Iterator[tuple[str, str | Unread]]:
    """Name and text of each CIF of a source: a folder (with those below it), an archive, or the file that it is.

    Args:
        path: exists.
        max_file_mb: more megabytes than these of a file or member are refused, before and after unpacking.

    Raises:
        InputError: an archive cannot be opened, or holds no CIF.
    """
    if path.is_dir():
        yield from ((found.name, found.text(max_file_mb)) for found in cif_files(path))
    elif archive_kind(path) is not None:
        yield from members(path, max_file_mb=max_file_mb)
    else:
        yield readable(path.name), read_text(path, max_file_mb=max_file_mb)


def archive_kind(path: Path) -> Literal["zip", "tar"] | None:
    """What kind of archive a file is, by its content; None for anything else, a packed CIF among it.

    Raises:
        InputError: its name is one of an archive, and its content is none.
    """
    if refusal_of(path) is not None or (is_cif_name(path.name) and not path.name.lower().endswith(".zip")):
        return None
    try:
        if zipfile.is_zipfile(path):
            return "zip"
        if tarfile.is_tarfile(path):
            return "tar"
    except DAMAGED:  # packed, and cut off within the first member's heading
        pass
    if path.name.lower().endswith(ARCHIVES):
        raise InputError(f"{path} is damaged: its content is not what its name says; fetch or write it again")
    return None


def cif_files(folder: Path) -> list[Found]:
    """What is taken for a CIF below a folder, sorted by name, and the folders that cannot be looked into.

    Links to folders are not followed. What is no file, such as a named pipe, a device or a link to nowhere, is listed
    with a refusal, so that it is counted and nothing waits for it.
    """
    found: list[Found] = []

    def unreadable(error: OSError) -> None:
        path = Path(error.filename)
        name = readable(path.relative_to(folder).as_posix())
        found.append(Found(f"{name}/", path, f"the folder cannot be read: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        for name in (*files, *folders):
            path = Path(place, name)
            if is_cif_name(name):
                found.append(Found(readable(path.relative_to(folder).as_posix()), path, refusal_of(path)))
    return sorted(found, key=lambda one: one.path.relative_to(folder).parts)


def refusal_of(path: Path) -> str | None:
    """Why a path is not opened: it is no file, or a link to nothing; None for a file.

    Example:
        >>> refusal_of(Path("/dev/null"))
        'a device, not a file'
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"a link to nowhere ({error.strerror})" if path.is_symlink() else f"cannot be read: {error.strerror}"
    return next((f"{what}, not a file" for what, is_it in _KINDS.items() if is_it(mode)), None)


_KINDS: dict[str, Callable[[int], bool]] = {
    "a folder": stat.S_ISDIR,
    "a named pipe": stat.S_ISFIFO,
    "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
    "a socket": stat.S_ISSOCK,
}


def require_file(path: Path) -> None:
    """InputError where a path that a person gave is there and is neither a file nor a folder: it might never end."""
    refusal = refusal_of(path)
    if refusal is not None and not path.is_dir() and (path.exists() or path.is_symlink()):
        raise InputError(f"{path} is {refusal}; give a file")


def read_text(path: Path, *, max_file_mb: float = MAX_FILE_MB) -> str | Unread:
    """The text of a CIF file, unpacked where its name says that it is packed.

    Args:
        path: the file.
        max_file_mb: more megabytes than these are refused, before and after unpacking.
    """
    refusal = refusal_of(path)
    if refusal is not None:
        return Unread(refusal)
    try:
        with path.open("rb") as file:
            return text_of(path.name, file, size=os.fstat(file.fileno()).st_size, max_file_mb=max_file_mb)
    except OSError as error:
        return Unread(f"cannot be read: {error.strerror or error}")


def text_of(name: str, file: IO[bytes], *, size: int, max_file_mb: float = MAX_FILE_MB) -> str | Unread:
    """The text in an open file, or member of an archive, unpacked where its name says so.

    Args:
        name: of the file; its end decides how it is unpacked.
        file: open for reading bytes.
        size: bytes that it is said to have; nothing is read if these are too many.
        max_file_mb: more megabytes than these are refused, before and after unpacking.
    """
    limit = int(max_file_mb * 1e6)
    if (refusal := why_too_large(size, max_file_mb)) is not None:
        return refusal
    packed = _NAME.search(name)
    kind = packed["packed"].lower() if packed is not None and packed["packed"] else None
    if kind is not None and kind not in _OPENERS:
        return Unread(f"packed as .{kind}; unpack it, or pack it as .gz, .bz2 or .xz")
    try:
        found = (_OPENERS[kind](file) if kind else file).read(limit + 1)
    except DAMAGED as error:
        if not kind and isinstance(error, OSError):
            raise
        return Unread(f"damaged: {error}")
    if len(found) > limit:
        return Unread(f"unpacks to more {_LIMIT.format(max_file_mb)}")
    return decoded(found)


_LIMIT = "than the {:g} MB of max_file_mb; raise that if it is meant"


def why_too_large(size: int, max_file_mb: float) -> Unread | None:
    """A refusal of what has more bytes than the limit allows.

    Example:
        >>> print(why_too_large(65_000_000, 64).reason)
        65 MB, more than the 64 MB of max_file_mb; raise that if it is meant
    """
    if size <= int(max_file_mb * 1e6):
        return None
    return Unread(f"{size / 1e6:.3g} MB, more {_LIMIT.format(max_file_mb)}")


def decoded(content: bytes) -> str | Unread:
    """The text of a file; old CIFs hold author names in Latin-1, so only a zero byte shows that it is no text at all.

    Example:
        >>> decoded("Müller".encode("latin-1"))
        'Müller'
    """
    if not content.strip():
        return Unread("the file is empty", empty=True)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # "Unicode" of Windows editors
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError:
            return Unread("binary content, not a CIF")
    if b"\0" in content:
        return Unread("binary content, not a CIF")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def members(path: Path, *, max_file_mb: float = MAX_FILE_MB) -> Iterator[tuple[str, str | Unread]]:
    """Name and text of each CIF in a zip or tar archive, compressed or not.

    Members of a zip come sorted by name, as the files of a folder; those of a tar as they lie there, since it is read
    from its beginning to its end.

    A member that is damaged, locked, too large or no file is told of; it costs none of the others.

    Raises:
        InputError: the archive cannot be opened, or holds no CIF.
    """
    found = False
    reading = _zip_members if archive_kind(path) == "zip" else _tar_members
    for name, text in reading(path, max_file_mb):
        found = True
        yield readable(name), text
    if not found:
        raise InputError(f"the archive {path} holds no file {SUFFIXES}")


def _zip_members(path: Path, max_file_mb: float) -> Iterator[tuple[str, str | Unread]]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, *DAMAGED) as error:
        raise InputError(f"{path} is damaged ({error}); fetch it again") from error
    with archive:
        for member in sorted(archive.infolist(), key=lambda member: Path(member.filename).parts):
            if member.is_dir() or not is_cif_name(Path(member.filename).name):
                continue
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
                yield member.filename, Unread("a link or a device in the archive, not a file")
                continue
            try:
                with archive.open(member) as file:
                    text = text_of(member.filename, file, size=member.file_size, max_file_mb=max_file_mb)
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError, *DAMAGED) as error:
                text = Unread(f"damaged or locked in the archive: {error}")
            yield member.filename, text


def _tar_members(path: Path, max_file_mb: float) -> Iterator[tuple[str, str | Unread]]:
    read = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                read += 1
                if member.isdir() or not is_cif_name(Path(member.name).name):
                    continue
                if not member.isreg():
                    yield member.name, Unread("a link or a device in the archive, not a file")
                    continue
                content = archive.extractfile(member)
                assert content is not None  # a regular file has one
                yield member.name, text_of(member.name, content, size=member.size, max_file_mb=max_file_mb)
    except (tarfile.TarError, *DAMAGED) as error:
        if not read:
            raise InputError(f"{path} is damaged ({error}); fetch it again") from error
        # What lies behind the damage cannot be found; what lay before it is read.
        yield f"{path.name} from its {read}. member on", Unread(f"the archive is damaged: {error}")

"""Which files are taken for CIFs, how much of them is read, and that one bad file costs no other."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import psutil
import pytest

from crystallm.base.errors import ConfigError, InputError
from crystallm.base.input_files import (
    Unread,
    archive_kind,
    check_limit,
    cif_files,
    count_refused,
    decoded,
    members,
    read_text,
    require_file,
    texts,
)

TEXT = "data_x\n_cell_length_a 4.2\n"


def reason(found: str | Unread) -> str:
    assert isinstance(found, Unread), found
    return found.reason


def test_packed_files_are_unpacked(tmp_path: Path) -> None:
    for name, content in {
        "a.cif": TEXT.encode(),
        "b.MCIF": TEXT.encode("utf-8-sig"),
        "c.cif.gz": gzip.compress(TEXT.encode()),
        "d.mcif.BZ2": bz2.compress(TEXT.encode()),
        "e.cif.xz": lzma.compress(TEXT.encode()),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert read_text(tmp_path / name) == TEXT
    (tmp_path / "._a.cif").write_bytes(b"\0\5")
    (tmp_path / "notes.txt").write_text("no")
    assert [found.name for found in cif_files(tmp_path)] == ["a.cif", "b.MCIF", "c.cif.gz", "d.mcif.BZ2", "e.cif.xz"]


def test_text_and_what_is_none() -> None:
    assert decoded("_author 'Müller'".encode("latin-1")) == "_author 'Müller'"
    assert reason(decoded(b"\x89PNG\r\n\x1a\n\0\0")) == "binary content, not a CIF"
    assert decoded(b" \n") == Unread("the file is empty", empty=True)


def test_damaged_and_foreign_packing(tmp_path: Path) -> None:
    (tmp_path / "cut.cif.gz").write_bytes(gzip.compress(TEXT.encode() * 100)[:-20])
    (tmp_path / "no.cif.bz2").write_bytes(b"no bzip2")
    (tmp_path / "old.cif.Z").write_bytes(b"\x1f\x9d")
    assert reason(read_text(tmp_path / "cut.cif.gz")).startswith("damaged: Compressed file ended")
    assert reason(read_text(tmp_path / "no.cif.bz2")).startswith("damaged: ")
    assert reason(read_text(tmp_path / "old.cif.Z")) == "packed as .z; unpack it, or pack it as .gz, .bz2 or .xz"


def test_what_is_too_large_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """400 MB of spaces in less than half a megabyte, in four ways: a few MB of memory, and a message."""
    large = b" " * 4_000_000
    packed = {".gz": gzip.GzipFile, ".bz2": bz2.BZ2File}
    (tmp_path / "d").mkdir()
    for suffix, kind in packed.items():
        with kind(tmp_path / "d" / f"a.cif{suffix}", "wb") as file:
            for _ in range(100):
                file.write(large)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.cif", "w") as file:
        for _ in range(100):
            file.write(large)
    (tmp_path / "d" / "plain.cif").write_bytes(large)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "d" / "plain.cif", "plain.cif")
    process = psutil.Process()
    before = process.memory_info().rss
    for suffix in packed:
        found = reason(read_text(tmp_path / "d" / f"a.cif{suffix}", max_file_mb=3))
        assert found == "unpacks to more than the 3 MB of max_file_mb; raise that if it is meant"
    ((_, zipped),) = members(tmp_path / "a.zip", max_file_mb=3)
    assert reason(zipped) == "400 MB, more than the 3 MB of max_file_mb; raise that if it is meant"
    ((_, in_tar),) = members(tmp_path / "a.tar", max_file_mb=3)
    assert reason(in_tar).startswith("4 MB, more than the 3 MB")
    assert reason(read_text(tmp_path / "d" / "plain.cif", max_file_mb=3)).startswith("4 MB, more than")
    assert process.memory_info().rss - before < 60e6
    assert read_text(tmp_path / "d" / "plain.cif", max_file_mb=5) == Unread("the file is empty", empty=True)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_that_nothing_passes(limit: float) -> None:
    with pytest.raises(ConfigError, match="max_file_mb must be above 0"):
        check_limit(limit)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_listed_and_not_opened(tmp_path: Path) -> None:
    """Opening the pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe.cif")
    (tmp_path / "away.cif").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.cif").symlink_to(tmp_path / "loop.cif")
    (tmp_path / "null.cif").symlink_to("/dev/null")
    (tmp_path / "real.cif").write_text(TEXT)
    (tmp_path / "sub.cif").mkdir()
    (tmp_path / "sub.cif" / "inner.cif").symlink_to(tmp_path / "real.cif")
    found = {one.name: one.refusal for one in cif_files(tmp_path)}
    assert list(found) == [
        "away.cif",
        "loop.cif",
        "null.cif",
        "pipe.cif",
        "real.cif",
        "sub.cif",
        "sub.cif/inner.cif",
    ]
    assert found["real.cif"] is found["sub.cif/inner.cif"] is None
    assert found["pipe.cif"] == "a named pipe, not a file"
    assert found["null.cif"] == "a device, not a file"
    assert found["sub.cif"] == "a folder, not a file"
    assert str(found["away.cif"]).startswith("a link to nowhere")
    assert str(found["loop.cif"]).startswith("a link to nowhere")
    assert reason(read_text(tmp_path / "pipe.cif")) == "a named pipe, not a file"
    with pytest.raises(InputError, match="is a named pipe, not a file"):
        require_file(tmp_path / "pipe.cif")


def test_a_folder_that_cannot_be_looked_into_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.cif").write_text(TEXT)
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = {one.name: one.refusal for one in cif_files(tmp_path)}
    assert found == {"a.cif": None, "locked/": "the folder cannot be read: Permission denied"}


def test_names_that_are_no_text_are_spelled_out(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.cif")).write_text(TEXT)
    (found,) = cif_files(tmp_path)
    assert found.name == "caf\\udce9.cif"
    assert read_text(found.path) == TEXT


def test_a_bad_member_costs_no_other(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.cif", TEXT)
        archive.writestr("two.cif", TEXT * 50)
        archive.writestr("three.cif.gz", gzip.compress(TEXT.encode()))
        archive.writestr("__MACOSX/._one.cif", b"\0\5")
        place = archive.getinfo("two.cif").header_offset + 60
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[place] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(content)
    (one, text), (three, packed), (two, broken) = members(tmp_path / "a.zip")  # sorted, as in a folder
    assert (one, two, three) == ("one.cif", "two.cif", "three.cif.gz")
    assert text == packed == TEXT
    assert reason(broken).startswith("damaged")


def test_what_an_archive_is_says_its_content(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zipped", "w") as archive:
        for name in ("b/a.cif", "a.cif", "b.cif"):
            archive.writestr(name, TEXT)
    for kind in ("tar", "gz"):
        with tarfile.open(tmp_path / kind, "w" if kind == "tar" else "w:gz") as tar:
            member = tarfile.TarInfo("a.cif")
            member.size = len(TEXT)
            tar.addfile(member, io.BytesIO(TEXT.encode()))
    (tmp_path / "a.cif.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "a.cif").write_text(TEXT)
    os.mkfifo(tmp_path / "pipe")
    kinds = {"zipped": "zip", "tar": "tar", "gz": "tar", "a.cif.gz": None, "a.cif": None, "pipe": None, "none": None}
    assert {name: archive_kind(tmp_path / name) for name in kinds} == kinds
    assert [name for name, _ in texts(tmp_path / "zipped")] == ["a.cif", "b/a.cif", "b.cif"]
    assert [name for name, _ in texts(tmp_path)] == ["a.cif", "a.cif.gz"]
    assert list(texts(tmp_path / "gz")) == list(texts(tmp_path / "a.cif")) == [("a.cif", TEXT)]
    for name in ("a.zip", "a.tar.gz"):
        (tmp_path / name).write_text("no archive")
        with pytest.raises(InputError, match="is damaged: its content is not what its name says"):
            archive_kind(tmp_path / name)


def test_what_is_refused_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    count_refused(0, 3)
    assert capsys.readouterr().err == ""
    count_refused(2, 3)
    assert capsys.readouterr().err == "crystallm: 2 of 3 structures could not be read; the reasons stand above\n"
    with pytest.raises(InputError, match="none of 3 structures could be read"):
        count_refused(3, 3)


def test_a_tar_that_is_cut_short_gives_what_lies_before(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("one.cif", "two.cif", "three.cif"):
            member = tarfile.TarInfo(name)
            member.size = 6000
            tar.addfile(member, io.BytesIO(TEXT.ljust(6000).encode()))
        link = tarfile.TarInfo("link.cif")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    whole = dict(members(tmp_path / "a.tar"))
    assert [name for name, text in whole.items() if isinstance(text, str)] == ["one.cif", "two.cif", "three.cif"]
    assert reason(whole["link.cif"]) == "a link or a device in the archive, not a file"
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:10_000])
    (one, text), (rest, lost) = members(tmp_path / "a.tar")
    assert one == "one.cif"
    assert isinstance(text, str)
    assert "member on" in rest
    assert "the archive is damaged" in reason(lost)


def test_an_archive_without_cifs_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.md", "hello")
    with pytest.raises(InputError, match=r"holds no file \.cif, \.mcif"):
        list(members(tmp_path / "a.zip"))


def test_utf_16_with_its_mark_is_text() -> None:
    assert decoded("data_x".encode("utf-16")) == "data_x"
    assert isinstance(decoded(b"\xff\xfeodd"), Unread)

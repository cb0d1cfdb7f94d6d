"""The command finds its stage, loads nothing else, and turns mistakes into exit codes."""

import errno
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

import crystallm
from crystallm import cli
from crystallm.base.errors import CrystallmError, InputError


def stage_that(action: Callable[[list[str]], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `crystallm break` run `action`."""
    monkeypatch.setattr(cli, "probe", action, raising=False)
    monkeypatch.setitem(cli.STAGES, "break", ("crystallm.cli:probe", "for a test"))


def test_help_is_fast_and_loads_no_torch() -> None:
    source = "import sys; from crystallm.cli import main; main(['--help']); print('torch' in sys.modules)"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert time.monotonic() - started < 5  # 0.1 s on an idle machine, but tests may run beside other work
    assert done.stdout.splitlines()[-1] == "False"
    assert all(f"\n  {stage} " in done.stdout for stage in cli.STAGES)


def test_python_m_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "crystallm", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"crystallm {crystallm.__version__}\n")


def test_unknown_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["smaple", "TiO2"]) == 2
    assert capsys.readouterr().err.startswith(
        "crystallm: unknown stage 'smaple'; choose from text, data, train, model, sample"
    )


def test_no_stage_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert capsys.readouterr().out.splitlines()[:5] == [
        "usage: crystallm STAGE ...",
        "",
        "Crystal structures from a language model: a formula in, ranked and checked crystals out.",
        "",
        "stages:",
    ]


def test_a_stage_gets_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    stage_that(seen.extend, monkeypatch)
    assert cli.main(["break", "--flag", "TiO2"]) == 0
    assert seen == ["--flag", "TiO2"]


@pytest.mark.parametrize("error", [InputError("no file x.cif; give one"), CrystallmError("no file x.cif; give one")])
def test_a_mistake_of_the_user_is_a_message(
    error: CrystallmError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(argv: list[str]) -> None:
        raise error

    stage_that(fail, monkeypatch)
    assert cli.main(["break"]) == 2
    assert capsys.readouterr() == ("", "crystallm: no file x.cif; give one\n")


def test_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(argv: list[str]) -> None:
        raise KeyboardInterrupt

    stage_that(interrupt, monkeypatch)
    assert cli.main(["break"]) == 130
    assert capsys.readouterr().err == "crystallm: interrupted\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def divide(argv: list[str]) -> None:
        raise ZeroDivisionError

    stage_that(divide, monkeypatch)
    with pytest.raises(ZeroDivisionError):
        cli.main(["break"])


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """As in `crystallm --help | head -n 1`."""
    with subprocess.Popen(
        [sys.executable, "-m", "crystallm", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


def test_arguments_that_are_no_text() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "crystallm", "text", b"caf\xe9.cif"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == (
        "crystallm: argument 2, 'caf\\udce9.cif', is no text in UTF-8; type it again, or rename the file it names\n"
    )


def test_a_full_disk_is_a_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fill(argv: list[str]) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "out/big.npy")
        except OSError as error:
            raise OSError("could not save") from error

    stage_that(fill, monkeypatch)
    assert cli.main(["break"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("crystallm: cannot write: [Errno 28] No space left on device: 'out/big.npy'; ")
    assert "what was written before is kept. Make room there" in said


@pytest.mark.parametrize(("said", "code"), [("No space left on device (os error 28)", 2), ("no room", None)])
def test_libraries_tell_of_a_full_disk_in_their_way(
    said: str, code: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(argv: list[str]) -> None:
        raise Exception(said)  # as tokenizers does

    stage_that(fill, monkeypatch)
    if code is None:
        with pytest.raises(Exception, match="no room"):
            cli.main(["break"])
        return
    assert cli.main(["break"]) == code
    assert "cannot write: No space left on device" in capsys.readouterr().err


def test_odd_world_size_is_a_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "many")
    assert cli.main(["text", "x.cif"]) == 2
    assert "WORLD_SIZE is 'many'" in capsys.readouterr().err


def test_a_name_that_no_file_can_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gather", "9" * 400]) == 2
    assert "File name too long" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["text"],
        ["data", "prepare"],
        ["energy"],
        ["relax"],
        ["eval", "validity"],
        ["eval", "score"],
        ["eval", "run"],
        ["eval", "denovo"],
        ["eval", "readers"],
    ],
    ids=" ".join,
)
def test_every_command_that_reads_cifs_takes_the_same_options(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--trust-atoms take the list of atoms where formula sum, Z, multiplicities or attached hydrogens" in said
    assert "--max-file-mb MB files, members of archives and cells with more megabytes" in said


@pytest.mark.parametrize("command", [["energy"], ["relax"], ["eval", "denovo"], ["sample"]], ids=" ".join)
def test_what_potentials_there_are(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "chgnet, sevenn, or any other calculator of ASE by its name: package.module:callable is called without "
        "arguments and returns it (default: chgnet)"
    ) in said

"""The `crystallm` command: finds the stage, imports only that, and turns expected failures into exit codes."""

import errno
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn

import crystallm
from crystallm.base.command_line import run_study
from crystallm.base.errors import ConfigError, CrystallmError
from crystallm.base.launch import follow_parent
from crystallm.base.whole_file import lost_room, words_of
from crystallm.cli.starting import start_fast

STAGES = {
    "text": ("crystallm.tokenizer.__main__:text", "show how a crystal is written and tokenised"),
    "data": ("crystallm.data.__main__:main", "turn crystal structures into text to train on"),
    "train": ("crystallm.train.__main__:main", "train a model from a recipe"),
    "model": ("crystallm.model.__main__:main", "bring models of other projects, share checkpoints"),
    "sample": ("crystallm.sample.__main__:main", "make crystals of a formula"),
    "gather": ("crystallm.sample.output.process_parts:main", "put the draws of several processes into one file"),
    "energy": ("crystallm.energy.command:energy", "energies and energies above hull of crystals"),
    "relax": ("crystallm.energy.command:relax", "relax crystals, keeping their space groups"),
    "eval": ("crystallm.eval.__main__:main", "measure crystals: validity and benchmarks"),
}


Program = Callable[[list[str]], int | None]
"""What is run with the arguments of a command line."""

BENCHMARKS = {"sample": "studies.bench.sampling", "train": "studies.bench.training", "relax": "studies.bench.relaxing"}


def help_text() -> str:
    """Return what `crystallm --help` prints."""
    lines = [f"  {name:8}{told}" for name, (_, told) in STAGES.items()]
    more = "`crystallm STAGE --help` lists the options of a stage; `crystallm --version` prints the version."
    purpose, *_ = (crystallm.__doc__ or "").split("\n\n")  # what follows is for readers of the source
    return "\n".join(["usage: crystallm STAGE ...", "", purpose, "", "stages:", *lines, "", more])


def main(argv: list[str] | None = None) -> int:
    """Run one stage; 0 on success, 2 for a mistake in the input, 130 after Ctrl-C. Bugs keep their traceback."""
    if argv is None:  # the process is ours
        start_fast()
    arguments = sys.argv[1:] if argv is None else argv
    # spglib writes to stderr whenever it loosens or tightens its tolerance; what it finds is judged all the same.
    os.environ.setdefault("SPGLIB_WARNING", "OFF")
    return exit_code(_run, arguments)


def run_program(program: Program) -> NoReturn:
    """Run a program beside the package, such as those in `studies`, as a stage is run, and exit."""
    sys.exit(exit_code(program, sys.argv[1:]))


def exit_code(program: Program, arguments: list[str]) -> int:
    """What a program returns, 0 for None; 2 for a mistake in the input, 130 after Ctrl-C. Bugs keep their traceback."""
    try:
        follow_parent()
        refuse_broken_text(arguments)
        return program(arguments) or 0
    except CrystallmError as error:
        print(f"crystallm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("crystallm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has left; pointing stdout at nothing keeps Python's shutdown from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        # Libraries tell of a full disk by errors of their own. What is none of these is a bug and keeps its traceback.
        message = told(error)
        if message is None:
            raise
        print(f"crystallm: {message}", file=sys.stderr)
        return 2


def told(error: Exception) -> str | None:
    """What is said of a file that could not be written for lack of room, or cannot be; None for any other error."""
    if isinstance(error, OSError) and error.errno in NO_NAMES:
        return f"{str(error)[:300]}; give the name of a file that there can be"
    full = lost_room(error)
    return None if full is None else f"cannot write: {words_of(full)}; what was written before is kept. {MAKE_ROOM}"


NO_NAMES = (errno.ENAMETOOLONG, errno.ELOOP)
"""A name is longer than any file's, or a link that leads to itself."""

MAKE_ROOM = "Make room there, or choose another place, and give the same command again"


def refuse_broken_text(arguments: list[str]) -> None:
    """ConfigError where an argument is no text in UTF-8: it could be neither shown nor recorded."""
    for number, argument in enumerate(arguments, start=1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = argument.encode(errors="backslashreplace").decode()
            raise ConfigError(
                f"argument {number}, '{shown[:80]}', is no text in UTF-8; type it again, or rename the file it names"
            ) from None


def _run(arguments: list[str]) -> int:
    match arguments:
        case [] | ["-h" | "--help", *_]:
            print(help_text())
        case ["--version", *_]:
            print(f"crystallm {crystallm.__version__}")
        case ["bench", name, *rest] if name in BENCHMARKS:
            run_study(f"crystallm bench {name}", BENCHMARKS[name], rest)
        case ["bench", *rest]:
            run_study("crystallm bench", BENCHMARKS["sample"], rest)
        case [name, *rest] if name in STAGES:
            module, function = STAGES[name][0].split(":")
            getattr(import_module(module), function)(rest)
            sys.stdout.flush()
        case [name, *_]:
            print(f"crystallm: unknown stage {name!r}; choose from {', '.join(STAGES)}", file=sys.stderr)
            return 2
    return 0

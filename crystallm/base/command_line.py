"""Command lines: a command is a function; its options are its parameters and the fields of its configurations.

What an option means is said once, in the docstring of the field or in `Args:` of the function, and is read from there
when somebody asks for help. What has no default must be given: parameters before `*`, and fields, by their place. A
parameter that is a configuration stands for the fields of it.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import itertools
import re
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from crystallm.base.config import from_mapping, read_recipe, unknown_field, with_overrides
from crystallm.base.errors import ConfigError

METAVARS: dict[Any, str] = {int: "N", float: "X", Path: "PATH", str: "NAME"}
"""What help calls a value of a type."""


@dataclass(frozen=True)
class Option:
    """What name and type do not say of an option, in `Annotated[TYPE, Option(...)]`."""

    flags: str = ""
    """Short ones are taken beside `--name`, a long one in its place."""
    metavar: str | None = None
    """What help calls the value; None: as `METAVARS` says."""
    help: str = ""
    """For a type that several fields share; empty: what the docstring says."""
    each: bool = False
    """Of several values: each has the flag before it."""
    listed: bool = True
    """False: a field that is no option."""


@dataclass(frozen=True)
class Slot:
    """A value of a command line."""

    name: str
    hint: Any
    option: Option
    default: Any
    """MISSING where it must be given."""
    by_place: bool
    owner: Any
    """The class or function whose docstring says what it is."""

    def add_to(self, parser: argparse.ArgumentParser, *, documented: bool) -> None:
        """Make it an argument of a parser. Only what is given will stand among the values that the parser finds."""
        kind = _plain(self.hint)
        several = typing.get_origin(kind) is tuple and typing.get_args(kind)[-1] is Ellipsis
        settings: dict[str, Any] = {"default": argparse.SUPPRESS, "help": self._help() if documented else None}
        if kind is bool:
            settings["action"] = argparse.BooleanOptionalAction if self.default is True else "store_true"
        else:
            settings |= _type_settings(_plain(typing.get_args(kind)[0]) if several else kind)
        if several and self.option.each:
            settings["action"] = "append"
        elif several:
            settings["nargs"] = "*" if self.by_place and self.default is not MISSING else "+"
        if self.option.metavar or self.by_place:
            settings["metavar"] = self.option.metavar or (self.name.rstrip("s") if several else self.name).upper()
        if self.by_place:
            parser.add_argument(self.name, **settings)
            return
        flags = self.option.flags.split()
        if not any(flag.startswith("--") for flag in flags):
            flags.append(f"--{self.name.replace('_', '-')}")
        parser.add_argument(*flags, dest=self.name, required=self.default is MISSING, **settings)

    def _help(self) -> str:
        text = (self.option.help or documentation(self.owner).get(self.name, "")).removesuffix(".")
        text = text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text
        if self.default not in (None, MISSING, "", ()) and self.default is not False:
            text += f" (default: {_shown(self.default)})"
        return re.sub(r"\bNone\b", "not given", text).strip().replace("%", "%%")


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return "yes" if value is True else f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Command:
    """A function as a command, called with the words of a command line.

    Example:
        >>> def greet(name: str, *, times: int = 1) -> None:
        ...     print(*[f"hello {name}"] * times)
        >>> Command(greet, "greet")(["Kim", "--times", "2"])
        hello Kim hello Kim
    """

    function: Callable[..., object]
    """A parameter `argv` gets the words themselves, `more` those after `--`."""
    prog: str
    recipe: str = ""
    """`--recipe`, or `recipe` by its place: a YAML file of fields of the configurations, and `--set` with it. Options
    go before the file. Empty: there is none."""
    epilog: str | None = None
    result: str = ""
    """What is printed of the value that the function returns, such as `written: {}`; empty: nothing."""

    def __call__(self, argv: Sequence[str], **preset: Any) -> None:
        """Run it; `preset` stands for what the words do not give, by name of parameter or field."""
        words: list[str] = list(argv)
        more: tuple[str, ...] = ()
        if "more" in self._parameters and "--" in words:
            place = words.index("--")
            words, more = words[:place], tuple(words[place + 1 :])
        asked = any(word == "-h" or word.startswith("--h") for word in words)
        given = vars(self.parser(documented=asked, preset=preset).parse_args(words))
        values = preset | {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        arguments = {name: value for name, value in values.items() if name in self._parameters}
        arguments |= self._configurations(values) | {"argv": list(argv), "more": more}
        found = self.function(**{name: value for name, value in arguments.items() if name in self._parameters})
        if self.result:
            print(self.result.format(found))

    def parser(self, *, documented: bool = True, preset: Collection[str] = ()) -> argparse.ArgumentParser:
        """The parser of its options; what is preset by its place is none, and nothing that is preset is required."""
        parser = argparse.ArgumentParser(
            prog=self.prog,
            description=description(self.function) if documented else None,
            epilog=self.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for slot in sorted(self.slots(), key=lambda slot: (not slot.by_place, isinstance(slot.owner, type))):
            if slot.name not in preset:
                slot.add_to(parser, documented=documented)
            elif not slot.by_place:
                dataclasses.replace(slot, default=None).add_to(parser, documented=documented)
        return parser

    def slots(self) -> Iterator[Slot]:
        """Its values, in the order of parameters and fields."""
        if self.recipe:
            default = None if self.recipe.startswith("--") else MISSING
            yield Slot("recipe", Path, Option(metavar="RECIPE", help=RECIPE), default, default is MISSING, self)
        for name, one in self._parameters.items():
            hint, option = _hint_and_option(self._hints[name])
            if dataclasses.is_dataclass(hint):
                yield from _fields(hint)
            elif name not in ("argv", "more"):
                default = MISSING if one.default is one.empty else one.default
                yield Slot(name, hint, option, default, one.kind is one.POSITIONAL_OR_KEYWORD, self.function)
        if self.recipe:
            option = Option("--set", metavar="FIELD=VALUE", help=OVERRIDES, each=True)
            yield Slot("overrides", tuple[str, ...], option, (), False, self)

    @cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.function).parameters

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.function, include_extras=True)

    def _configurations(self, values: dict[str, Any]) -> dict[str, Any]:
        """The configurations among the parameters, from the file, the overrides and the options."""
        kinds: dict[str, Any] = {name: hint for name, hint in self._hints.items() if dataclasses.is_dataclass(hint)}
        names = {kind: [one.name for one in dataclasses.fields(kind)] for kind in kinds.values()}
        path = values.get("recipe") if self.recipe else None
        content = {} if path is None else read_recipe(path, " and ".join(kind.__name__ for kind in names))
        content = with_overrides(content, values.get("overrides", ()) if self.recipe else ())
        source = str(path or self.prog)
        for name in content.keys() - set().union(*names.values()):
            raise ConfigError(unknown_field(name, names, source))
        content |= {name: value for name, value in values.items() if name not in self._parameters}
        return {
            name: from_mapping(kind, {key: content[key] for key in content if key in names[kind]}, source=source)
            for name, kind in kinds.items()
        }


RECIPE = "YAML file of fields; options go before it"
OVERRIDES = "change a field, such as seed=1 or model.layers=4"


@dataclass(frozen=True)
class Group:
    """Commands under one name; the first word says which, and only that one is imported."""

    prog: str
    purpose: str
    commands: Mapping[str, tuple[str, str]]
    """Name -> place of the command, `package.module:name` (or `main` of a module), and what it is for."""
    more: str = ""
    """What stands below the list in the help."""
    otherwise: Command | None = None
    """The command where the first word is none of them."""
    moved: Mapping[str, str] = field(default_factory=dict)
    """Name of a command that has left the package -> its module in `studies`."""

    def __call__(self, argv: Sequence[str]) -> None:
        """Run the command that the first word names; the list of them where there is none."""
        match list(argv):
            case [name, *rest] if name in self.moved:
                run_study(f"{self.prog} {name}", self.moved[name], rest)
            case [name, *rest] if name in self.commands:
                command(self.commands[name][0])(rest)
            case words if self.otherwise is not None:
                self.otherwise(words)
            case [] | ["-h" | "--help", *_]:
                print(self.help_text())
            case [name, *_]:
                whole = " ".join([*self.prog.split()[1:], name])
                raise ConfigError(f"unknown command `{whole}`; choose from {', '.join(self.commands)}")

    def help_text(self) -> str:
        """The commands and what they are for."""
        lines = [f"  {name:12}{purpose}" for name, (_, purpose) in self.commands.items()]
        more = " ".join(filter(None, [f"`{self.prog} COMMAND --help` lists the options.", self.more]))
        return "\n".join([f"usage: {self.prog} COMMAND ...", "", self.purpose, "", "commands:", *lines, "", more])


def run_study(name: str, module: str, argv: Sequence[str]) -> None:
    """Run a command that has left the package under its old name, with a notice; old names go with version 0.3.

    Args:
        name: The old one.
        module: In `studies`, which lies beside the package in a clone.
        argv: Its arguments.

    Raises:
        ConfigError: There is no clone; the message names the new place.
    """
    clone = Path(__file__).parents[2]
    if not (clone / "studies").is_dir():
        raise ConfigError(f"`{name}` has left the package; in a clone of the repository, run `python -m {module}`")
    print(f"crystallm: `{name}` is now `python -m {module}`; the old name goes with version 0.3", file=sys.stderr)
    if str(clone) not in sys.path:
        sys.path.append(str(clone))
    import_module(module).main(argv)


def commands_in(found: object) -> Iterator[Command]:
    """A command, or all commands of a group."""
    if isinstance(found, Command):
        yield found
    elif isinstance(found, Group):
        yield from commands_in(found.otherwise)
        for place, _ in found.commands.values():
            yield from commands_in(command(place))


def command(place: str) -> Callable[[list[str]], object]:
    """What stands at a place, `package.module:name`; without a name it is `main`."""
    module, _, name = place.partition(":")
    found: Callable[[list[str]], object] = getattr(import_module(module), name or "main")
    return found


def description(function: Callable[..., object]) -> str:
    """What a docstring says before its sections, paragraphs wrapped for the terminal, tables as they are."""
    text = re.split(r"^(?:Args|Returns|Raises|Example):", inspect.getdoc(function) or "", flags=re.MULTILINE)[0]
    width = shutil.get_terminal_size().columns - 2
    return "\n\n".join(textwrap.fill(" ".join(part.split()), width) for part in text.strip().split("\n\n"))


@cache
def documentation(owner: Any) -> dict[str, str]:
    """What is said of each parameter of a function, or of each field of a class and its bases.

    Example:
        >>> documentation(Option)["metavar"]
        'What help calls the value; None: as `METAVARS` says.'
    """
    if not isinstance(owner, type):
        _, _, section = (inspect.getdoc(owner) or "").partition("\nArgs:\n")
        found = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section.partition("\n\n")[0], re.MULTILINE)
        return {name: " ".join(text.split()) for name, text in found}
    said: dict[str, str] = {}
    for kind in reversed(owner.__mro__[:-1]):
        tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
        (body,) = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__]
        for line, below in itertools.pairwise(body):
            if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(line.target, ast.Name):
                said[line.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return said


def _fields(kind: Any) -> Iterator[Slot]:
    """The fields of a configuration that are options; those without a default have a place."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for one in dataclasses.fields(kind):
        hint, option = _hint_and_option(hints[one.name])
        if option.listed and not dataclasses.is_dataclass(_plain(hint)):
            default = one.default if one.default_factory is MISSING else one.default_factory()
            yield Slot(one.name, hint, option, default, default is MISSING, kind)


def _hint_and_option(hint: Any) -> tuple[Any, Option]:
    if typing.get_origin(hint) is not Annotated:
        return hint, Option()
    kind, *extras = typing.get_args(hint)
    return kind, next((extra for extra in extras if isinstance(extra, Option)), Option())


def _plain(hint: Any) -> Any:
    """A type without `| None` and without notes."""
    hint, _ = _hint_and_option(hint)
    if typing.get_origin(hint) in (Union, types.UnionType):
        (hint,) = [inner for inner in typing.get_args(hint) if inner is not type(None)]
    return hint


def _type_settings(kind: Any) -> dict[str, Any]:
    """How argparse reads one value of a type."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return {"choices": arguments}
    if typing.get_origin(kind) is tuple:  # of fixed length
        return {"type": _parts(arguments), "metavar": "/".join("IN"[: len(arguments)])}
    return {"type": kind, "metavar": METAVARS[kind]}


def _parts(kinds: Sequence[type]) -> Callable[[str], tuple[Any, ...]]:
    """Reads `2/8`."""

    def read(text: str) -> tuple[Any, ...]:
        parts = text.split("/")
        if len(parts) != len(kinds) or not all(part.isdecimal() for part in parts):
            raise argparse.ArgumentTypeError(f"{text!r} is not I/N, such as 2/8")
        return tuple(kind(part) for kind, part in zip(kinds, parts, strict=True))

    return read

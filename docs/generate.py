"""Pages made from the code: commands from their parsers, configuration from dataclasses, the API from docstrings."""

import argparse
import dataclasses
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import crystallm
from crystallm import cli
from crystallm.base.command_line import command, commands_in, documentation

CONFIGURATIONS = {
    "crystallm.sample.config": ["SampleConfig", "AnswerConfig"],
    "crystallm.data.config": ["PrepareConfig"],
    "crystallm.train.config": ["TrainConfig"],
    "crystallm.model.architecture": ["ModelConfig"],
    "crystallm.train.finetune.config": ["FinetuneConfig"],
    "crystallm.eval.sets.benchmark": ["Benchmark"],
}


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command and its parser, subcommands after their command."""
    for place, _ in cli.STAGES.values():
        for found in commands_in(command(place)):
            yield found.prog.removeprefix("crystallm "), found.parser()


def option(action: argparse.Action, parser: argparse.ArgumentParser) -> list[str]:
    """One argument as reStructuredText: its spellings, what it means, its default."""
    formatter = parser._get_formatter()
    if action.option_strings:
        head = formatter._format_action_invocation(action)
    else:
        head = formatter._format_args(action, action.metavar or action.dest)
    told = formatter._expand_help(action) if action.help else ""
    return [f"``{head}``", *textwrap.wrap(escape(told) or "\\ ", 110, initial_indent="    ", subsequent_indent="    ")]


def usage(parser: argparse.ArgumentParser) -> list[str]:
    """The usage of a command in lines that fit into the page, options whole."""
    words = re.findall(r"\[[^\[\]]*(?:\[[^\]]*\][^\[\]]*)*\]|\S+", " ".join(parser.format_usage().split()[1:]))
    lines = ["   "]
    for word in words:
        if len(lines[-1]) + len(word) > 74:
            lines.append("       ")
        lines[-1] += f" {word}"
    return lines


def escape(text: str) -> str:
    """Plain text as reStructuredText; single backticks stay code."""
    parts = re.split(r"`([^`]+)`", text)  # every second one was code
    return "".join(
        re.sub(r"([\\*|_`])", r"\\\1", part) if i % 2 == 0 else f"``{part}``\\ " for i, part in enumerate(parts)
    )


def commands() -> str:
    lines = ["Command line", "============", ""]
    lines += ["Made from the parsers of the commands. ``crystallm COMMAND --help`` prints the same.", ""]
    for name, parser in parsers():
        title = f"crystallm {name}"
        lines += [title, "-" * len(title), ""]
        lines += [".. code-block:: text", "", *usage(parser), ""]
        for paragraph in re.split(r"\n\s*\n", parser.description or ""):
            lines += [*textwrap.wrap(escape(" ".join(paragraph.split())), 110), ""]
        shown = [a for a in parser._actions if a.help is not argparse.SUPPRESS and "--help" not in a.option_strings]
        for action in shown:
            lines += [*option(action, parser), ""]
        if parser.epilog:
            lines += [*textwrap.wrap(escape(" ".join(parser.epilog.split())), 110), ""]
    return "\n".join(lines)


def default_of(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return repr(field.default_factory())
    return "must be given"


def configuration() -> str:
    lines = ["Configuration", "=============", ""]
    lines += ["Made from the dataclasses. Recipes (YAML) have these fields, and so do the options of the commands.", ""]
    for module, names in CONFIGURATIONS.items():
        for name in names:
            cls = getattr(import_module(module), name)
            docs, hints = documentation(cls), get_type_hints(cls)
            summary = (inspect.getdoc(cls) or "").split("\n\n")[0]
            lines += [name, "-" * len(name), "", f"``{module}.{name}``: {escape(' '.join(summary.split()))}", ""]
            lines += [".. list-table::", "   :header-rows: 1", "   :widths: 18 16 16 50", ""]
            lines += ["   * - field", "     - type", "     - default", "     - meaning"]
            for field in dataclasses.fields(cls):
                kind = re.sub(r"\b[\w.]+\.(?=[A-Z])", "", inspect.formatannotation(hints[field.name]))
                default = default_of(field)
                shown = f"``{default}``" if default != "must be given" and len(default) < 60 else default.split("(")[0]
                lines += [f"   * - ``{field.name}``", f"     - ``{kind}``", f"     - {shown}"]
                lines += [f"     - {escape(docs.get(field.name, ''))}"]
            lines += [""]
    return "\n".join(lines)


def api() -> str:
    lines = ["Public names", "============", "", "Made from the docstrings. All are imported from ``crystallm``.", ""]
    for name in sorted(crystallm.__all__, key=lambda each: (each[0].isupper(), each.lower())):
        if name == "__version__":
            continue
        where = f"crystallm.{'sample.api' if name == 'sample' else crystallm._MODULES[name]}.{name}"
        kind = "class" if name[0].isupper() else "function"
        lines += [name, "-" * len(name), "", f".. auto{kind}:: {where}"]
        lines += ["   :members:", ""] if kind == "class" else [""]
    return "\n".join(lines)


def notebooks() -> list[Path]:
    return sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


def write(folder: Path, examples: Path) -> None:
    """Write all pages into a new `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "examples").mkdir(parents=True)
    for name, text in {"commands": commands(), "configuration": configuration(), "api": api()}.items():
        (folder / f"{name}.rst").write_text(text, encoding="utf-8")
    for path in notebooks():
        shutil.copy(path, folder / "examples")

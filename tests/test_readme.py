"""README.md is short and true: its commands parse, the files it names exist."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from crystallm import cli

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def shell_commands() -> list[list[str]]:
    """Each command of the shell blocks, split at && and ;."""
    lines = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines()]
    commands: list[list[str]] = []
    for line in lines:
        words = shlex.shlex(line, posix=True, punctuation_chars="&;|")
        words.whitespace_split = True
        words.commenters = "#"
        command: list[str] = []
        for word in [*words, ";"]:
            if set(word) <= set("&;|"):
                commands += [command] if command else []
                command = []
            else:
                command.append(word)
    return commands


def crystallm_commands() -> list[list[str]]:
    """Commands of the shell blocks and of the table, without the word `crystallm`."""
    from_blocks = [command[1:] for command in shell_commands() if command[0] == "crystallm"]
    from_text = [shlex.split(code)[1:] for code in re.findall(r"`(crystallm \w[^`]*)`", README)]
    return from_blocks + from_text


def stages() -> list[tuple[str, ...]]:
    """Stage and, where the stage has them, subcommand of every command in the README."""
    found = set()
    for command in crystallm_commands():
        has_subcommand = command[0] in {"data", "eval", "bench"} and len(command) > 1
        found.add(tuple(command[: 2 if has_subcommand else 1]))
    return sorted(found)


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 120
    assert len(README.split()) <= 900


def test_there_are_commands() -> None:
    assert len(shell_commands()) > 8
    assert {("sample",), ("train",), ("data", "prepare")} <= set(stages())


def ask_for_help(*stage: str) -> None:
    try:
        code = cli.main([*stage, "--help"])
    except SystemExit as ended:  # argparse prints its help and ends
        code = ended.code
    assert code == 0


@pytest.mark.parametrize("stage", stages(), ids=" ".join)
def test_commands_exist(stage: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert stage[0] in cli.STAGES
    ask_for_help(*stage)
    assert capsys.readouterr().out.startswith(f"usage: crystallm {stage[0]}")


@pytest.mark.parametrize("command", [c for c in crystallm_commands() if "--" in " ".join(c)], ids=" ".join)
def test_options_exist(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each --option of a README command stands in the help of its command."""
    position = (
        2
        if command[0] in {"data", "eval", "bench"} or command[:2] in (["train", "finetune"], ["train", "sweep"])
        else 1
    )
    ask_for_help(*command[:position])
    said = capsys.readouterr().out
    for option in [word for word in command if word.startswith("--")]:
        assert re.search(rf"{re.escape(option)}\b", said), option


def test_files_exist() -> None:
    """Targets of links, and recipes and files that commands read."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    recipes = re.findall(r"\b(?:train|sample|tokenizer|eval|docs)/[\w./-]+\.(?:yaml|json|md|jsonl)\b", README)
    missing = [name for name in {*links, *recipes, "constraints.txt", ".ci/run"} if not (REPOSITORY / name).exists()]
    assert not missing


def test_tree_exists() -> None:
    """Every name in the annotated tree."""
    (tree,) = [block for language, block in BLOCKS if language == "" and block.startswith("crystallm/ ")]
    missing = []
    folder = REPOSITORY
    for line in tree.splitlines():
        indented = line.startswith("  ")
        if not indented:
            folder = REPOSITORY / line.split()[0]
        parent = folder if indented else REPOSITORY
        names = [word for word in line.split("   ")[0].split() if re.fullmatch(r"[\w.]+(/[\w.]*)*", word)]
        missing += [str(parent / name) for name in names if not (parent / name).exists()]
    assert not missing


def test_commands_of_the_gate() -> None:
    """.ci/run installs and tests as the README says."""
    gate = (REPOSITORY / ".ci" / "run").read_text()
    said = [" ".join(command) for command in shell_commands()]
    assert "pip install torch==2.13.0" in said
    assert "pip install -c constraints.txt -e .[dev]" in said
    assert "python -m pytest -q -n 2" in said
    assert "pip install -q torch==2.13.0" in gate
    assert "pip install -q -c constraints.txt -e '.[dev]'" in gate
    assert "python -m pytest -q -n 2" in gate


def test_constraints_are_exact_and_cover_what_we_depend_on() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if not line.startswith("#"))
    assert pins["torch"] == "2.13.0"
    assert all(re.fullmatch(r"\d[\w.]*", version) for version in pins.values())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(item for group in project["optional-dependencies"].values() for item in group),
    ]
    names = {re.split(r"[\[><=]", item)[0] for item in wanted} - {"crystallm"}
    assert names <= pins.keys()

"""Commands made from functions and configurations: what is read, what help says, what is refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from crystallm.base.command_line import Command, Group, Option, commands_in, documentation
from crystallm.base.errors import ConfigError

calls: list[Any] = []


@dataclass(frozen=True, kw_only=True)
class Oven:
    """How something is heated."""

    degrees: float = 180.0
    """Temperature in 100 % dry air, in degrees Celsius."""
    fan: bool = True
    """Whether the fan runs."""
    shelf: Literal["low", "high"] = "low"
    part: tuple[int, int] | None = None
    """Which part of how many; None: all."""

    def __post_init__(self) -> None:
        if self.degrees <= 0:
            raise ConfigError(f"degrees must be above 0, got {self.degrees:g}")


def bake(
    rolls: tuple[str, ...],
    oven: Oven,
    *,
    out: Path,
    number: Annotated[int, Option("-n", metavar="K")] = 1,
    notes: Annotated[tuple[str, ...], Option("--note", each=True)] = (),
    dry: bool = False,
    more: tuple[str, ...] = (),
) -> None:
    """Bake rolls.

    One after the other.

    Args:
        rolls: What is baked, such as
            bread.
        out: Folder to write.
        number: How many of each.
        notes: Remarks.
        dry: Bake nothing.

    Returns:
        Nothing.
    """
    calls.append({"rolls": rolls, "oven": oven, "out": out, "number": number, "notes": notes, "more": more})


BAKE = Command(bake, "bake")
WITH_RECIPE = Command(bake, "bake", recipe="--recipe")


@pytest.fixture(autouse=True)
def empty() -> None:
    calls.clear()


def test_values_reach_parameters_and_configuration() -> None:
    BAKE(
        [
            "bread",
            "cake",
            "--out",
            "o",
            "-n",
            "3",
            "--no-fan",
            "--part",
            "2/8",
            "--note",
            "a",
            "--note",
            "b",
            "--",
            "-x",
        ]
    )
    assert calls == [
        {"rolls": ("bread", "cake"), "oven": Oven(fan=False, part=(2, 8)), "out": Path("o"), "number": 3}
        | {"notes": ("a", "b"), "more": ("-x",)}
    ]


def test_what_is_preset_need_not_be_given_and_may_be() -> None:
    BAKE([], rolls=("bread",), out=Path("o"), degrees=90.0)
    BAKE(["--out", "other", "--degrees", "50"], rolls=("bread",), out=Path("o"), degrees=90.0)
    assert [(call["out"], call["oven"].degrees) for call in calls] == [(Path("o"), 90), (Path("other"), 50)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bread"], "the following arguments are required: --out"),
        (["--out", "o"], "the following arguments are required: ROLL"),
        (["bread", "--out", "o", "--degrees", "hot"], "invalid float value: 'hot'"),
        (["bread", "--out", "o", "--shelf", "top"], "invalid choice: 'top' (choose from 'low', 'high')"),
        (["bread", "--out", "o", "--part", "2"], "'2' is not I/N, such as 2/8"),
    ],
)
def test_what_is_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        BAKE(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not calls


def test_a_configuration_refuses_by_itself() -> None:
    with pytest.raises(ConfigError, match="degrees must be above 0, got -1"):
        BAKE(["bread", "--out", "o", "--degrees", "-1"])


def test_help_is_the_docstrings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        BAKE(["--help"])
    said = capsys.readouterr().out
    assert "Bake rolls.\n\nOne after the other.\n" in said
    lines = {" ".join(line.split()) for line in said.splitlines()}
    assert "ROLL what is baked, such as bread" in lines
    assert "-n K, --number K how many of each (default: 1)" in lines
    assert "--degrees X temperature in 100 % dry air, in degrees Celsius (default: 180)" in lines
    assert "--fan, --no-fan whether the fan runs (default: yes)" in lines
    assert "--part I/N which part of how many; not given: all" in lines
    assert "Nothing" not in said
    assert "more" not in said


def test_recipe_then_overrides_then_options(tmp_path: Path) -> None:
    file = tmp_path / "oven.yaml"
    file.write_text("degrees: 100\nshelf: high\nfan: false\n")
    there = ["bread", "--out", "o", "--recipe", str(file)]
    WITH_RECIPE([*there, "--set", "degrees=1e2", "--set", "fan=true", "--degrees", "60"])
    assert calls[0]["oven"] == Oven(degrees=60, shelf="high", fan=True)
    file.write_text("colour: red\n")
    with pytest.raises(ConfigError, match=r"oven.yaml: unknown field 'colour'; Oven has degrees, fan, shelf, part"):
        WITH_RECIPE(there)


def test_a_group_names_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    place = f"{__name__}:BAKE"
    kitchen = Group("crystallm kitchen", "Cooking.", {"bake": (place, "bake rolls")}, moved={"fry": "studies.nothing"})
    kitchen(["bake", "bread", "--out", "o"])
    assert calls[0]["rolls"] == ("bread",)
    kitchen([])
    assert "Cooking.\n\ncommands:\n  bake        bake rolls\n" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="unknown command `kitchen boil`; choose from bake"):
        kitchen(["boil"])
    assert list(commands_in(kitchen)) == [BAKE]


def test_a_command_that_has_moved_runs_with_a_notice_in_a_clone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen = Group("crystallm kitchen", "Cooking.", {}, moved={"count": "studies.size.count"})
    kitchen(["count"])
    said = capsys.readouterr()
    assert "`crystallm kitchen count` is now `python -m studies.size.count`" in said.err
    assert "| all |" in said.out
    monkeypatch.setattr("crystallm.base.command_line.__file__", str(tmp_path / "a" / "b" / "c.py"))  # from a wheel
    with pytest.raises(ConfigError, match=r"has left the package; in a clone of the repository, run `python -m"):
        kitchen(["count"])


@dataclass(frozen=True, kw_only=True)
class Grill(Oven):
    """An oven with more."""

    bars: int = 3
    """How many are hot."""


def test_what_is_said_of_fields_and_parameters() -> None:
    assert documentation(Grill) == documentation(Oven) | {"bars": "How many are hot."}
    assert documentation(Oven)["fan"] == "Whether the fan runs."
    assert set(documentation(bake)) == {"rolls", "out", "number", "notes", "dry"}

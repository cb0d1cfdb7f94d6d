"""`crystallm eval run`: targets, prompts, samples of several seeds, report; sampling is another process."""

import json
import sys
from pathlib import Path

import pytest

from crystallm.base.errors import ConfigError, InputError
from crystallm.base.folder_lock import only_writer
from crystallm.base.input_files import Reading
from crystallm.eval.__main__ import main
from crystallm.eval.benchmarking import run_command as run
from crystallm.model.checkpoint import default_folder


def sampler(cifs: dict[str, str], commands: list[list[str]]) -> object:
    """A sampler that answers every prompt with rock salt, the first one after refusing it twice."""

    def draw(command: list[str]) -> None:
        commands.append(command)
        prompts = Path(command[command.index("--prompts") + 1])
        out = Path(command[command.index("--out") + 1])
        out.mkdir(exist_ok=True)
        names = [json.loads(line)["id"] for line in prompts.read_text().splitlines()]
        rows = [{"target_id": name, "sample": 0, "cif": cifs["NaCl"]} for name in names]
        rows[0]["redrawn"] = {"too close": 2}
        (out / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return draw


def test_one_command_from_targets_to_report(
    salts: Path, cifs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(run, "draw", sampler(cifs, commands))
    out = tmp_path / "out"
    there = ["--data", str(tmp_path), "--out", str(out), "--workers", "1", "--no-validity", "--print-seen"]
    more = ["--", "--temperature", "0.7"]
    run.main([str(salts), "--targets", "2", "-n", "5", "--seed", "0", "1", "--prompt", "formula", *there, *more])
    assert [command[1:3] for command in commands] == [["-m", "crystallm.sample"]] * 2
    assert [command[command.index("--seed") + 1] for command in commands] == ["0", "1"]
    options = ["--repeat", "1", "--temperature", "0.7"]  # draws are independent unless asked otherwise
    assert all(command[0] == sys.executable and command[-4:] == options for command in commands)
    models = {command[command.index("--model") + 1] for command in commands}
    assert models == {str(default_folder("benchmark"))}  # never the full edition, unless it is asked for
    prompts = [json.loads(line) for line in (out / "prompts.jsonl").read_text().splitlines()]
    assert all(prompt.keys() == {"id", "formula"} for prompt in prompts)
    report = json.loads((out / "report.json").read_text())
    assert (report["targets"], report["seeds"], report["prompt"]) == (2, [0, 1], "formula")
    assert report["sampling"] == options
    assert (report["label"], report["made_by"]["edition"], report["seen"]["of"]) == ("benchmark", "benchmark", 2)
    assert (report["followed_templates"]["passed"], report["followed_templates"]["attempted"]) == (0, 4)
    again = {"attempted": 4, "passed": 2}
    assert {reason: {k: rate[k] for k in again} for reason, rate in report["redrawn"].items()} == {"too close": again}
    assert len(report["over_seeds"]["match_rate@1"]["values"]) == 2
    assert (out / "report.md").exists()


def test_several_processes_are_started_by_accelerate() -> None:
    draws = run.Draws(model=Path("m"), n=3, seeds=[1], processes=2, more=[])
    command = draws.command(Path("p"), Path("o"), 1)
    assert command[1:3] == ["-m", "crystallm.base.launch"]
    assert command[command.index("--model") + 1] == "m"
    assert {"--generated-only", "--no-energies"} <= set(command)  # a look-up is no prediction
    stated = ("--num_processes", "--num_machines", "--mixed_precision", "--dynamo_backend")
    assert [command[command.index(name) + 1] for name in stated] == ["2", "1", "no", "no"]  # or accelerate warns
    assert command.index("--dynamo_backend") < command.index("crystallm.sample") < command.index("--prompts")


def test_what_the_sampler_refuses_ends_the_run(tmp_path: Path, salts: Path) -> None:
    with pytest.raises(InputError, match="nothing was scored"):
        run.draw([sys.executable, "-c", "raise SystemExit(2)"])
    with pytest.raises(KeyboardInterrupt):
        run.draw([sys.executable, "-c", "raise SystemExit(130)"])
    with pytest.raises(RuntimeError, match="exit code 1"):
        run.draw([sys.executable, "-c", "raise SystemExit(1)"])
    with pytest.raises(ConfigError, match="seeds must differ"):
        run.main([str(salts), "--seed", "1", "1", "--data", str(tmp_path), "--out", str(tmp_path / "o")])


def test_free_samples_of_several_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is drawn by as many processes as were asked for and judged in a folder of its own; a table shows all."""
    commands: list[list[str]] = []
    shares = iter([(3, 4), (4, 4)])

    def score(benchmark: object, samples: Path, data: Path, out: Path, reading: Reading) -> None:
        passed, attempted = next(shares)
        rates = {"valid": {"passed": passed, "attempted": attempted}}
        (out / "denovo.json").write_text(json.dumps({"rates": rates}))
        assert samples == out / "samples" / "samples.jsonl"

    monkeypatch.setattr(run, "draw", commands.append)
    monkeypatch.setattr(run, "score_free_samples", score)
    there = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--processes", "2", "-n", "4"]
    run.main(["de_novo", "--seed", "3", "5", *there])
    assert [command[command.index("--seed") + 1] for command in commands] == ["3", "5"]
    assert all(command[1:3] == ["-m", "crystallm.base.launch"] and "--prompts" not in command for command in commands)
    assert [command[command.index("--out") + 1] for command in commands] == [
        str(tmp_path / "out" / folder / "samples") for folder in ("seed3", "seed5")
    ]
    table = json.loads((tmp_path / "out" / "denovo.json").read_text())
    assert table["seeds"] == [3, 5]
    assert table["over_seeds"]["valid"]["values"] == [0.75, 1.0]
    assert table["over_seeds"]["valid"]["mean"] == pytest.approx(0.875)
    assert "| valid | 0.8750 | 0.1768 | 3/4 (75.0%" in (tmp_path / "out" / "denovo.md").read_text()
    commands.clear()
    shares = iter([(3, 4)])
    run.main(["de_novo", "--seed", "3", *there[:2], "--out", str(tmp_path / "one"), "-n", "4"])
    assert commands[0][commands[0].index("--out") + 1] == str(tmp_path / "one" / "samples")


@pytest.mark.parametrize("name", ["run", "score"])
def test_one_run_at_a_time_writes_a_report(
    name: str, salts: Path, cifs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "draw", sampler(cifs, []))
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "s").mkdir()
    there = ["--data", str(tmp_path), "--out", str(out), "--workers", "1", "--no-validity"]
    command = {"run": [str(salts), "--targets", "2"], "score": ["score", str(salts), str(tmp_path / "s")]}[name]
    with only_writer(out), pytest.raises(InputError, match=r"another run \(process \d+, .*wait for its end, or choose"):
        run.main([*command, *there]) if name == "run" else main(["score", *command[1:], *there])

"""`crystallm eval run`: targets, prompts, samples of several seeds, report; sampling is another process."""

import json
import sys
from pathlib import Path

import pytest

from crystallm.errors import ConfigError, InputError
from crystallm.eval import run
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
    command = run.sample_command(Path("p"), Path("o"), model=Path("m"), n=3, seed=1, processes=2, more=[])
    assert "accelerate.commands.launch" in command
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

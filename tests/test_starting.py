"""A command imports only what it needs, and what is left out comes when something needs it."""

import subprocess
import sys
from pathlib import Path

from crystallm.model.checkpoint import default_folder

SLOW = (
    "torch._decomp",
    "torch._dynamo",
    "pymatgen.core.local_env",
    "pymatgen.symmetry.analyzer",
    "networkx",
    "scipy.stats",
    "scipy.spatial",
    "scipy.optimize",
    "matplotlib",
    "pandas",
    "transformers",
)


def imported_by(command: list[str], then: str = "") -> list[str]:
    """Names of all modules in the process of a command that has ended; `then` runs after it."""
    source = f"import sys\nsys.argv = {['crystallm', *command]!r}\nfrom crystallm.cli import main\nassert main() == 0\n"
    source += f"{then}\nprint()\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def sample(out: Path, *options: str) -> list[str]:
    """`crystallm sample` with the benchmark edition and no energies."""
    return ["sample", *options, "--no-energies", "--model", str(default_folder("benchmark")), "--out", str(out)]


def test_drawing_one_crystal_imports_nothing_slow_but_torch(tmp_path: Path) -> None:
    found = imported_by(sample(tmp_path / "MgO", "MgO", "-n", "1", "--generated-only"))
    assert "torch" in found
    assert not set(SLOW) & set(found)


def test_looking_up_imports_no_torch(tmp_path: Path) -> None:
    found = imported_by(sample(tmp_path / "TiO2", "TiO2", "--known-only"))
    assert not {"torch", "transformers", "pandas", "scipy.stats", "pymatgen.core.local_env"} & set(found)


def test_what_was_left_out_comes_when_it_is_needed(tmp_path: Path) -> None:
    then = "import torch._dynamo, pandas\nassert torch._meta_registrations.__file__\n"
    then += "assert torch.addmm(*(torch.empty(2, 2, device='meta') for _ in range(3))).shape == (2, 2)"
    found = imported_by(sample(tmp_path / "MgO", "MgO", "-n", "1", "--generated-only"), then)
    assert {"torch._decomp", "pandas"} <= set(found)


def test_a_program_that_calls_the_command_is_left_as_it_is() -> None:
    source = (
        "import gc, sys\nbefore = gc.get_threshold(), list(sys.meta_path)\nfrom crystallm.cli import main\n"
        "main(['--version'])\nassert before == (gc.get_threshold(), list(sys.meta_path))"
    )
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60, stdout=subprocess.DEVNULL)

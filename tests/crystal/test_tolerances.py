"""One meaning of each name: benchmarks, fine-tuning, merging and the matcher's own defaults."""

import ast
import inspect
from pathlib import Path

import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher

from crystallm.crystal.matching.tolerances import DUPLICATE, STANDARD, STRICT, Tolerances
from crystallm.eval.sets.benchmark import benchmark_folder, load_benchmark
from crystallm.train import probe
from crystallm.train.finetune import judging as finetune_measure

PACKAGE = Path(__file__).parents[2] / "crystallm"


def test_the_values() -> None:
    assert Tolerances(stol=0.5, ltol=0.3, angle_tol=10) == STANDARD
    assert Tolerances(stol=0.3, ltol=0.2, angle_tol=5) == STRICT == DUPLICATE


def test_strict_is_what_pymatgen_takes_by_default() -> None:
    given = inspect.signature(StructureMatcher).parameters
    assert Tolerances(*(given[name].default for name in ("stol", "ltol", "angle_tol"))) == STRICT


@pytest.mark.parametrize("name", sorted(file.stem for file in benchmark_folder().glob("*.yaml")))
def test_benchmarks_mean_the_same_by_standard_and_strict(name: str) -> None:
    benchmark = load_benchmark(name)
    assert (benchmark.standard, benchmark.strict) == (STANDARD, STRICT)


def test_training_and_fine_tuning_take_them_from_here() -> None:
    assert finetune_measure.STRICT is probe.STRICT is STRICT
    assert finetune_measure.STANDARD is probe.STANDARD is STANDARD


def test_nobody_else_makes_tolerances_of_his_own() -> None:
    makers = [
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Tolerances"
    ]
    assert set(makers) == {"crystal/matching/tolerances.py"}

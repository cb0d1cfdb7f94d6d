"""The same seed draws the same crystals, whatever is drawn beside them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crystallm.cli import main
from crystallm.sample.config import SampleConfig
from crystallm.sample.decoding.device import native_precision
from crystallm.sample.generator import Generator
from crystallm.sample.output.records import RECORDS, read_records
from crystallm.sample.prompts import make_prompt

SALTS = ["NaCl", "TiO2", "BaTiO3", "Fe2O3", "ZnS", "GaN", "LiFePO4", "CaF2", "MgAl2O4", "Cu2O", "SrTiO3"]
OTHERS = ["K2NiF4", "Al2O3", "SiC", "CsCl", "MoS2", "Ni3Al", "CaCO3", "Bi2Te3", "YBa2Cu3O7", "Mg2SiO4", "ZrO2"]
FORMULAS = SALTS + OTHERS

NATIVE = native_precision(torch.device("cpu"))


@pytest.fixture(scope="module", params=sorted({"fp32", NATIVE}))
def generator(request: pytest.FixtureRequest) -> Generator:
    return Generator.from_pretrained(edition="benchmark", device="cpu", precision=request.param)


def test_batches_and_company_change_no_crystal(generator: Generator) -> None:
    prompts = [make_prompt(formula) for formula in FORMULAS]
    config = SampleConfig(n=2, seed=1, max_atoms=40, bond_tries=1)

    def texts(formulas: slice, size: int) -> dict[tuple[str, int], str]:
        drawn = generator.attempts(prompts[formulas], replace(config, batch_size=size))
        return {(attempt.prompt.name, attempt.number): attempt.text for attempt in drawn}

    whole = texts(slice(None), 32)
    assert len(whole) == 2 * len(FORMULAS)
    for size in (1, 2, 128):
        assert texts(slice(None), size) == whole, size
    assert texts(slice(6), 32).items() <= whole.items()


def test_processes_change_no_crystal(tmp_path: Path) -> None:
    def texts(processes: int) -> dict[tuple[str, int], str]:
        out = tmp_path / str(processes)
        options = ["--edition", "benchmark", "--generated-only", "--no-energies", "--no-relax", "--no-checks"]
        options += ["-n", "2", "--max-atoms", "40", "--processes", str(processes)]
        main(["sample", *FORMULAS, *options, "--out", str(out)])
        return {(line["target_id"], line["sample"]): line["text"] for line in read_records(out / RECORDS)}

    one = texts(1)
    assert len(one) == 2 * len(FORMULAS)
    assert texts(2) == one

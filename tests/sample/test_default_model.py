"""The models that ship: there, small enough, and better than chance at what everybody knows."""

import json

import pytest

from crystallm import Generator
from crystallm.model.checkpoint import default_folder
from crystallm.model.editions import EDITIONS, Edition
from crystallm.sample.crystal import Crystal


@pytest.fixture(scope="module", params=EDITIONS)
def rock_salt(request: pytest.FixtureRequest) -> list[Crystal]:
    generator = Generator.from_pretrained(edition=request.param, device="cpu")
    return generator.generate("NaCl", n=8, space_group=225, seed=0, max_atoms=8, known="none", energies=False)


@pytest.mark.parametrize("edition", EDITIONS)
def test_it_is_small_and_tells_where_it_comes_from(edition: Edition) -> None:
    folder = default_folder(edition)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 30e6
    about = json.loads((folder / "crystallm.json").read_text())
    assert about["layout"] == "wyckoff"
    assert {"train.parquet", "val.parquet"} <= set(about["provenance"]["inputs"])
    assert "CC-BY-4.0" in (folder / "README.md").read_text()


def test_it_knows_rock_salt(rock_salt: list[Crystal]) -> None:
    best = rock_salt[0]
    assert best.description.space_group == 225
    assert {site.letter for site in best.description.sites} == {"a", "b"}
    assert best.structure.lattice.a == pytest.approx(5.64, rel=0.08)  # angstrom, the mineral halite
    assert best.checks.valid


def test_it_is_ranked(rock_salt: list[Crystal]) -> None:
    chances = [crystal.probability for crystal in rock_salt]
    assert chances == sorted(chances, reverse=True)
    assert sum(crystal.count for crystal in rock_salt) == 8

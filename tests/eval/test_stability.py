"""Energies above hull with a toy potential (ASE's EMT for copper, gold and their like), and hulls by hand."""

import importlib.util
import json
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from crystallm.base.errors import ConfigError
from crystallm.base.workers import Fate
from crystallm.cli import main as cli
from crystallm.energy.hull.hull import Hull, NoHull, formulas_by_system, make_hull
from crystallm.energy.journal import Journal
from crystallm.energy.potentials.ase_potential import atoms_of, calculator
from crystallm.energy.potentials.protocol import NoEnergy, require
from crystallm.energy.relaxation.fire import Relax, Relaxation, SinglePoint
from crystallm.energy.relaxation.relaxation import RelaxationSettings, displacement_rms
from crystallm.eval.denovo.evaluation import DenovoConfig, score_denovo
from crystallm.eval.denovo.named_reference import Reference, ReferenceRow
from crystallm.eval.denovo.stability import LOWEST_EV, StabilityConfig, _verdict, judge_stability
from crystallm.eval.rate import Rate
from crystallm.eval.sets.inputs import Record, read_records

EMT = "ase.calculators.emt:EMT"
SETTINGS = RelaxationSettings(potential=EMT)

DIED = str(Fate.DIED)
A, B, AB, A3B = (("Cu", 1),), (("Au", 1),), (("Cu", 1), ("Au", 1)), (("Cu", 3), ("Au", 1))


def cif(structure: Structure) -> str:
    return str(CifWriter(structure))


def fcc(element: str, a: float) -> Structure:
    return Structure(Lattice.cubic(a), [element] * 4, [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


CUBIC_GOLD_COPPER = Structure(Lattice.cubic(3.75), ["Au", "Cu", "Cu", "Cu"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])  # noqa: E501  # fmt: skip
BCC_COPPER = Structure(Lattice.cubic(2.9), ["Cu", "Cu"], [[0, 0, 0], [0.5] * 3])
ROCK_SALT = Structure.from_spacegroup(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    """Copper and gold, both a little larger than EMT wants them, and sodium, which EMT does not know."""
    rows = [
        {"id": "copper", "cif": cif(fcc("Cu", 3.65)), "reduced_formula": "Cu"},
        {"id": "gold", "cif": cif(fcc("Au", 4.10)), "reduced_formula": "Au"},
        {"id": "sodium", "cif": cif(fcc("Na", 5.4)), "reduced_formula": "Na"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "reference.parquet")
    return Reference([tmp_path / "reference.parquet"])


def test_energy_above_a_hull_by_hand() -> None:
    hull = make_hull(frozenset({"Cu", "Au"}), [("a", A, 0.0), ("b", B, 0.0), ("ab", AB, -1.0)])
    assert isinstance(hull, Hull)
    # Half way between copper and CuAu the hull lies at -0.5 eV per atom.
    assert hull.above(A3B, -0.4) == pytest.approx(0.1)
    assert hull.above(A3B, -0.7) == pytest.approx(-0.2)
    assert hull.above(AB, -1.0) == pytest.approx(0.0)
    assert sorted(hull.below(A3B)) == ["a", "ab"]
    assert make_hull(frozenset({"Cu", "Au"}), [("a", A, 0.0), ("ab", AB, -1.0)]) == NoHull("no reference energy of Au")


def test_a_hull_takes_every_formula_of_its_elements_and_no_other() -> None:
    system = frozenset({"Cu", "Au"})
    assert formulas_by_system([A, AB, (("Ag", 1),), (("Ag", 1), ("Cu", 1))], [system]) == {system: [A, AB]}


def test_a_perturbed_crystal_relaxes_back() -> None:
    relaxed = Relax(SETTINGS)(cif(fcc("Cu", 3.7)))
    assert isinstance(relaxed, Relaxation)
    # EMT's lattice constant of copper is 3.59 angstrom; by symmetry the atoms do not move within the cell.
    assert relaxed.cell.volume == pytest.approx(3.59**3, rel=0.01)
    assert relaxed.rmsd_angstrom == pytest.approx(0, abs=1e-6)
    assert relaxed.converged
    assert relaxed.energy < relaxed.energy_as_given
    assert relaxed.volume_ratio == pytest.approx((3.59 / 3.7) ** 3, rel=0.01)
    moved = fcc("Cu", 3.59)
    moved.translate_sites([0], [0.04, 0, 0])
    back = Relax(SETTINGS)(cif(moved))
    assert isinstance(back, Relaxation)
    assert back.energy == pytest.approx(relaxed.energy, abs=1e-3)
    # One of four atoms goes back by d = 0.1436 A; about the common drift d/4 that is sqrt(3)/4 d.
    assert back.rmsd_angstrom == pytest.approx(np.sqrt(3) / 4 * 0.04 * 3.59, rel=0.1)


def test_displacement_does_not_count_drift() -> None:
    before = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]])
    lattice = 4 * np.eye(3)
    assert displacement_rms(before, before + np.array([0.1, 0, 0]), lattice) == pytest.approx(0)
    apart = before + np.array([[0.05, 0, 0], [-0.05, 0, 0]])
    assert displacement_rms(before, apart, lattice) == pytest.approx(0.2)


def test_what_a_potential_refuses_is_a_reason() -> None:
    refused = SinglePoint(EMT)(cif(ROCK_SALT))
    assert isinstance(refused, NoEnergy)
    assert refused.reason == "the potential refuses the structure"
    assert Relax(SETTINGS)(cif(ROCK_SALT)) == refused
    assert SinglePoint(EMT)("data_x") == NoEnergy("no atoms", "no _atom_site_fract_x in the file")
    few = Relax(RelaxationSettings(potential=EMT, max_steps=1))(cif(fcc("Cu", 3.9)))
    assert isinstance(few, Relaxation)
    assert not few.converged


def test_a_known_crystal_lies_on_the_hull_and_a_worse_one_above(reference: Reference, tmp_path: Path) -> None:
    samples = {
        0: (cif(fcc("Cu", 3.5)), A),
        1: (cif(BCC_COPPER), A),
        2: (cif(CUBIC_GOLD_COPPER), A3B),
        3: (cif(ROCK_SALT), (("Na", 1), ("Cl", 1))),
    }
    config = StabilityConfig(relaxation=SETTINGS)
    with Journal(tmp_path / "energies.jsonl") as journal:
        found, facts = judge_stability(samples, reference, config, journal)
    assert found[0].above_hull == pytest.approx(0, abs=2e-3)
    assert found[0].metastable
    assert found[1].above_hull is not None
    assert found[1].above_hull > -2e-3
    # EMT was fitted to these alloys: AuCu3 forms from the elements.
    assert found[2].stable
    assert found[2].above_hull == pytest.approx(-0.04, abs=0.03)
    assert (found[3].above_hull, found[3].reason) == (None, "the potential refuses the structure")
    assert (facts.systems, facts.references, facts.relaxed_references) == (2, 2, 2)


def test_references_as_given_make_everything_look_stable(reference: Reference, tmp_path: Path) -> None:
    sample = {0: (cif(fcc("Cu", 3.5)), A)}
    config = StabilityConfig(relaxation=SETTINGS, reference_window=0.0)
    with Journal(tmp_path / "energies.jsonl") as journal:
        found, facts = judge_stability(sample, reference, config, journal)
    assert facts.relaxed_references == 0
    assert found[0].above_hull is not None
    assert found[0].above_hull < -5e-3  # only because the reference was not relaxed


def test_a_system_without_an_element_has_no_hull(reference: Reference, tmp_path: Path) -> None:
    alloy = Structure(Lattice.tetragonal(2.8, 3.6), ["Ag", "Cu"], [[0, 0, 0], [0.5] * 3])
    with Journal(tmp_path / "energies.jsonl") as journal:
        found, _ = judge_stability(
            {0: (cif(alloy), (("Cu", 1), ("Ag", 1)))}, reference, StabilityConfig(relaxation=SETTINGS), journal
        )
    assert (found[0].above_hull, found[0].reason) == (None, "no reference energy of Ag")
    assert not found[0].metastable


def test_an_energy_far_below_the_hull_is_not_believed() -> None:
    hull = make_hull(frozenset({"Cu"}), [(ReferenceRow("copper", ""), A, 0.0)])
    relaxed = Relaxation(-3.0, LOWEST_EV - 0.5, True, 1, 0.0, 1.0, [], [], [])
    assert _verdict(relaxed, A, hull).reason == "more than 1 eV per atom below the hull"
    assert _verdict(relaxed, A, hull).stable is False


def test_energies_are_not_computed_twice_and_timeouts_not_kept(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = {0: (cif(fcc("Cu", 3.5)), A)}
    path, config = tmp_path / "energies.jsonl", StabilityConfig(relaxation=SETTINGS, time_limit=0.5)

    def slow(self: Relax, text: str) -> Relaxation:
        time.sleep(60)
        raise AssertionError

    with monkeypatch.context() as patch, Journal(path) as journal:
        patch.setattr(Relax, "__call__", slow)
        found, _ = judge_stability(samples, reference, config, journal)
        assert found[0].reason == "timed out"
    with Journal(path) as journal:
        first, _ = judge_stability(samples, reference, StabilityConfig(relaxation=SETTINGS), journal)
    assert first[0].above_hull is not None

    def unused(self: object, text: str) -> float:
        raise AssertionError("computed again")

    monkeypatch.setattr(Relax, "__call__", unused)
    monkeypatch.setattr(SinglePoint, "__call__", unused)
    with Journal(path) as journal:
        assert judge_stability(samples, reference, StabilityConfig(relaxation=SETTINGS), journal)[0] == first


@pytest.mark.parametrize(("call", "counted"), [(SinglePoint, DIED), (Relax, f"relaxing: {DIED}")])
def test_a_lost_reference_leaves_the_samples_of_its_system_undecided(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: type, counted: str
) -> None:
    """Gold ends its process: nothing is known of Cu3Au, and copper is judged as ever."""
    (gold,) = (row.cif for row in reference.of_formulas([B])[B])
    true_call = call.__call__

    def dies(self: object, text: str) -> object:
        return os._exit(3) if text == gold else true_call(self, text)

    monkeypatch.setattr(call, "__call__", dies)
    samples = [Record("alloy", cif(CUBIC_GOLD_COPPER)), Record("copper", cif(fcc("Cu", 3.5)))]
    config = DenovoConfig(stability=StabilityConfig(relaxation=SETTINGS), reference_rows=3)
    score = score_denovo(samples, reference, config, folder=tmp_path)
    assert score.stability is not None
    assert score.stability.reference_failures == {counted: 1}
    alloy, copper = score.verdicts
    assert (alloy.stable, alloy.metastable, copper.metastable) == (None, None, True)
    assert alloy.stability is not None
    assert alloy.stability.reason == f"a reference of the hull: {DIED}"
    assert score.rates["relaxed"] == score.rates["converged"] == Rate(2, 2)
    assert score.rates["placed_above_hull"] == score.rates["metastable"] == Rate(1, 2, 1)
    assert score.rates["msun"].undecided == 1


def test_sun_is_counted_for_one_and_the_same_sample(reference: Reference, tmp_path: Path) -> None:
    samples = [
        Record("new", cif(CUBIC_GOLD_COPPER)),
        Record("again", cif(CUBIC_GOLD_COPPER)),
        Record("known", cif(fcc("Au", 4.08))),
        Record("refused", cif(ROCK_SALT)),
        Record("broken", "data_x"),
    ]
    config = DenovoConfig(stability=StabilityConfig(relaxation=SETTINGS), reference_rows=3)
    rates = score_denovo(samples, reference, config, folder=tmp_path).rates
    assert {name: (rates[name].passed, rates[name].attempted) for name in ("relaxed", "sun", "msun", "metastable")} == {
        "relaxed": (3, 5),
        "sun": (1, 5),
        "msun": (1, 5),
        "metastable": (3, 5),
    }


def test_the_command_relaxes_with_any_calculator(
    reference: Reference, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "a.cif").write_text(cif(CUBIC_GOLD_COPPER))
    (tmp_path / "samples" / "b.cif").write_text("data_x")
    command = ["eval", "denovo", str(tmp_path / "samples"), "--reference", str(reference.paths[0])]
    command += ["--out", str(tmp_path / "out"), "--workers", "1", "--energy", "--potential", EMT]
    assert cli([*command, "--energy-cache", str(tmp_path / "cache.jsonl")]) == 0
    report = json.loads((tmp_path / "out" / "denovo.json").read_text())
    assert report["rates"]["sun"]["passed"] == 1
    assert report["rates"]["sun"]["attempted"] == 2
    assert report["reasons"]["no energy above hull"] == {"no structurally valid crystal": 1}
    assert "One potential, one hull" in capsys.readouterr().out
    (relaxed,) = read_records(tmp_path / "out" / "relaxed.jsonl")
    assert relaxed.fields["energy_above_hull"] < 0
    assert (tmp_path / "cache.jsonl").read_text().count("\n") == 5  # two elements given and relaxed, one sample


def no_module(name: str) -> None:
    """What `importlib.util.find_spec` answers for a package that is not installed."""


def test_a_missing_potential_names_the_remedy(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.cif").write_text(cif(BCC_COPPER))
    command = ["eval", "denovo", str(tmp_path / "a.cif"), "--reference", str(reference.paths[0])]
    command += ["--out", str(tmp_path / "out"), "--energy"]
    monkeypatch.setattr(importlib.util, "find_spec", no_module)
    assert cli(command) == 2
    assert "pip install crystallm[energy]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [("lj", "package.module:callable"), ("no_such_package:Potential", "install"), ("ase:NoSuch", "no callable")],
)
def test_an_unknown_potential_ends_with_a_message(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        require(name)


@pytest.mark.parametrize("settings", [{"max_force": 0}, {"max_steps": 0}])
def test_impossible_settings_name_the_value(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="got 0"):
        RelaxationSettings(**settings)


@pytest.mark.skipif(importlib.util.find_spec("chgnet") is None, reason="chgnet is not installed")
def test_chgnet_relaxes_rock_salt() -> None:
    swollen = ROCK_SALT.copy()
    swollen.scale_lattice(1.1 * swollen.volume)
    relaxed = Relax(RelaxationSettings())(cif(swollen))
    assert isinstance(relaxed, Relaxation)
    assert relaxed.volume_ratio < 1
    assert relaxed.cell.volume == pytest.approx(5.64**3, rel=0.08)
    # Asked for the energy alone, chgnet takes a shorter way to the same number.
    assert SinglePoint("chgnet")(cif(swollen)) == pytest.approx(relaxed.energy_as_given, abs=1e-5)
    atoms = atoms_of(relaxed.cell)
    atoms.calc = calculator("chgnet")
    atoms.get_forces()
    assert float(atoms.get_potential_energy()) / len(atoms) == pytest.approx(relaxed.energy, abs=1e-5)

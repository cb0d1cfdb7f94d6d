"""What a run has relaxed is read back as it was."""

from dataclasses import replace
from pathlib import Path

from crystallm.crystal.description import Description
from crystallm.energy.potentials.protocol import NoEnergy
from crystallm.energy.relaxation.race import RaceSettings
from crystallm.energy.relaxation.relaxation import Relaxed, Stopped
from crystallm.sample.answers.kept import KeptRelaxations


def relaxed(rutile: Description, stopped: Stopped = Stopped.CONVERGED) -> Relaxed:
    after = replace(rutile, cell=(4.6, 4.6, 2.96, 90.0, 90.0, 90.0))
    return Relaxed(rutile, after, -8.9, -9.0, stopped, 7, 9, 0.01, 1.003, 0.04, None)


def test_read_back_in_another_run(rutile: Description, anatase: Description, tmp_path: Path) -> None:
    first = KeptRelaxations(tmp_path, "chgnet 0.4.2", RaceSettings())
    first.keep(rutile, relaxed(rutile))
    first.keep(anatase, NoEnergy("isolated atoms", "2 sites"))
    second = KeptRelaxations(tmp_path, "chgnet 0.4.2", RaceSettings())
    assert second.find(rutile) == relaxed(rutile)
    assert second.find(anatase) == NoEnergy("isolated atoms", "2 sites")


def test_another_potential_or_setting_finds_nothing(rutile: Description, tmp_path: Path) -> None:
    KeptRelaxations(tmp_path, "chgnet 0.4.2", RaceSettings()).keep(rutile, relaxed(rutile))
    assert KeptRelaxations(tmp_path, "sevenn 0.13.0", RaceSettings()).find(rutile) is None
    assert KeptRelaxations(tmp_path, "chgnet 0.4.2", RaceSettings(window=0.1)).find(rutile) is None


def test_what_was_cut_short_is_made_again(rutile: Description, tmp_path: Path) -> None:
    kept = KeptRelaxations(tmp_path, "chgnet 0.4.2", RaceSettings())
    kept.keep(rutile, relaxed(rutile, Stopped.INTERRUPTED))
    assert kept.find(rutile) is None


def test_without_a_folder_nothing_is_kept(rutile: Description) -> None:
    kept = KeptRelaxations(None, "chgnet 0.4.2", RaceSettings())
    kept.keep(rutile, relaxed(rutile))
    assert kept.find(rutile) is None

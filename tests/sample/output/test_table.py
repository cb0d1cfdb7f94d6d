"""What is printed of an answer, line by line."""

from dataclasses import replace

from crystallm.crystal.checks.validity import undecided_checks
from crystallm.crystal.description import Description
from crystallm.data.templates import KnownCrystal
from crystallm.sample.crystal import NOT_COMPARED, Crystal, Crystals, EnergyRecord, percent
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.drawing.template_guide import Followed
from crystallm.sample.output.table import Entry, prompt_table
from crystallm.sample.prompts import make_prompt

PROMPT = make_prompt("TiO2")


def known(description: Description) -> KnownCrystal:
    return KnownCrystal(
        id="mp-2657",
        ids=("mp-2657", "cod-9004141"),
        description=description,
        space_group=description.space_group,
        formula_units=description.formula_units,
        observed=True,
        measured=True,
        energy_above_hull=0.03,
        energy=-9.0,
        relaxed_energy=None,
        exact=True,
    )


def attempt(description: Description | None, followed: Followed | None = None) -> Attempt:
    return Attempt(PROMPT, 0, description, None, "", (-1.0,), -1.0, -1.5, 23, 20, {}, followed=followed)


def test_known_and_drawn_crystals(rutile: Description, anatase: Description) -> None:
    first = Crystal(
        PROMPT,
        rutile,
        known=known(rutile),
        count=0,
        energy=EnergyRecord("chgnet", -9.0, above_hull=0.0304),
        probability=0.62,
    )
    drawn = attempt(anatase, Followed("mp-1", "SnO2", 0.9))
    second = Crystal(PROMPT, anatase, drawn, probability=0.003, flags=("drawn as C2/m",))
    entries = [Entry(1, first, "01.cif"), Entry(2, second, "02.cif")]
    title, heading, *rows = prompt_table(PROMPT, [drawn, attempt(None)], entries).splitlines()
    assert title == "TiO2: known 1, finished 1 of 2 draws, distinct 1 of 1"
    assert heading.split() == [
        "rank",
        "chance",
        "%",
        "phase",
        "Z",
        "g/cm3",
        "meV",
        "above",
        "hull",
        "draws",
        "origin",
        "checks",
    ]
    assert rows[0].split() == ["1", "62", "P4_2/mnm", "(136)", "2", "4.25", "30", "0", "mp-2657,", "observed", "-"]
    assert rows[1].split() == [
        "2",
        "<1",
        "I4_1/amd",
        "(141)",
        "4",
        "3.89",
        "-",
        "1",
        "like",
        "SnO2",
        "-;",
        "drawn",
        "as",
        "C2/m",
    ]
    with_lattice = prompt_table(PROMPT, [drawn], entries, lattice=True)
    assert "4.594 4.594 2.959  90.0 90.0 90.0" in with_lattice


def test_notes_of_a_prompt_are_printed(rutile: Description) -> None:
    item = replace(PROMPT, notes=("deuterium is taken as hydrogen",))
    assert "  deuterium is taken as hydrogen" in prompt_table(item, [], [Entry(1, Crystal(item, rutile), "1.cif")])


def test_nothing_known() -> None:
    assert "no crystal of this formula is known" in prompt_table(PROMPT, [], [])


def test_a_record_names_its_source(rutile: Description) -> None:
    line = Entry(1, Crystal(PROMPT, rutile, known=known(rutile), count=0), "01.cif").to_json()
    assert line["origin"] == "mp-2657, observed"
    assert line["known"] == {"ids": ["mp-2657", "cod-9004141"], "observed": True}
    assert (line["sample"], line["log_probability"], line["template"]) == (None, None, None)
    assert line["lattice"] == [4.5937, 4.5937, 2.9587, 90, 90, 90]


def test_chances_are_rounded_without_becoming_nothing() -> None:
    assert [percent(x) for x in (None, 0.0, 0.004, 0.006, 0.996)] == ["-", "0", "<1", "1", "100"]


def test_a_notebook_shows_a_table(rutile: Description) -> None:
    crystal = Crystal(PROMPT, rutile, known=known(rutile), probability=0.5)
    assert "<td>P4_2/mnm (136)</td>" in Crystals([crystal])._repr_html_()
    assert Crystals([crystal])._repr_html_() == crystal._repr_html_()
    assert repr(crystal) == "Crystal(TiO2, P4_2/mnm (136), Z=2, 4.25 g/cm3, 50 %, mp-2657, observed)"


def test_what_ran_out_of_time_is_told(rutile: Description, anatase: Description) -> None:
    drawn = attempt(anatase)
    alone = Crystal(PROMPT, anatase, drawn, flags=(NOT_COMPARED,))
    entries = [
        Entry(1, Crystal(PROMPT, rutile, drawn), "01.cif"),
        Entry(2, alone, "02.cif", undecided_checks("timed out")),
    ]
    title, _, *rows = prompt_table(PROMPT, [drawn, drawn], entries).splitlines()
    assert title == "TiO2: finished 2 of 2 draws, distinct 2 of 2 (1 undecided), valid 0 of 1 (1 undecided)"
    assert f"undecided: timed out; {NOT_COMPARED}" in "\n".join(rows)

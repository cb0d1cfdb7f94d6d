"""Every spelling of a space group means its number, and the settings that the tables give it."""

import gemmi
import moyopy
import pytest

from crystallm.base.errors import SymmetryError
from crystallm.crystal.space_group_symbols import number_of, setting_of_hall, settings_of_number, settings_of_symbol
from crystallm.sample.prompts import make_prompt

TABLE = list(gemmi.spacegroup_table())


def spellings() -> dict[str, int]:
    found = {}
    for entry in TABLE:
        for symbol in (entry.hm, entry.xhm(), entry.short_name()):
            found |= {symbol: entry.number, symbol.replace(" ", ""): entry.number}
    return found


def test_all_spellings_that_gemmi_knows_mean_its_number() -> None:
    wanted = spellings()
    assert len(wanted) == 1258
    assert {symbol: number_of(symbol) for symbol in wanted} == wanted


def test_full_and_short_symbols_of_the_530_settings_mean_their_number() -> None:
    for hall_number in range(1, 531):
        entry = moyopy.HallSymbolEntry(hall_number)
        assert number_of(entry.hm_full) == entry.number, entry.hm_full
        assert number_of(entry.hm_short) == entry.number, entry.hm_short


@pytest.mark.parametrize(
    ("symbol", "number"),
    [
        *{"Cmca": 64, "C m c e": 64, "Aba2": 41, "Aea2": 41, "A b m 2": 39, "Aem2": 39, "Cmma": 67, "Cmme": 67}.items(),
        *{"Ccca": 68, "C c c e": 68, "Fm3m": 225, "Fd3m": 227, "F d 3 m S": 227, "Ia3d": 230, "Pa3": 205}.items(),
        *{"C -1": 2, "P 6(3)/m m c": 194, "P6_3/mmc": 194, "P2<sub>1</sub>/c": 14, "P 2~1~/n": 14, "P 1̅": 2}.items(),
        *{
            "R -3 m H": 166,
            "R-3m:R": 166,
            "H 3 2": 155,
            "R 3 c :h": 161,
            "P 4/n m m Z": 129,
            "I 41/a m d S": 141,
        }.items(),
        *{
            "P 21/c (No. 14)": 14,
            "Fd-3m (227)": 227,
            "F d -3 m (origin choice 2)": 227,
            "P 21/c, unique axis b": 14,
        }.items(),
        *{"F 41/d -3 2/m": 227, "C 2/m 2/c 21/a": 64, "P 21/a -3": 205, "I 41/a 2/m 2/d": 141, "R -3 2/m": 166}.items(),
        *{
            "P 21/b": 14,
            "B 2/b": 15,
            "I 2/a": 15,
            "C2": 5,
            "P21": 4,
            "P b n m": 62,
            "-P 2ybc": 14,
            "P 21/c, unique axis b": 14,
        }.items(),
    ],
)
def test_what_programs_and_people_write(symbol: str, number: int) -> None:
    assert number_of(symbol) == number
    assert make_prompt("NaCl", space_group=symbol).prompt.space_group == number


@pytest.mark.parametrize("symbol", ["", "q", "0", "231", "99999999999999999999", "F q -3 m", "-1", "P", "²", "C_1^1"])
def test_what_is_no_space_group(symbol: str) -> None:
    with pytest.raises(SymmetryError, match="unknown space group"):
        number_of(symbol)


@pytest.mark.parametrize(
    ("symbol", "names"),
    [
        ("F d -3 m", ["F d -3 m:1", "F d -3 m:2"]),
        ("F d -3 m :1", ["F d -3 m:1"]),
        ("Fd-3mS", ["F d -3 m:1"]),
        ("F d -3 m Z", ["F d -3 m:2"]),
        ("F d -3 m, origin choice 2", ["F d -3 m:2"]),
        ("R -3 m", ["R -3 m:H", "R -3 m:R"]),
        ("R -3 m R", ["R -3 m:R"]),
        ("P n m a", ["P n m a"]),
        ("P b n m", ["P b n m"]),
        ("P 1 21/n 1", ["P 1 21/n 1"]),
        ("P 21/c", ["P 1 21/c 1"]),
        ("C m m e", ["C m m a"]),
    ],
)
def test_settings_of_a_symbol(symbol: str, names: list[str]) -> None:
    assert [setting.name for setting in settings_of_symbol(symbol)[0]] == names


def test_a_monoclinic_symbol_without_ones_may_mean_other_axes_later() -> None:
    first, second, rest = settings_of_symbol("P 21/n")
    assert [setting.name for setting in (*first, *second)] == ["P 1 21/n 1", "P 1 1 21/n", "P 21/n 1 1"]
    assert "P 1 1 21/b" in [setting.name for setting in rest]
    assert len(settings_of_symbol("P 1 21/n 1")) == 1


def test_a_number_means_the_standard_setting_with_both_origins() -> None:
    first = {number: settings_of_number(number)[0] for number in range(1, 231)}
    assert sum(len(settings) > 1 and settings[0].name[0] != "R" for settings in first.values()) == 24
    assert sum(len(settings) > 1 and settings[0].name[0] == "R" for settings in first.values()) == 7
    assert [setting.name for setting in settings_of_number(227, "2")[0]] == ["F d -3 m:2"]
    assert [setting.name for setting in settings_of_number(62, "cab")[0]] == ["P b n m"]
    assert [setting.name for setting in settings_of_number(14, "c1")[0]] == ["P 1 1 21/a"]
    assert settings_of_number(0) == settings_of_number(231) == ()


def test_hall_symbols_of_gemmi_and_spglib() -> None:
    for entry in TABLE:
        setting = setting_of_hall(entry.hall)
        assert setting is not None
        assert setting.number == entry.number
    assert setting_of_hall("-R 3 2=").name == setting_of_hall("-R 3 2''").name == "R -3 m:H"  # type: ignore[union-attr]
    assert setting_of_hall("xyz") is None


def test_symbols_of_spglib_that_name_group_and_setting() -> None:
    settings = settings_of_symbol("C 2/c = B 1 1 2/b = B 2/b")
    assert [setting.name for setting in settings[0]] == ["B 1 1 2/b"]
    assert settings_of_symbol("C 2/c =") == ()


def test_a_screw_axis_is_not_taken_apart() -> None:
    assert settings_of_symbol("P 31 2") == settings_of_symbol("P 32 1") == settings_of_symbol("P 3 2") == ()
    found = [settings_of_symbol(text)[0][0].number for text in ("P312", "P 3 1 2", "P321", "P 32", "R 32")]
    assert found == [149, 149, 150, 145, 155]

"""The sample of the general corpus that travels with the package."""

from crystallm.crystal.cell import Rejection
from crystallm.crystal.formulas.composition import format_formula
from crystallm.data.general import FOLDER, GeneralText, replay_texts, rewrite, training_formulas, validation_texts
from crystallm.tokenizer.layout import get_layout


def formulas(texts: list[GeneralText]) -> set[str]:
    """The reduced formulas; every text must be one crystal."""
    found = set()
    for item in texts:
        description = get_layout().read(item.text)
        assert not isinstance(description, Rejection), item.id
        found.add(format_formula(description.amounts))
    return found


def test_no_training_formula_is_validated_on() -> None:
    validation, replay = validation_texts(), replay_texts()
    assert (len(validation), len(replay)) == (400, 1200)
    assert not formulas(validation) & training_formulas()
    assert formulas(replay) <= training_formulas()


def test_well_known_formulas_were_trained_on() -> None:
    assert {"NaCl", "TiO2", "BaTiO3"} <= training_formulas()
    assert len(training_formulas()) == 80_796


def test_every_text_names_its_origin() -> None:
    assert all(item.id for item in [*validation_texts(), *replay_texts()])


def test_a_text_in_the_same_layout_stays_as_it_is() -> None:
    text = validation_texts()[0].text
    assert rewrite(text, "wyckoff") == text


def test_the_sample_is_small() -> None:
    assert (FOLDER / "validation.jsonl.xz").stat().st_size < 100_000
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 350_000

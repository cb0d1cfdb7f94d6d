"""The committed tokenizer is the one the layout makes, and text -> ids -> text is exact."""

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from crystallm.crystal.description import Description, Site
from crystallm.crystal.formulas.composition import ELEMENTS
from crystallm.crystal.wyckoff import space_group
from crystallm.tokenizer import build_tokenizer
from crystallm.tokenizer.build import main
from crystallm.tokenizer.layout import BEGIN, END, PAD, UNKNOWN, full_parameters, get_layout

LAYOUT = get_layout("wyckoff")
ARTEFACT = Path(__file__).parents[2] / "tokenizer"

PUBLISHED = ["crystallm", "crystallm-pi"]

RUTILE = (
    "data_\n_chemical_formula_sum\nTi\nO2\n_cell_formula_units_Z_primitive 2\n_space_group_IT_number 136"
    "\n_cell_length_a 4.5937\n_cell_length_c 2.9587\nloop_atom_site\nTi a\nO f 0.3053\n#END"
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(ARTEFACT)


def texts() -> list[str]:
    """A text for each Wyckoff position there is, with elements in turn and numbers drawn at random."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(1, 231):
        group = space_group(number)
        for letter, position in group.positions.items():
            symbol = ELEMENTS[len(found) % 118]
            free = tuple((rng.integers(0, 10_000, position.n_free) / 10_000).tolist())
            lengths = {axis: float(length) for axis, length in enumerate(rng.uniform(1, 199, 3).round(4))}
            angles = dict.fromkeys((3, 4, 5), round(rng.uniform(60, 119), 2))
            cell = full_parameters(group.crystal_system, lengths | (angles if number < 16 else {}))
            units = position.multiplicity // group.centring_order
            found.append(LAYOUT.write(Description(((symbol, 1),), units, number, cell, (Site(symbol, letter, free),))))
    return found


@pytest.mark.parametrize(("layout", "folder"), [("wyckoff", "."), *((name, name) for name in PUBLISHED)])
def test_artefact_is_what_the_layout_makes(layout: str, folder: str, tmp_path: Path) -> None:
    main([str(tmp_path), layout])
    written = sorted(file.name for file in tmp_path.iterdir())
    there = (ARTEFACT / folder).iterdir()
    assert written == sorted(file.name for file in there if file.is_file() and not file.name.startswith("."))
    for name in written:
        assert (tmp_path / name).read_bytes() == (ARTEFACT / folder / name).read_bytes(), name


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_text_and_back(name: str) -> None:
    layout = get_layout(name)
    tokenizer = AutoTokenizer.from_pretrained(ARTEFACT / name)
    vocabulary = layout.vocabulary()
    assert tokenizer.get_vocab() == {token: number for number, token in enumerate(vocabulary)}
    sites = (Site("Pm", "a", (0.1, 0.2)), Site("O", "c", (0.125, 0.75, 0.3)))
    cell = full_parameters("monoclinic", {0: 5.0, 1: 6.0, 2: 14.0, 4: 101.5})
    text = layout.write(Description((("Pm", 1), ("O", 2)), 1, 6, cell, sites))  # Pm is an element and a space group
    tokens = layout.split(text)
    assert isinstance(tokens, list)
    assert tokens.count("Pm_sg") == 1
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert ids == [vocabulary.index(token) for token in tokens]
    assert tokenizer.decode(ids) == text


def test_ids_are_places_in_the_vocabulary(tokenizer: PreTrainedTokenizerBase) -> None:
    vocabulary = LAYOUT.vocabulary()
    assert len(tokenizer) == len(vocabulary)
    assert tokenizer.get_vocab() == {token: number for number, token in enumerate(vocabulary)}
    tokens = LAYOUT.split(RUTILE)
    assert tokenizer(RUTILE).input_ids == [vocabulary.index(token) for token in tokens]


def test_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    special = (tokenizer.pad_token, tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token)
    assert special == (PAD, UNKNOWN, BEGIN, END)
    ids = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert ids == (0, 1, 2, 3)
    assert tokenizer.model_max_length == 1024


def test_rutile(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer(RUTILE).input_ids
    assert len(ids) == 23
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.convert_ids_to_tokens(ids[3:6]) == ["\nO", "2", "\n_cell_formula_units_Z_primitive 2"]
    assert tokenizer.decode(ids) == RUTILE


def test_nothing_is_lost_in_any_space_group(tokenizer: PreTrainedTokenizerBase) -> None:
    written = texts()
    ids = tokenizer(written).input_ids
    assert len(written) == 1731
    assert tokenizer.batch_decode(ids) == written
    assert not any(tokenizer.unk_token_id in row for row in ids)


def test_every_element_group_and_letter_has_a_token(tokenizer: PreTrainedTokenizerBase) -> None:
    used = {token for row in tokenizer(texts()).input_ids for token in tokenizer.convert_ids_to_tokens(row)}
    assert {f"\n{symbol}" for symbol in ELEMENTS} <= used
    assert {f"\n_space_group_IT_number {number}" for number in range(1, 231)} <= used
    assert {f" {letter}" for letter in "abcdefghijklmnopqrstuvwxyzA"} <= used


def test_prefixes_are_split_like_the_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    rng = np.random.default_rng(1)
    for text in texts()[::20]:
        tokens = LAYOUT.split(text)
        assert tokenizer.tokenize(text) == tokens
        prefix = tokens[: int(rng.integers(1, len(tokens)))]
        assert tokenizer.tokenize("".join(prefix)) == prefix


def test_foreign_text_becomes_unknown(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.unk_token_id in tokenizer("data_\n_chemical_formula_sum\nXx2").input_ids


def test_padding_is_on_the_right(tokenizer: PreTrainedTokenizerBase) -> None:
    batch = tokenizer([RUTILE, "data_"], padding=True)
    assert batch.input_ids[1] == [2, *[0] * 22]
    assert batch.attention_mask[1] == [1, *[0] * 22]


def test_built_tokenizer_equals_the_loaded_one(tokenizer: PreTrainedTokenizerBase) -> None:
    assert build_tokenizer(LAYOUT)(RUTILE).input_ids == tokenizer(RUTILE).input_ids

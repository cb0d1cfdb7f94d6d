"""What people call: prompts in, ranked crystals out."""

import gc
from dataclasses import replace
from io import StringIO
from itertools import islice, permutations
from pathlib import Path

import ase.io
import numpy as np
import psutil
import pytest
from pymatgen.core import Composition

from crystallm.base.errors import CheckpointError, CompositionError, ConfigError, InputError, SymmetryError
from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.description import Description, augment
from crystallm.model.checkpoint import Checkpoint
from crystallm.sample.config import SampleConfig
from crystallm.sample.crystal import rank
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.drawing.unlike_draws import Rounds
from crystallm.sample.generator import Generator
from crystallm.sample.prompts import NamedPrompt, make_prompt, read_prompts
from crystallm.tokenizer.layout import get_layout

TIO2 = (("Ti", 1), ("O", 2))


def attempt(number: int, description: Description | None, *scores: float, protostructure: float = 0.0) -> Attempt:
    text = "" if description is None else get_layout().write(description)
    return Attempt(
        make_prompt("TiO2"), number, description, None, text, scores, protostructure, protostructure, 23, 20, {}
    )


def test_equal_draws_become_one_crystal_with_their_count(rutile: Description, anatase: Description) -> None:
    moved = augment(rutile, np.random.default_rng(3))
    larger = replace(rutile, cell=(4.62, 4.62, 2.97, 90.0, 90.0, 90.0))
    found = rank(
        [
            attempt(0, rutile, -3.0, -3.0),
            attempt(1, anatase, -2.0, -3.5),
            attempt(2, None, -1.0),
            attempt(3, moved, -2.0, -2.0),
            attempt(4, larger, -9.0),
        ]
    )
    assert [(crystal.attempt.number, crystal.count, crystal.log_probability) for crystal in found] == [
        (3, 3, -4.0),
        (1, 1, -5.5),
    ]
    unmerged = rank([attempt(0, rutile, -3.0), attempt(1, rutile, -2.0)], merge=False)
    assert [crystal.attempt.number for crystal in unmerged] == [1, 0]


def test_the_more_probable_protostructure_comes_first(rutile: Description, anatase: Description) -> None:
    """Numbers of a crystal of low symmetry are many, so what all choices cost says little."""
    found = rank([attempt(0, rutile, -1.0, protostructure=-0.9), attempt(1, anatase, -80.0, protostructure=-0.5)])
    assert [crystal.attempt.number for crystal in found] == [1, 0]


def test_the_draw_of_median_volume_stands_for_equal_ones(rutile: Description) -> None:
    swollen = [replace(rutile, cell=(a, a, a * 0.644, 90.0, 90.0, 90.0)) for a in (4.3, 4.5, 4.6, 4.9, 5.1)]
    scores = (-1.0, -5.0, -4.0, -2.0, -3.0)
    (crystal,) = rank([attempt(n, one, score) for n, (one, score) in enumerate(zip(swollen, scores, strict=True))])
    assert (crystal.attempt.number, crystal.count, crystal.log_probability) == (2, 5, -4.0)


def test_rutile_as_crystal(rutile: Description, anatase: Description) -> None:
    (crystal,) = rank([attempt(0, rutile, -1.0)])
    assert crystal.formula_units == 2
    assert crystal.structure.density == pytest.approx(4.25, abs=0.01)
    assert crystal.checks.valid
    (crystal,) = rank([attempt(0, anatase, -1.0)])
    assert crystal.formula_units == 4  # body-centred: twice the primitive cell


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_every_draw_is_the_crystal_asked_for(generators: dict[str, Generator], kind: str) -> None:
    generator = generators[kind]
    prompts = [
        make_prompt("TiO2"),
        make_prompt("Ca(OH)2", formula_units=1),
        make_prompt("NaCl", space_group="Fm-3m"),
        make_prompt("TiO2", formula_units=2, space_group="P4_2/mnm"),
        make_prompt(),
    ]
    config = SampleConfig(n=4, temperature=1.0, batch_size=6, max_atoms=24, contact=0.0)
    attempts = list(generator.attempts(prompts, config))
    assert len(attempts) == 20
    crystals = rank(attempts)
    assert sum(crystal.count for crystal in crystals) == sum(a.description is not None for a in attempts) > 15
    for crystal in crystals:
        prompt = crystal.attempt.prompt.prompt
        amounts = dict(prompt.amounts or crystal.description.amounts)
        expected = Composition(amounts) * crystal.formula_units
        cell = read_cif(crystal.cif)
        assert not isinstance(cell, Rejection)
        atoms = ase.io.read(StringIO(crystal.cif), format="cif")
        assert crystal.structure.composition == expected
        assert cell.to_structure().composition == expected
        assert Composition(atoms.get_chemical_formula()) == expected
        assert crystal.description.space_group == (prompt.space_group or crystal.description.space_group)
        assert crystal.description.formula_units == (prompt.formula_units or crystal.description.formula_units)


def test_same_crystals_for_any_batch_size_and_order(generator: Generator) -> None:
    prompts = [make_prompt("TiO2"), make_prompt(), make_prompt("NaCl", space_group=225)]
    config = SampleConfig(n=3, seed=5, max_atoms=8, contact=0.0)

    def texts(order: int, **changes: int) -> dict[tuple[str, int], str]:
        drawn = generator.attempts(prompts[::order], replace(config, **changes))
        return {(a.prompt.name, a.number): a.text for a in drawn}

    assert texts(1) == texts(-1, batch_size=3) == texts(1, batch_size=1)
    assert texts(1) != texts(1, seed=6)
    assert texts(1).items() <= texts(1, n=4).items()


def letters(generator: Generator, repeat: float) -> list[tuple[str, ...]]:
    """Of the two atoms of draws for NaCl in P4/mmm, which has four positions of one atom, in order of their numbers."""
    prompt = make_prompt("NaCl", formula_units=1, space_group="P4/mmm")
    config = SampleConfig(n=4 * 3, repeat=repeat, seed=4, contact=0.0)
    found = sorted(generator.attempts([prompt], config), key=lambda a: a.number)
    return [tuple(site.letter for site in a.description.sites) for a in found if a.description is not None]


def test_draws_of_a_formula_are_unlike(generator: Generator) -> None:
    assert set(letters(generator, repeat=0.0)) == set(permutations("abcd", 2))
    independent = letters(generator, repeat=1.0)
    assert len(set(independent)) < len(independent) == 12
    assert independent[0] == letters(generator, repeat=0.0)[0]  # the first is like no other in both


def test_only_what_is_missing_of_unlike_draws_is_made(generator: Generator) -> None:
    prompt, config = make_prompt("TiO2"), SampleConfig(n=5, max_atoms=12, bond_tries=0)
    whole = {a.number: a.text for a in generator.attempts([prompt], config)}
    rest = {a.number: a.text for a in generator.attempts([prompt], config, skip=lambda name, number: number in (0, 3))}
    assert rest == {number: whole[number] for number in (1, 2, 4)}


def test_what_the_draws_of_a_prompt_chose_goes_with_the_last_of_them(generator: Generator) -> None:
    prompts = [make_prompt("NaCl", name=f"salt {number}") for number in range(12)]
    config = SampleConfig(n=2, max_atoms=4, batch_size=2, contact=0.0)
    kept = []
    for _ in generator.attempts(prompts, config):
        kept.append(sum(isinstance(thing, Rounds) for thing in gc.get_objects()))
    assert len(kept) == 24
    assert max(kept) <= 3
    # The last draws of a prompt may end in one step.
    salts = [make_prompt("NaCl", name=f"salt {number}", formula_units=1, space_group=225) for number in range(3)]
    drawn = [(a.prompt.name, a.number) for a in generator.attempts(salts, SampleConfig(n=12, contact=0.0))]
    assert sorted(drawn) == [(item.name, number) for item in salts for number in range(12)]


def test_a_draw_does_not_depend_on_how_many_follow(generator: Generator) -> None:
    """Atoms as far apart as this make an untrained model go back often, and what it goes back from counts as drawn."""
    prompts = [make_prompt(formula) for formula in ("TiO2", "NaCl", "SrTiO3", "Al2O3", "CaF2", "ZnS")]
    first: list[dict[str, str]] = []
    for n in (1, 2):
        drawn = generator.attempts(prompts, SampleConfig(n=n, max_atoms=12, contact=0.9, bond_tries=0))
        first.append({a.prompt.name: a.text for a in drawn if a.number == 0})
    assert first[0] == first[1]


def test_units_are_drawn_given_the_space_group(generator: Generator) -> None:
    """Z stands before the group in the text: its score must be P(Z | formula, group), so that scores of two prompts
    that differ in Z alone add up by the chain rule."""
    config = SampleConfig(n=12, temperature=1.0, max_atoms=12, contact=0.0)
    drawn = list(generator.attempts([make_prompt("NaCl", space_group=225)], config))
    first = {a.description.formula_units: a.token_log_probabilities[0] for a in drawn if a.description}
    assert set(first) <= {1, 2, 3, 4, 5, 6}
    assert sum(np.exp(list(first.values()))) <= 1.0 + 1e-6
    for a in drawn:
        if a.description:
            assert a.token_log_probabilities[0] == first[a.description.formula_units]


def test_generate(generator: Generator) -> None:
    crystals = generator.generate(
        "NaCl", n=3, formula_units=1, space_group="Fm-3m", seed=1, contact=0.0, energies=False
    )
    assert sum(crystal.count for crystal in crystals) == 3
    scores = [crystal.attempt.ranking_log_probability for crystal in crystals]
    assert scores == sorted(scores, reverse=True)
    assert crystals[0].structure.composition.reduced_formula == "NaCl"


def test_impossible_prompt_stops_before_the_first_draw(generator: Generator) -> None:
    with pytest.raises(CompositionError, match="cannot hold TiO2"):
        next(
            iter(
                generator.attempts(
                    [make_prompt("NaCl"), make_prompt("TiO2", formula_units=1, space_group=136)], SampleConfig()
                )
            )
        )


def test_foreign_vocabulary_is_refused(generator: Generator) -> None:
    shifted = Checkpoint(generator.model, _other_tokenizer(), "wyckoff", "canonical", {}, Path("elsewhere"))
    with pytest.raises(CheckpointError, match="tokens of checkpoint elsewhere"):
        Generator(shifted)


def test_a_batch_beyond_memory_says_what_fits(generator: Generator) -> None:
    with pytest.raises(ConfigError, match=r"could need .* GiB are free; --batch-size \d+ fits"):
        next(iter(generator.attempts([make_prompt()], SampleConfig(n=10**9, batch_size=10**9))))


def test_unknown_device(generator: Generator) -> None:
    with pytest.raises(ConfigError, match="cannot use device 'abacus'"):
        Generator(generator.checkpoint, device="abacus")


def _other_tokenizer() -> object:
    class Other:
        def __len__(self) -> int:
            return 3

        def convert_ids_to_tokens(self, ids: range) -> list[str]:
            return [f"word{i}" for i in ids]

    return Other()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size"),
        ({"temperature": 0.0}, "top_k=1"),
        ({"temperature": float("nan")}, "temperature must be above 0, got nan"),
        ({"top_k": -1}, "top_k must not be negative"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1"),
        ({"repeat": 1.5}, "repeat must be between 0 and 1, got 1.5"),
        ({"bond_tries": -1}, "bond_tries must be between 0 and 100, got -1"),
        ({"top_p": 1.5}, "got 1.5"),
        ({"seed": -1}, "seed"),
        ({"max_atoms": 0}, "max_atoms"),
    ],
)
def test_impossible_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        SampleConfig(**settings)


def test_names_of_prompts() -> None:
    assert make_prompt("O2Ti").name == "TiO2"
    assert make_prompt("TiO2", space_group="P4_2/mnm", formula_units=2).name == "TiO2_136_Z2"
    assert make_prompt().name == "free"
    assert make_prompt(space_group=225).name == "free_225"


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (CompositionError, {"formula": "Xx2O"}),
        (CompositionError, {"formula": "TiO2.5"}),
        (CompositionError, {"formula": "Ti0O2"}),
        (CompositionError, {"formula": "titania"}),
        (CompositionError, {"formula": ""}),
        (SymmetryError, {"formula": "TiO2", "space_group": 231}),
        (SymmetryError, {"formula": "TiO2", "space_group": "P9"}),
        (InputError, {"formula": "TiO2", "formula_units": 0}),
    ],
)
def test_bad_prompts(kind: type[Exception], arguments: dict[str, object]) -> None:
    with pytest.raises(kind):
        make_prompt(**arguments)


def test_prompts_from_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(
        '{"formula": "TiO2", "space_group": "P4_2/mnm", "formula_units": 2, "id": "rutile"}\n\n'
        '{"formula": "NO"}\n{"space_group": 225, "id": 7}\n'
    )
    first, second, third = read_prompts(file)
    assert (first.name, first.prompt.amounts, first.prompt.space_group) == ("rutile", TIO2, 136)
    assert (second.name, second.prompt.amounts) == ("NO", (("N", 1), ("O", 1)))
    assert (third.name, third.prompt.amounts) == ("7", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("TiO2\n", "line 1: not JSON"),
        ('{"formula": "TiO2"}\n{"formula": "TiO2", "temperatur": 1}\n', "line 2: expected an object with keys"),
        ('["TiO2"]\n', "line 1: expected an object"),
        ('{"formula": 5}\n', "formula must be text"),
        ('{"formula": "TiO2", "formula_units": 2.5}\n', "formula_units a whole number"),
        ('{"formula": "TiO2", "formula_units": 0}\n', "at least 1"),
        ('{"formula": "Xx"}\n', "unknown element 'Xx'"),
        ('{"formula": "TiO2", "space_group": 0}\n', "unknown space group '0'"),
        ('{"formula": "TiO2"}\n{"formula": "O2Ti"}\n', "'TiO2' more than once"),
        ("\n", "holds no prompts"),
    ],
)
def test_bad_prompt_files(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(content)
    with pytest.raises((InputError, CompositionError, SymmetryError)) as caught:
        read_prompts(file)
    assert message in str(caught.value)
    if "element" in message or "group" in message:
        assert "line 1" in str(caught.value)


def test_unreadable_prompt_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_prompts(tmp_path / "missing.jsonl")
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="cannot read"):
        read_prompts(binary)


@pytest.mark.parametrize(
    ("prompt", "repeat"),
    [(make_prompt("CsCl"), 1.0), (make_prompt("CsCl"), 0.0), (make_prompt(None, space_group=221), 1.0)],
)
def test_draws_are_a_stream(generator: Generator, prompt: NamedPrompt, repeat: float) -> None:
    """A hundred million asked for: the first ones come at once, and no list is made of the others."""
    before = psutil.Process().memory_info().rss
    draws = generator.attempts([prompt], SampleConfig(n=10**8, repeat=repeat, batch_size=2, bond_tries=0))
    assert len({attempt.number for attempt in islice(draws, 3)}) == 3
    assert psutil.Process().memory_info().rss - before < 400e6

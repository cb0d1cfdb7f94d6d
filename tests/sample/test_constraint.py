"""Random walks through the automaton: every text it can end in must be a crystal that fulfils its prompt."""

from collections.abc import Callable
from math import gcd

import numpy as np
import pytest

from crystallm.base.errors import CompositionError
from crystallm.crystal.cell import Rejection, lattice_from_parameters
from crystallm.crystal.formulas.composition import element_order, parse_formula
from crystallm.crystal.wyckoff import space_group
from crystallm.sample.engine.token_sets import Choices
from crystallm.sample.grammar.limits import Limits
from crystallm.sample.grammar.wyckoff_grammar import Partial, Prompt, WyckoffGrammar
from crystallm.tokenizer.layout import FREE_PARAMETERS

Chooser = Callable[[Choices], int]


def walk_through(grammar: WyckoffGrammar, prompt: Prompt, choose: Chooser) -> tuple[str, Partial]:
    """A text that the automaton allows, its free choices made by `choose`."""
    partial, tokens = Partial(), []
    steps = grammar.walk(prompt, partial)
    choices = next(steps)
    while True:
        assert len(set(choices)) == len(choices) > 0
        tokens.append(choose(choices))
        try:
            choices = steps.send(tokens[-1])
        except StopIteration:
            return "".join(grammar.tokens[token] for token in tokens), partial


def at_random(seed: int) -> Chooser:
    rng = np.random.default_rng(seed)
    return lambda choices: int(rng.choice(choices))


CHOOSERS: dict[str, Chooser] = {"first": lambda choices: choices[0], "last": lambda choices: choices[-1]} | {
    f"random {seed}": at_random(seed) for seed in range(12)
}

PROMPTS = {
    "TiO2": Prompt(parse_formula("TiO2")),
    "rutile": Prompt(parse_formula("TiO2"), 2, 136),
    "NaCl in Fm-3m": Prompt(parse_formula("NaCl"), None, 225),
    "perovskite": Prompt(parse_formula("BaTiO3"), 1),
    "hydroxyapatite": Prompt(parse_formula("Ca5P3O13H"), 2),
    "one element": Prompt(parse_formula("C")),
    "free": Prompt(),
    "free, cubic": Prompt(None, None, 225),
    "free, Z = 4, Pnma": Prompt(None, 4, 62),
    "free, no formula of one element": Prompt(None, 2, 214),  # 8a 8b 12c 12d: 4, 4, 6, 6 in the primitive cell
    "free, Z = 1": Prompt(None, 1, None),
    "triclinic": Prompt(parse_formula("SiO2"), 2, 1),
    "benzene": Prompt(parse_formula("CH"), multiple=6),
    "a multiple that does not fit": Prompt(parse_formula("C"), multiple=100),
    "garnet": Prompt(parse_formula("Y3Al5O12"), None, 230),
    "hexagonal": Prompt(parse_formula("MgB2"), None, 191),
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("chooser", CHOOSERS.values(), ids=CHOOSERS)
def test_every_walk_is_a_crystal(grammar: WyckoffGrammar, prompt: Prompt, chooser: Chooser) -> None:
    text, partial = walk_through(grammar, prompt, chooser)
    # The layout checks what a text claims: sites add up to formula units times formula, letters belong to the group.
    found = grammar.layout.read(text)
    assert not isinstance(found, Rejection), (found, text)
    assert found == partial.description()
    assert prompt.amounts in (None, found.amounts)
    assert prompt.formula_units in (None, found.formula_units)
    assert prompt.space_group in (None, found.space_group)
    assert found.formula_units % (1 if prompt.multiple > 80 else prompt.multiple) == 0
    assert found.n_sites <= grammar.limits.max_atoms
    positions = space_group(found.space_group).positions
    fixed = [site.letter for site in found.sites if not positions[site.letter].n_free]
    assert len(set(fixed)) == len(fixed)
    assert gcd(*(amount for _, amount in found.amounts)) == 1
    assert sorted(found.amounts, key=lambda item: element_order(item[0])) == list(found.amounts)


@pytest.mark.parametrize("chooser", CHOOSERS.values(), ids=CHOOSERS)
@pytest.mark.parametrize("number", [1, 14, 62, 136, 167, 191, 225])
def test_cells_are_sensible(grammar: WyckoffGrammar, number: int, chooser: Chooser) -> None:
    _, partial = walk_through(grammar, Prompt(parse_formula("Al2O3"), 12, number), chooser)
    limits, group = grammar.limits, space_group(number)
    lengths, angles = partial.cell[:3], partial.cell[3:]
    assert min(lengths) >= limits.min_length_angstrom - 1e-4
    assert max(lengths) <= limits.max_length_angstrom + 1e-4
    assert limits.min_angle_degrees <= min(angles) <= max(angles) <= limits.max_angle_degrees
    volume = float(np.linalg.det(lattice_from_parameters(partial.cell)))
    assert volume > 0
    if not {3, 4, 5} & set(FREE_PARAMETERS[group.crystal_system]):
        per_atom = volume / (partial.description().n_sites * group.centring_order)
        assert 0.99 * limits.min_volume_per_atom <= per_atom <= 1.01 * limits.max_volume_per_atom


def test_forced_tokens_of_a_full_prompt(grammar: WyckoffGrammar) -> None:
    steps = grammar.walk(PROMPTS["rutile"], Partial())
    forced, choices = "", next(steps)
    while len(choices) == 1:
        forced += grammar.tokens[choices[0]]
        choices = steps.send(choices[0])
    assert forced == (
        "data_\n_chemical_formula_sum\nTi\nO2\n_cell_formula_units_Z_primitive 2\n_space_group_IT_number 136"
        "\n_cell_length_a "
    )


def test_letters_left_for_rutile(grammar: WyckoffGrammar) -> None:
    """Ti takes two of the six atoms: only 2a and 2b are that small, and the first leaves the second to no one."""
    offered: list[set[str]] = []

    def choose(choices: Choices) -> int:
        letters = {grammar.tokens[token] for token in choices}
        if all(len(letter) == 2 and letter[0] == " " for letter in letters):
            offered.append({letter.strip() for letter in letters})
        return choices[0]

    walk_through(grammar, PROMPTS["rutile"], choose)
    assert offered[0] == {"a", "b"}
    # O4 in one go: the 2b that is left could not be followed. On c, d and e it would make a group with more symmetry.
    assert offered[1] == {"f", "g"}


@pytest.mark.parametrize("prompt", [Prompt(None, 1, 62), Prompt(None, 81)])
def test_impossible_free_prompts_are_named(grammar: WyckoffGrammar, prompt: Prompt) -> None:
    """Pnma has positions of four and eight atoms only: amounts would share a factor of four."""
    with pytest.raises(CompositionError, match="no crystal of at most 80 atoms"):
        walk_through(grammar, prompt, lambda choices: choices[0])


def test_max_atoms_holds_for_free_generation(grammar: WyckoffGrammar) -> None:
    small = WyckoffGrammar(grammar.layout, Limits(max_atoms=3))
    for seed in range(30):
        _, partial = walk_through(small, Prompt(), at_random(seed))
        assert partial.description().n_sites <= 3

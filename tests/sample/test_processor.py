"""`model.generate` under our constraint, and the engine, draw from the same distribution."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency

from crystallm.base.errors import ConfigError
from crystallm.crystal.cell import Rejection
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.sample.drawing.crystal_task import CrystalTask
from crystallm.sample.engine.engine import Engine
from crystallm.sample.engine.warp import Warp
from crystallm.sample.generator import Generator
from crystallm.sample.grammar.wyckoff_grammar import Prompt, WyckoffGrammar
from crystallm.sample.logits_processor import CrystalConstraint

DRAWS = 400


class Unjudged(CrystalTask):
    """Refuses no site: `generate` cannot go back."""

    def refusal(self, since: int) -> None:
        return None


def generated(
    generator: Generator, grammar: WyckoffGrammar, prompts: list[Prompt], n: int, temperature: float
) -> list[str]:
    ids = torch.tensor([[grammar.begin]] * n)
    output = generator.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        logits_processor=[CrystalConstraint(grammar, prompts)],
        do_sample=True,
        temperature=temperature,
        top_k=0,
        max_new_tokens=200,
        pad_token_id=generator.checkpoint.tokenizer.pad_token_id,
        eos_token_id=grammar.end,
    )
    pad = generator.checkpoint.tokenizer.pad_token_id
    return ["".join(grammar.tokens[token] for token in row if token != pad) for row in output.tolist()]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_same_distribution_as_the_engine(generators: dict[str, Generator], grammar: WyckoffGrammar, kind: str) -> None:
    """Formula units, space group and first letter of CsCl in cells of one or two formula units."""
    generator = generators[kind]
    torch.manual_seed(0)
    small = WyckoffGrammar(generator.layout, type(grammar.limits)(max_atoms=4))
    prompt = Prompt(parse_formula("CsCl"), None, 99)
    theirs = generated(generator, small, [prompt], DRAWS, 2.0)
    tasks = [(Unjudged(small, prompt, 0, number), np.random.default_rng(number)) for number in range(DRAWS)]
    outcomes = Engine(generator.decoder, rows=64, context=512).run(tasks, Warp(temperature=2.0))
    ours = ["".join(small.tokens[token] for token in outcome.tokens) for outcome in outcomes]

    def outcome(text: str) -> tuple[object, ...]:
        found = generator.layout.read(text)
        assert not isinstance(found, Rejection), text
        assert (found.amounts, found.space_group) == (prompt.amounts, 99)
        return found.formula_units, tuple(site.letter for site in found.sites)

    counts = [Counter(map(outcome, texts)) for texts in (theirs, ours)]
    kinds = [kind for kind in counts[0] | counts[1] if counts[0][kind] + counts[1][kind] >= 10]
    table = np.array([[count[kind] for kind in kinds] for count in counts])
    rest = DRAWS - table.sum(1)
    table = np.column_stack([table, rest]) if rest.sum() >= 10 else table
    assert table.shape[1] >= 3
    assert chi2_contingency(table).pvalue > 0.01


def test_each_row_its_own_prompt(generator: Generator, grammar: WyckoffGrammar) -> None:
    torch.manual_seed(1)
    prompts = [Prompt(parse_formula("TiO2"), 2, 136), Prompt(parse_formula("NaCl"), 1, 225), Prompt(None, 1, 221)]
    found = [generator.layout.read(text) for text in generated(generator, grammar, prompts, 3, 1.0)]
    assert not any(isinstance(crystal, Rejection) for crystal in found)
    assert [crystal.space_group for crystal in found] == [136, 225, 221]  # type: ignore[union-attr]


def test_wrong_number_of_prompts(generator: Generator, grammar: WyckoffGrammar) -> None:
    with pytest.raises(ConfigError, match="2 prompts for 3 texts"):
        generated(generator, grammar, [Prompt(), Prompt()], 3, 1.0)


def test_ids_that_do_not_begin_a_text(grammar: WyckoffGrammar) -> None:
    constraint = CrystalConstraint(grammar, [Prompt(parse_formula("TiO2"))])
    with pytest.raises(ConfigError, match="does not follow its prompt"):
        constraint(torch.tensor([[grammar.begin, grammar.end]]), torch.zeros(1, len(grammar.tokens)))


def test_rows_may_be_reordered(grammar: WyckoffGrammar) -> None:
    """As beam search does."""
    constraint = CrystalConstraint(grammar, [Prompt(parse_formula("TiO2"))])
    head = grammar.formula_head(parse_formula("TiO2"))
    scores = torch.zeros(2, len(grammar.tokens))
    one, two = grammar.choice(grammar.units, 1), grammar.choice(grammar.units, 2)
    first = constraint(torch.tensor([[*head, one], [*head, two]]), scores)
    swapped = constraint(torch.tensor([[*head, two], [*head, one]]), scores)
    assert torch.equal(first[[1, 0]], swapped)
    assert not torch.equal(first[0], first[1])

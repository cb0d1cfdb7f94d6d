"""Draws beyond those of a run, for a search."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from crystallm.sample.answers.search.further import AT_ONCE, MOST_FURTHER, FurtherDraws
from crystallm.sample.config import SampleConfig
from crystallm.sample.prompts import NamedPrompt, make_prompt


@dataclass
class CountingGenerator:
    """Every third draw is given up; the others are crystals named by their number."""

    asked: list[tuple[str, SampleConfig]] = field(default_factory=list)

    def attempts(
        self, prompts: Sequence[NamedPrompt], config: SampleConfig, *, skip: Callable[[str, int], bool]
    ) -> Iterator[Any]:
        (item,) = prompts
        self.asked.append((item.name, config))
        for number in range(config.n):
            if not skip(item.name, number):
                yield SimpleNamespace(description=None if number % 3 == 2 else f"draw {number}")


def test_they_go_on_where_the_run_ended() -> None:
    generator = CountingGenerator()
    draw = FurtherDraws(lambda: generator, SampleConfig(n=4, seed=7)).of(make_prompt("TiO2"))  # type: ignore[arg-type,return-value]
    assert not generator.asked  # nothing is loaded before it is needed
    found: list[object] = [draw(number) for number in range(4)]
    assert found == ["draw 4", "draw 6", "draw 7", "draw 9"]
    ((name, config),) = generator.asked
    assert (name, config.seed, config.batch_size, config.n) == ("TiO2", 7, AT_ONCE, 4 + MOST_FURTHER)


def test_a_search_that_goes_on_gets_the_draw_of_its_number() -> None:
    draw = FurtherDraws(CountingGenerator, SampleConfig(n=1)).of(make_prompt("TiO2"))  # type: ignore[arg-type]
    found: object = draw(2)
    assert found == "draw 4"
    assert draw(10_000) is None

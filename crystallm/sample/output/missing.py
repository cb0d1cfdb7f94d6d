"""Which draws of a run are still to be made, and by which process: told without a list of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from crystallm.sample.config import SampleConfig
from crystallm.sample.drawing.given_symmetry import waits
from crystallm.sample.output.shares import shares, work_of
from crystallm.sample.prompts import NamedPrompt

Draw = tuple[str, int]
"""Name of the prompt, number of the draw."""


@dataclass(frozen=True)
class Share:
    """Every `step`-th draw of a prompt from number `first` on."""

    first: int = 0
    step: int = 1

    def __contains__(self, number: int) -> bool:
        return number >= self.first and (number - self.first) % self.step == 0

    def before(self, n: int) -> int:
        """How many of the numbers below n it has."""
        return max(0, -(-(n - self.first) // self.step))


class Missing:
    """The draws that a process has to make: its share of all, without those that are done.

    Its size is that of what is done, whatever number of draws is asked for.
    """

    def __init__(self, dealt: dict[str, Share], n: int, done: Iterable[Draw]) -> None:
        """dealt: this process's share of each prompt, by name. n: draws asked for of each."""
        self._dealt, self._n = dealt, n
        self._done = frozenset(done)
        self._had = Counter(name for name, number in self._done if number < n and number in dealt.get(name, ()))

    def __contains__(self, draw: Draw) -> bool:
        name, number = draw
        return number < self._n and name in self._dealt and number in self._dealt[name] and draw not in self._done

    def left(self, name: str) -> int:
        """How many are missing of a prompt."""
        return self._dealt[name].before(self._n) - self._had[name] if name in self._dealt else 0

    @property
    def total(self) -> int:
        """How many are missing of all prompts."""
        return sum(map(self.left, self._dealt))


def deal(prompts: Sequence[NamedPrompt], config: SampleConfig, *, process: int, processes: int) -> dict[str, Share]:
    """A process's share of the draws of each prompt.

    The draws of a prompt that wait for each other stay together, and such prompts are dealt out by their work; the
    others are dealt out draw by draw in turn, those with the most work first. Neither depends on what is done.

    Args:
        prompts: with names that differ.
        config: how they are drawn.
        process: from 0.
        processes: how many there are.

    Returns:
        Name -> share; prompts of which the process makes nothing are left out.

    Example:
        >>> from crystallm.sample.prompts import make_prompt
        >>> deal([make_prompt("NaCl")], SampleConfig(repeat=1.0), process=1, processes=2)
        {'NaCl': Share(first=1, step=2)}
    """
    together = [item for item in prompts if waits(item, config)]
    own = set(shares([work_of(item.prompt) for item in together], processes)[process])
    dealt = {item.name: Share() for place, item in enumerate(together) if place in own}
    apart = sorted((item for item in prompts if not waits(item, config)), key=lambda item: -work_of(item.prompt))
    for place, item in enumerate(apart):
        share = Share(first=(process - place * config.n) % processes, step=processes)
        if share.before(config.n):
            dealt[item.name] = share
    return dealt


def all_of(prompts: Collection[NamedPrompt]) -> dict[str, Share]:
    """Every draw of every prompt: the share of a process that is alone."""
    return {item.name: Share() for item in prompts}

"""The draws that are still to be made: each by one process, and no list of them."""

import itertools
import tracemalloc

import pytest

from crystallm.sample.config import MOST_DRAWS, SampleConfig
from crystallm.sample.output.missing import Missing, all_of, deal
from crystallm.sample.prompts import NamedPrompt, make_prompt

PROMPTS = [make_prompt(formula) for formula in ("NaCl", "TiO2", "YBa2Cu3O7")]


def draws_of(missing: Missing, prompts: list[NamedPrompt], n: int) -> list[tuple[str, int]]:
    found = [(item.name, number) for item in prompts for number in range(n + 3) if (item.name, number) in missing]
    assert missing.total == len(found)
    assert all(missing.left(item.name) == sum(name == item.name for name, _ in found) for item in prompts)
    return found


@pytest.mark.parametrize("repeat", [0.0, 1.0])
@pytest.mark.parametrize("processes", [1, 2, 5])
def test_every_draw_is_dealt_out_once(processes: int, repeat: float) -> None:
    config = SampleConfig(n=7, repeat=repeat)
    done = [("NaCl", 0), ("NaCl", 3), ("TiO2", 6), ("NaCl", 11)]  # the last one of a run that asked for more
    shares = [deal(PROMPTS, config, process=process, processes=processes) for process in range(processes)]
    dealt = [draws_of(Missing(share, 7, done), PROMPTS, 7) for share in shares]
    everything = set(itertools.product((item.name for item in PROMPTS), range(7))) - set(done)
    assert sorted(itertools.chain(*dealt)) == sorted(everything)
    if repeat:  # draw by draw in turn
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1 + len(done)
    else:  # draws that wait for each other stay together
        assert all(sum(item.name in share for share in shares) == 1 for item in PROMPTS)


def test_what_is_done_is_not_missing() -> None:
    missing, last = Missing(all_of(PROMPTS), 2, [("TiO2", 1)]), PROMPTS[2].name
    assert draws_of(missing, PROMPTS, 2) == [("NaCl", 0), ("NaCl", 1), ("TiO2", 0), (last, 0), (last, 1)]


def test_a_huge_number_of_draws_takes_no_memory() -> None:
    """Of three prompts of a million million draws each, one is done; two processes share the others."""
    config = SampleConfig(n=MOST_DRAWS, repeat=1.0)
    tracemalloc.start()
    try:
        shares = [deal(PROMPTS, config, process=process, processes=2) for process in range(2)]
        missing = [Missing(share, config.n, [("NaCl", 1)]) for share in shares]
        totals = [one.total for one in missing]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20_000  # bytes
    assert sum(totals) == 3 * MOST_DRAWS - 1
    assert max(totals) - min(totals) <= 1

"""Held-out crystals as targets, and the prompts that ask for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import write_cif
from crystallm.eval.sets.targets import Target, make_target
from crystallm.sample.prompts import NamedPrompt, make_prompt
from crystallm.tokenizer.layout import get_layout


def targets_of(rows: Sequence[Mapping[str, Any]], layout: str) -> list[Target]:
    """The held-out crystals as targets, from their texts; each has a name of its own."""
    targets: list[Target] = []
    names: set[str] = set()
    for row in rows:
        description = get_layout(layout).read(row["text"])
        assert not isinstance(description, Rejection)  # read back when it was prepared
        name = str(row["id"])
        while name in names:
            name += "+"
        names.add(name)
        target = make_target(name, write_cif(description))
        assert not isinstance(target, Rejection)  # our own CIF
        targets.append(target)
    return targets


def prompts_of(targets: Sequence[Target], level: str) -> list[NamedPrompt]:
    """The prompts of targets, up to a level."""
    prompts = []
    for target in targets:
        given = target.prompt(level)
        name = given.pop("id")
        prompts.append(make_prompt(**given, name=name))
    return prompts

"""A report of structure prediction: what was measured on sets of samples, as values and as JSON of any version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from crystallm.base.config import from_mapping, to_mapping
from crystallm.eval.prediction.target_rows import Rows, TargetRow, rows_from_json
from crystallm.eval.rate import Rate
from crystallm.eval.sets.benchmark import Benchmark

Value = Rate | float | None
"""A rate, a mean, or nothing to be averaged."""

Parts = Mapping[str, Mapping[str, Mapping[str, Value]]]
"""Division of the targets -> part -> metric -> value."""


def value_to_json(value: Value) -> Any:
    """A rate as an object; a number as it is."""
    return value.to_json() if isinstance(value, Rate) else value


def value_from_json(value: Any) -> Value:
    """What `value_to_json` wrote."""
    return Rate.from_json(value) if isinstance(value, Mapping) else value


def values_to_json(values: Mapping[str, Value]) -> dict[str, Any]:
    """Metrics as JSON holds them."""
    return {name: value_to_json(value) for name, value in values.items()}


def values_from_json(values: Mapping[str, Any]) -> dict[str, Value]:
    """Metrics out of JSON."""
    return {name: value_from_json(value) for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How targets were chosen."""

    number: int | None
    """None: all rows, or those of a file."""
    seed: int
    file: str | None
    """The file that chose them, if one did."""
    refused: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What true structures themselves reach."""

    smact: Rate
    smact_table: str


@dataclass(frozen=True, kw_only=True)
class SampleCounts:
    """What became of the samples."""

    matching: Rate | None
    """Those that match their target; None where a report withholds it."""
    not_matched: Mapping[str, int]
    ignored: Mapping[str, int]
    """Records that belong to no target."""
    targets_without_samples: int
    most_samples: int


@dataclass(frozen=True, kw_only=True)
class SpaceGroups:
    """How often each space group occurs, 0 where none was found, most common first."""

    samples: Mapping[str, int]
    """Among the first samples, without those whose search ran out of time."""
    truth: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class CheckRates:
    """Rates of the reference checks of some crystals, and why they fail."""

    rates: Mapping[str, Rate]
    reasons: Mapping[str, Mapping[str, int]]

    def to_json(self) -> dict[str, Any]:
        """Both, rates as objects."""
        return {"rates": {name: rate.to_json() for name, rate in self.rates.items()}, "reasons": self.reasons}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> CheckRates:
        """What `to_json` wrote."""
        rates = {name: Rate.from_json(rate) for name, rate in found["rates"].items()}
        return cls(rates=rates, reasons=found["reasons"])


@dataclass(frozen=True, kw_only=True)
class OverSeeds:
    """One metric over sets of samples; shares for rates."""

    values: Sequence[float | None]
    mean: float | None
    spread: float | None
    """Sample standard deviation."""
    undecided: Sequence[int] = ()
    """Of each set, where a rate has any; its share is then the least that it can be."""

    def to_json(self) -> dict[str, Any]:
        """All fields; `undecided` only where something is."""
        found = {"values": list(self.values), "mean": self.mean, "spread": self.spread}
        return found | ({"undecided": list(self.undecided)} if self.undecided else {})


@dataclass(frozen=True, kw_only=True)
class MadeBy:
    """The model that made samples."""

    name: str
    edition: str | None
    unknown: str = ""
    """Why its folder is not known."""

    def to_json(self) -> dict[str, Any]:
        """All fields; `unknown` only where it is."""
        return {"name": self.name, "edition": self.edition} | ({"unknown": self.unknown} if self.unknown else {})


@dataclass(frozen=True, kw_only=True)
class SeenTargets:
    """How many targets the model has seen in training."""

    targets: int | None
    """None where the model is not at hand."""
    of: int
    shown: bool
    """Whether match rates of seen targets are shown, or there are none."""
    undecided: int = 0
    of_known_formula: int = 0
    missed: bool = False
    """Whether seen targets were counted as not matched."""
    how: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All fields; only three where nothing is known."""
        if self.targets is None:
            return {"targets": None, "of": self.of, "shown": self.shown}
        names = ("targets", "of", "undecided", "of_known_formula", "shown", "missed", "how")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How `crystallm eval run` drew."""

    seeds: Sequence[int] = ()
    options: Sequence[str] | None = None
    """Of `crystallm sample`; None where somebody else drew."""
    followed_templates: Rate | None = None
    """Draws that followed a known crystal, of all."""
    redrawn: Mapping[str, Rate] = field(default_factory=dict)
    """Draws of which a part was drawn again, by reason."""

    def to_json(self) -> dict[str, Any]:
        """The keys of a report; none where somebody else drew."""
        if self.options is None:
            return {}
        found: dict[str, Any] = {"seeds": list(self.seeds), "sampling": list(self.options)}
        if self.followed_templates is not None:
            found["followed_templates"] = self.followed_templates.to_json()
        return found | {"redrawn": {reason: rate.to_json() for reason, rate in self.redrawn.items()}}

    @classmethod
    def from_json(cls, report: Mapping[str, Any]) -> Sampling:
        """Of a report; older ones do not hold all of it."""
        followed = report.get("followed_templates")
        return cls(
            seeds=tuple(report.get("seeds", ())),
            options=report.get("sampling"),
            followed_templates=None if followed is None else Rate.from_json(followed),
            redrawn={reason: Rate.from_json(rate) for reason, rate in report.get("redrawn", {}).items()},
        )


@dataclass(frozen=True, kw_only=True)
class SetScore:
    """All that is measured on one set of samples."""

    metrics: Mapping[str, Value]
    ceilings: Ceilings
    parts: Parts
    curve: Mapping[int, Rate]
    """match_rate@k by k."""
    samples: SampleCounts
    space_groups: SpaceGroups
    validity: Mapping[str, CheckRates]
    """Of first samples and of the truth; empty where the checks were left out."""
    per_target: tuple[TargetRow, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `crystallm eval score` says of a model: the first set of samples in full, every metric over all sets."""

    label: str
    benchmark: Benchmark
    prompt: str
    targets: int
    drawn: Drawn
    metrics: Mapping[str, Value]
    ceilings: Ceilings
    parts: Parts
    curve: Mapping[int, Rate]
    samples: SampleCounts
    space_groups: SpaceGroups
    validity: Mapping[str, CheckRates]
    over_seeds: Mapping[str, OverSeeds]
    per_target: Rows
    """Of each set of samples."""
    provenance: Mapping[str, Any]
    made_by: MadeBy | None = None
    """None in reports of version 0.1; so `seen`."""
    seen: SeenTargets | None = None
    sampling: Sampling = Sampling()
    plain_loop: Mapping[str, Any] | None = None
    """Verdicts and seconds of the plain pymatgen loop, where asked for."""

    @property
    def withheld(self) -> bool:
        """Whether match rates are missing because targets were seen; reports of version 0.1 say nothing of it."""
        return self.seen is not None and not self.seen.shown and not self.seen.missed

    @property
    def marked(self) -> bool:
        """Whether match rates of seen targets are shown."""
        return self.seen is not None and bool(self.seen.targets) and self.seen.shown

    def without_matches(self) -> Report:
        """The report without anything that says how many targets were matched."""
        return replace(
            self,
            metrics={},
            parts={},
            curve={},
            over_seeds={},
            samples=replace(self.samples, matching=None, not_matched={}),
            per_target=tuple(tuple(row.without_matches() for row in rows) for rows in self.per_target),
        )

    def to_json(self, *, table: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The report as JSON holds it.

        Args:
            table: What it says instead of its rows: where they are; None puts them inside.
        """
        rows = [[row.to_json() for row in found] for found in self.per_target]
        report = {
            "label": self.label,
            "benchmark": to_mapping(self.benchmark),
            "prompt": self.prompt,
            "targets": self.targets,
            "drawn": asdict(self.drawn),
            "metrics": values_to_json(self.metrics),
            "ceilings": {"smact": self.ceilings.smact.to_json(), "smact_table": self.ceilings.smact_table},
            "parts": {
                division: {part: values_to_json(found) for part, found in parts.items()}
                for division, parts in self.parts.items()
            },
            "curve": [{"samples": k} | rate.to_json() for k, rate in self.curve.items()],
            "samples": vars(self.samples) | {"matching": value_to_json(self.samples.matching)},
            "space_groups": asdict(self.space_groups),
            "validity": {name: found.to_json() for name, found in self.validity.items()},
            "over_seeds": {name: found.to_json() for name, found in self.over_seeds.items()},
            "per_target_of_sets": rows if table is None else table,
            "provenance": self.provenance,
        }
        for name, value in {"made_by": self.made_by, "seen": self.seen}.items():
            report |= {} if value is None else {name: value.to_json()}
        report |= self.sampling.to_json()
        return report | ({} if self.plain_loop is None else {"plain_loop": self.plain_loop})

    @classmethod
    def from_json(cls, report: Mapping[str, Any], rows: Rows | None = None) -> Report:
        """A report of any version.

        Args:
            report: as JSON holds it.
            rows: of its table; None where it holds them inside.

        Raises:
            KeyError, TypeError, ConfigError: it is no such report.
        """
        ceilings, samples = report["ceilings"], report["samples"]
        matching = samples["matching"]
        return cls(
            label=report["label"],
            benchmark=from_mapping(Benchmark, report["benchmark"], source="the benchmark of the report"),
            prompt=report["prompt"],
            targets=report["targets"],
            drawn=Drawn(**report["drawn"]),
            metrics=values_from_json(report["metrics"]),
            ceilings=Ceilings(smact=Rate.from_json(ceilings["smact"]), smact_table=ceilings["smact_table"]),
            parts={
                division: {part: values_from_json(found) for part, found in parts.items()}
                for division, parts in report["parts"].items()
            },
            curve={point["samples"]: Rate.from_json(point) for point in report["curve"]},
            samples=SampleCounts(**samples | {"matching": None if matching is None else Rate.from_json(matching)}),
            space_groups=SpaceGroups(**report["space_groups"]),
            validity={name: CheckRates.from_json(found) for name, found in report["validity"].items()},
            over_seeds={name: OverSeeds(**found) for name, found in report["over_seeds"].items()},
            per_target=rows_from_json(report["per_target_of_sets"]) if rows is None else rows,
            provenance=report["provenance"],
            made_by=MadeBy(**report["made_by"]) if "made_by" in report else None,
            seen=SeenTargets(**report["seen"]) if "seen" in report else None,
            sampling=Sampling.from_json(report),
            plain_loop=report.get("plain_loop"),
        )

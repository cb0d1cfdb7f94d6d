"""A rate that carries its denominator, what could not be decided, and the interval that goes with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Rate:
    """How many of how many, and for how many of these it is not known.

    Args:
        passed: Those that are known to pass.
        attempted: All of them.
        undecided: Those without a verdict, because time or memory ran out. They are in `attempted`, not in `passed`.

    Example:
        >>> print(Rate(6, 10, undecided=2))
        6/10 (60.0%), 2 undecided
    """

    passed: int
    attempted: int
    undecided: int = 0

    def __post_init__(self) -> None:
        if not (self.passed >= 0 and self.undecided >= 0 and self.passed + self.undecided <= self.attempted):
            raise ValueError(f"{self.passed} of {self.attempted}, {self.undecided} undecided, is no rate")

    @property
    def share(self) -> float | None:
        """passed / attempted, the least that the share can be; None when nothing was attempted."""
        return self.passed / self.attempted if self.attempted else None

    @property
    def interval_95(self) -> tuple[float, float]:
        """Wilson score interval at 95 %, wide enough for either verdict on what is undecided; (0, 1) of nothing."""
        low, _ = wilson_interval(self.passed, self.attempted)
        _, high = wilson_interval(self.passed + self.undecided, self.attempted)
        return low, high

    def __str__(self) -> str:
        share = f"{self.share:.1%}" if self.share is not None else "undefined"
        return f"{self.passed}/{self.attempted} ({share}){self._open}"

    def with_interval(self) -> str:
        """`437/500 (87.4%, 84.2-90.0)`; `437/500 (87.4%, 84.2-90.5), 3 undecided`."""
        low, high = self.interval_95
        share = f"{self.share:.1%}" if self.share is not None else "undefined"
        return f"{self.passed}/{self.attempted} ({share}, {100 * low:.1f}-{100 * high:.1f}){self._open}"

    @property
    def _open(self) -> str:
        return f", {self.undecided} undecided" if self.undecided else ""

    def to_json(self) -> dict[str, Any]:
        """The rate as a JSON object, denominator included."""
        return {
            "passed": self.passed,
            "attempted": self.attempted,
            "undecided": self.undecided,
            "share": self.share,
            "interval_95": list(self.interval_95),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rate:
        """The rate that `to_json` wrote; reports before version 2 of the benchmarks do not know what is undecided."""
        return cls(value["passed"], value["attempted"], value.get("undecided", 0))


def wilson_interval(passed: int, attempted: int, *, z: float = Z_95) -> tuple[float, float]:
    """Wilson (1927) score interval of a binomial share, within [0, 1]."""
    if attempted == 0:
        return 0.0, 1.0
    share = passed / attempted
    centre = share + z * z / (2 * attempted)
    spread = z * math.sqrt(share * (1 - share) / attempted + z * z / (4 * attempted * attempted))
    scale = 1 + z * z / attempted
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)

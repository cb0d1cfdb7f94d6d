"""A rate that carries its denominator, and the interval that goes with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Rate:
    """How many of how many."""

    passed: int
    attempted: int

    def __post_init__(self) -> None:
        if not 0 <= self.passed <= self.attempted:
            raise ValueError(f"{self.passed} of {self.attempted} is no rate")

    @property
    def share(self) -> float | None:
        """passed / attempted; None when nothing was attempted."""
        return self.passed / self.attempted if self.attempted else None

    @property
    def interval_95(self) -> tuple[float, float]:
        """Wilson score interval at 95 %; (0, 1) when nothing was attempted."""
        return wilson_interval(self.passed, self.attempted)

    def __str__(self) -> str:
        share = f"{self.share:.1%}" if self.share is not None else "undefined"
        return f"{self.passed}/{self.attempted} ({share})"

    def with_interval(self) -> str:
        """`437/500 (87.4%, 84.2-90.0)`."""
        low, high = self.interval_95
        share = f"{self.share:.1%}" if self.share is not None else "undefined"
        return f"{self.passed}/{self.attempted} ({share}, {100 * low:.1f}-{100 * high:.1f})"

    def to_json(self) -> dict[str, Any]:
        """The rate as a JSON object, denominator included."""
        return {
            "passed": self.passed,
            "attempted": self.attempted,
            "share": self.share,
            "interval_95": list(self.interval_95),
        }


def wilson_interval(passed: int, attempted: int, *, z: float = Z_95) -> tuple[float, float]:
    """Wilson (1927) score interval of a binomial share, within [0, 1]."""
    if attempted == 0:
        return 0.0, 1.0
    share = passed / attempted
    centre = share + z * z / (2 * attempted)
    spread = z * math.sqrt(share * (1 - share) / attempted + z * z / (4 * attempted * attempted))
    scale = 1 + z * z / attempted
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)

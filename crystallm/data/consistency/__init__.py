"""Rows of a table of crystals that contradict themselves: lost hydrogen, wrong labels, atoms on top of each other.

A finding is *certain* where no crystal can be as the row says; the others are suspicions, reported and kept.
"""

from crystallm.data.consistency.checking import check_row, findings_of_sources
from crystallm.data.consistency.findings import Contradiction, Finding

__all__ = ["Contradiction", "Finding", "check_row", "findings_of_sources"]

"""A table of results with what was demanded and whether it held, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.measure import Run


@dataclass(frozen=True, slots=True)
class Verdict:
    """One demand: `found` may not be above `limit`."""

    what: str
    found: float
    limit: float

    @property
    def holds(self) -> bool:
        return self.found <= self.limit

    def __str__(self) -> str:
        word = "holds" if self.holds else "**MISSED**"
        return f"{self.what}: {self.found:.4g}, limit {self.limit:.4g}: {word}"


@dataclass(slots=True)
class Table:
    number: int
    title: str
    about: str = ""
    head: Sequence[str] = ()
    rows: list[Sequence[str]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    failure: str = ""  # why there is no (whole) result

    @property
    def holds(self) -> bool:
        return not self.failure and all(verdict.holds for verdict in self.verdicts)

    def markdown(self) -> str:
        """The section of this table, with an empty line at its end."""
        parts = [f"## {self.number}. {self.title}", self.about]
        if self.rows:
            parts.append(_aligned([self.head, *self.rows]))
        lines = [str(verdict) for verdict in self.verdicts]
        if self.failure:
            lines.append(f"**not measured**: {self.failure}")
        if lines:
            parts.append("\n".join(f"- {line}" for line in lines))
        return "\n\n".join(parts) + "\n"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
             for row in rows]  # fmt: skip
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def seconds(runs: Sequence[Run]) -> tuple[str, str]:
    """The median of wall times, and the range they were in."""
    walls = [run.wall for run in runs]
    return f"{statistics.median(walls):.2f}", f"{min(walls):.2f}-{max(walls):.2f}"


def megabytes(size: float) -> str:
    return f"{size / 1e6:.1f}"

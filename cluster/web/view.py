"""What the pages show that is not in this site's stores: the daemon tells it through `SiteView`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cluster.plan.shares import Standing
from cluster.store.summary import MirrorSummary


@dataclass(frozen=True, slots=True)
class Progress:
    """A pass that is running. Times are seconds since 1970, bytes are those of files received so far."""

    started: float
    origin: str = ""
    directories: int = 0
    origin_bytes: int = 0
    sideways_bytes: int = 0
    failed: int = 0
    current: bytes = b""  # the directory it is at


@dataclass(frozen=True, slots=True)
class SiblingSummary:
    """One sibling as this site sees it. `told` is when it last answered; what it told then is kept."""

    up: bool
    told: float | None = None
    mirrors: Mapping[str, MirrorSummary] = field(default_factory=dict)
    problem: str = ""


class SiteView(Protocol):
    """Everything answers at once, from memory; nothing here waits for a disk or a sibling."""

    def running(self) -> Mapping[str, Progress]:
        """The passes under way, by mirror."""

    def next_run(self, mirror: str) -> float | None:
        """When (s since 1970) the next pass is due; None where none is."""

    def paused(self, mirror: str) -> str:
        """Why no pass starts by itself ("descriptor", "schedule window"); "" where it does."""

    def config_errors(self) -> Sequence[str]:
        """`FILE:LINE: what is wrong` for every invalid file of the configuration that is there now."""

    def siblings(self) -> Mapping[str, SiblingSummary]:
        """The other sites, by name."""

    def budgets(self) -> Sequence[Standing]:
        """What this site has of each budget that it shares with siblings, by sort and host."""

    def wake(self, mirror: str) -> None:
        """Somebody who knows the mirror's secret says that its origin has changed: a pass is due."""

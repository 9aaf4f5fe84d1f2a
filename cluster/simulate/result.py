"""What became of a run."""

from __future__ import annotations

from cluster.model import value


@value
class SiteResult:
    """What became of one site. `finished` is None for one that died; bytes are as received."""

    name: str
    finished: float | None
    died: float | None
    origin: int
    sideways: int
    stolen: int
    gave_way: int


@value
class Result:
    """What became of a run. `bound` is what no scheme can beat."""

    seconds: float
    bound: float
    unique: int
    origin: int
    sites: tuple[SiteResult, ...]

    @property
    def dup(self) -> float:
        """Bytes that the origin sent for each byte that it has."""
        return self.origin / self.unique if self.unique else 1.0

    @property
    def times_bound(self) -> float:
        return self.seconds / self.bound if self.bound else 1.0

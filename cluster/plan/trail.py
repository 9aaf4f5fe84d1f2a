"""Which files a site copies from its siblings while its own walk still goes on.

The walk leaves to a later stage what siblings rank first for, and a sibling tells when it has fetched
something. What was both left and told, in whichever order, is copied at once, from whoever told it: first
what this site would have to fetch if that sibling died, so that of several sites each copies something else
first, and soon somebody has everything.

Pure. Everything here is a shortcut: what is forgotten for want of room comes in its stage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cluster.plan.compare import Wanted

MOST = 2**15  # files that are left and not told, or the other way round: some 20 MB

Where = TypeVar("Where")


@dataclass(slots=True)
class _Ready(Generic[Where]):
    """What one sibling can be asked for, in this order."""

    first: deque[tuple[Where, Wanted]] = field(default_factory=deque)
    then: deque[tuple[Where, Wanted]] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self.first) + len(self.then)


@dataclass(slots=True)
class Trail(Generic[Where]):
    """One for each walk. `Where` is what a caller knows of a directory that it has listed."""

    owners: int  # how many there may be: none of them fills the room of the others
    most: int = MOST
    _left: dict[bytes, dict[bytes, tuple[str, bool, Where, Wanted]]] = field(default_factory=dict)
    _told: dict[bytes, dict[bytes, str]] = field(default_factory=dict)  # by directory, name: who
    _ready: dict[str, _Ready[Where]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)  # what is left, by owner
    _names: int = 0  # that were told

    def left(
        self,
        directory: bytes,
        where: Where,
        owner: str,
        wanted: Iterable[Wanted],
        *,
        next_in_rank: bool = False,
    ) -> None:
        """The walk leaves these files of a directory to their owner, after whom this site may rank next."""
        told = self._told.get(directory, {})
        for want in wanted:
            site = told.pop(want.entry.name, None)
            if site is not None:
                self._names -= 1
                self._add(site, next_in_rank, where, want)
            elif self._counts.get(owner, 0) < self.most // max(1, self.owners):
                self._counts[owner] = self._counts.get(owner, 0) + 1
                self._left.setdefault(directory, {})[want.entry.name] = owner, next_in_rank, where, want
        if not told:
            self._told.pop(directory, None)

    def told(self, site: str, directory: bytes, names: Iterable[bytes]) -> None:
        """A sibling has fetched these."""
        left = self._left.get(directory, {})
        for name in names:
            found = left.pop(name, None)
            if found is None:
                self._note(site, directory, name)
                continue
            owner, next_in_rank, where, want = found
            self._counts[owner] -= 1
            self._add(site, next_in_rank, where, want)
        if not left:
            self._left.pop(directory, None)

    def _add(self, site: str, next_in_rank: bool, where: Where, want: Wanted) -> None:
        ready = self._ready.setdefault(site, _Ready())
        (ready.first if next_in_rank else ready.then).append((where, want))

    def _note(self, site: str, directory: bytes, name: bytes) -> None:
        names = self._told.setdefault(directory, {})
        if name not in names:
            names[name] = site
            self._names += 1
        while self._names > self.most:  # the oldest: our walk has passed there, or is far behind
            self._names -= len(self._told.pop(next(iter(self._told))))

    def ready(self) -> dict[str, int]:
        """For how many files somebody can be asked, whoever has the most first."""
        return _most_first({site: len(ready) for site, ready in self._ready.items()})

    def urgent(self) -> dict[str, int]:
        """The same, of those that this site would have to fetch if that one died."""
        return _most_first({site: len(ready.first) for site, ready in self._ready.items() if ready.first})

    def take(self, site: str, files: int, size: int) -> Sequence[tuple[Where, Wanted]]:
        """What to ask a sibling for: up to so many files and about so many bytes; what is urgent by itself.
        It is forgotten here."""
        ready = self._ready.get(site, _Ready())
        queue = ready.first or ready.then
        taken: list[tuple[Where, Wanted]] = []
        total = 0
        while queue and len(taken) < files and total < size:
            taken.append(queue.popleft())
            total += taken[-1][1].entry.size or 0
        if not len(ready):
            self._ready.pop(site, None)
        return taken

    def __repr__(self) -> str:
        ready = sum(map(len, self._ready.values()))
        return f"<Trail {sum(self._counts.values())} left, {self._names} told, {ready} ready>"


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))

"""What is simulated: sites with their links, an origin, files, and what the sites tell each other.

Rates are bytes/s, times are seconds since the first site began, sizes are bytes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cluster.errors import UsageError
from cluster.model import Order, value

Files = tuple[tuple[bytes, int], ...]  # path and size, sorted by path


class Tells(enum.StrEnum):
    """What sites know of each other."""

    NOTHING = "nothing"
    HELD = "held"  # which files are complete
    CLAIMS = "claims"  # and which are being fetched


class Share(enum.StrEnum):
    """What has one owner, and one place in the walk."""

    FILE = "file"
    DIRECTORY = "directory"


@value
class Member:
    """One site. `connection` is the most that one of its connections to the origin carries, `sideways` the
    most that one to a sibling does. It begins at `starts`, and dies when it holds the share `dies` of all;
    with `returns` it is back so long after that, with what it had.
    """

    name: str
    up: float = 125e6
    down: float = 125e6
    connection: float = 20e6
    sideways: float = 20e6
    slots: int = 4  # files it fetches from the origin at once
    limit: float | None = None  # what it takes from the origin altogether
    starts: float = 0.0
    dies: float | None = None
    returns: float | None = None


@value
class Cut:
    """From `begins` to `ends`, `one` and `other` cannot reach each other; both reach everybody else."""

    one: str
    other: str
    begins: float
    ends: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything a run depends on: the same scenario always ends the same. `every` 0 means that news is
    pushed and takes `latency`; else each site asks its siblings every so many seconds.
    """

    members: tuple[Member, ...]
    files: Files
    origin: float = 125e6
    latency: float = 0.02
    orders: tuple[Order, ...] = (Order.RENDEZVOUS,)  # of the first, second ... site, over again
    share: Share = Share.DIRECTORY
    tells: Tells = Tells.CLAIMS
    every: float = 0.0
    stealing: bool = True
    ranges: bool = True
    patience: float = 60.0
    sideways_slots: int = 6
    apart: bool = False  # each two sites begin at a place of their own in the order
    seed: int = 1
    cuts: tuple[Cut, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.files)

    def order(self, index: int) -> Order:
        """The walk order of the site with this index."""
        return self.orders[index % len(self.orders)]


def checked(scenario: Scenario) -> Scenario:
    """`scenario`, if it can be played. Raises UsageError in one line."""
    names = [member.name for member in scenario.members]
    if not names or len(set(names)) != len(names):
        raise UsageError("a simulation needs at least one site, and each by a name of its own")
    if not scenario.files:
        raise UsageError("nothing to fetch: the tree has no files")
    if all(member.dies is not None and member.returns is None for member in scenario.members):
        raise UsageError("every site dies: nobody is left to be waited for")
    if scenario.tells is Tells.CLAIMS and scenario.every and scenario.patience <= scenario.every:
        raise UsageError(
            f"claims that are asked for every {scenario.every:g} s are void between two questions: "
            f"let --patience be more than that, not {scenario.patience:g} s"
        )
    for cut in scenario.cuts:
        if cut.one == cut.other or not {cut.one, cut.other} <= set(names):
            raise UsageError(f"{cut.one} and {cut.other} cannot be cut off from each other: name two sites")
        if not 0 <= cut.begins < cut.ends:
            raise UsageError(f"{cut.one} and {cut.other}: a cut begins before it ends")
    alone = len(names) == 1 or scenario.tells is Tells.NOTHING
    if alone and Order.RENDEZVOUS in scenario.orders and not scenario.stealing and len(names) > 1:
        raise UsageError("owners who tell nothing and steal nothing never learn of what the others own")
    return scenario


def bound(scenario: Scenario) -> float:
    """Seconds that no scheme can do better than: every byte leaves the origin once and reaches every site
    that lives. The links alone are counted, as fluids; those of a site that dies help to the end.
    """
    members, size = scenario.members, scenario.bytes
    from_origin = min(scenario.origin, sum(_from_origin(m) for m in members))
    times = [size / from_origin]
    living = [m for m in members if m.dies is None or m.returns is not None]
    for member in living:
        every = _from_origin(member)
        if len(members) > 1:
            every += scenario.sideways_slots * member.sideways
        times.append(member.starts + size / min(member.down, every))
    if len(members) > 1:
        times.append(size * len(living) / (from_origin + sum(m.up for m in members)))
    return max(times)


def _from_origin(member: Member) -> float:
    """The most that one site takes from the origin."""
    links = min(member.down, member.slots * member.connection)
    return links if member.limit is None else min(links, member.limit)

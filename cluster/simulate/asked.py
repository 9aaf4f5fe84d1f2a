"""What an operator asks, on the command line and in the configuration, as scenarios."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from cluster.config import units
from cluster.config.load import load
from cluster.errors import UsageError
from cluster.model import Mirror, Order, Sideways, shown
from cluster.plan.shares import homes
from cluster.simulate import trees
from cluster.simulate.scenario import Cut, Files, Member, Scenario, Share, Tells, checked

_T = TypeVar("_T")
MAX_SITES = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `sideways simulate` as they were typed; None where nothing was said."""

    mirror: str | None = None
    sites: str | None = None
    origin: str = "1Gbit/s"
    up: str = "1Gbit/s"
    down: str = "1Gbit/s"
    links: Sequence[str] = ()
    connection: str = "20MB/s"
    latency: str = "0.02s"
    slots: int | None = None
    sideways_slots: int = 6
    files: int = 1500
    bytes: str = "40GB"
    largest: str = "2%"
    tail: float = 1.2
    directories: int | None = None
    tree: str | None = None
    held: str | None = None
    orders: Sequence[str] = ()
    share: str = "directory"
    tells: str = "claims"
    every: str | None = None
    patience: str | None = None
    stealing: bool = True
    ranges: bool = True
    spread: str = "0s"
    dies: Sequence[str] = ()
    cuts: Sequence[str] = ()
    slow: Sequence[str] = ()
    seeds: int = 1


def scenarios(folder: str, asked: Asked) -> list[Scenario]:
    """One for each seed. What the options leave open is taken from the configuration in `folder`, where there
    is one. Raises UsageError in one line, ConfigErrors where the configuration is not valid.
    """
    base, data = _configured(folder, asked)
    members = _members(base.members, asked)
    every = _word("--every", units.duration, asked.every) if asked.every else 0.0
    base = replace(
        base,
        members=tuple(members),
        origin=float(_word("--origin", units.rate, asked.origin)),
        latency=_word("--latency", units.duration, asked.latency),
        orders=tuple(Order(order) for order in asked.orders) or base.orders,
        share=Share(asked.share),
        tells=Tells(asked.tells),
        every=every,
        stealing=asked.stealing,
        ranges=asked.ranges,
        sideways_slots=asked.sideways_slots,
        cuts=tuple(_cut(text) for text in asked.cuts),
    )
    if asked.patience is not None:
        base = replace(base, patience=_word("--patience", units.duration, asked.patience))
    spread = _word("--spread", units.duration, asked.spread)
    return [
        checked(_seeded(base, seed, _files(asked, data, seed), spread)) for seed in range(1, asked.seeds + 1)
    ]


def counts(text: str | None, default: Sequence[int]) -> list[int]:
    """Numbers of sites for the columns of the table. Raises UsageError."""
    if text is None:
        return list(default)
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= MAX_SITES for part in parts):
        raise UsageError(
            f"--sites: {units.quoted(text)}: for the table, numbers from 1 to {MAX_SITES}: 2,4,8"
        )
    return [int(part) for part in parts]


def _seeded(base: Scenario, seed: int, files: Files, spread: float) -> Scenario:
    """Sites begin evenly spread, the first at once: who is when follows from the seed."""
    count = len(base.members)
    gap = spread / max(1, count - 1)
    members = tuple(
        replace(member, starts=(i + seed - 1) % count * gap) for i, member in enumerate(base.members)
    )
    return replace(base, members=members, files=files, seed=seed)


# -- the configuration -----------------------------------------------------------------------


def _configured(folder: str, asked: Asked) -> tuple[Scenario, str | None]:
    """What the configuration says of sites and mirror, and the folder whose tree is asked for."""
    base = Scenario(members=(), files=(), patience=Sideways().patience)
    there = os.path.isfile(os.path.join(folder, "config/cluster.toml"))
    if asked.held and not asked.mirror:
        raise UsageError("--held says at which site MIRROR lies: name the mirror as well")
    if not there and asked.mirror:
        load(folder)  # says what is missing
    if not there or (asked.sites is not None and not asked.mirror):
        return replace(base, members=_named("4" if asked.sites is None else asked.sites)), None
    cluster = load(folder)
    if asked.mirror is None:
        return replace(base, members=tuple(Member(name) for name in sorted(cluster.sites))), None
    if asked.mirror not in cluster.mirrors:
        known = ", ".join(sorted(cluster.mirrors)) or "none"
        raise UsageError(f"{shown(os.fsencode(asked.mirror))}: no such mirror; there are: {known}")
    members, orders = [], []
    for name in cluster.mirrors[asked.mirror].sites:
        mirror = load(folder, name).mirrors[asked.mirror]
        members.append(_member(name, mirror))
        orders.append(mirror.order)
    mirror = cluster.mirrors[asked.mirror]
    data = None
    if asked.held is not None:
        if asked.held not in mirror.sites:
            raise UsageError(
                f"--held: {units.quoted(asked.held)} does not carry {mirror.name}; "
                f"it is carried by: {', '.join(mirror.sites)}"
            )
        data = os.path.join(cluster.sites[asked.held].data, mirror.path.strip("/"))
    named = tuple(members) if asked.sites is None else _named(asked.sites, members)
    base = replace(base, members=named, patience=mirror.sideways.patience)
    return replace(base, orders=tuple(orders) if asked.sites is None else (mirror.order,)), data


def _member(name: str, mirror: Mirror) -> Member:
    """A site with its limits; of limits that all share, its fair share: what is lent is not played."""
    limits = mirror.limits
    if not limits.shared:
        return Member(name, slots=limits.connections, limit=limits.bandwidth)
    fair = homes(limits.connections, mirror.sites)[name]
    part = limits.bandwidth / len(mirror.sites) if limits.bandwidth is not None else None
    return Member(name, slots=max(1, fair), limit=part)


def _named(text: str, like: Sequence[Member] = ()) -> tuple[Member, ...]:
    """`4` or `kent,oslo`; what is configured of a site, or of the first one, holds for it."""
    names = text.split(",")
    if text.isascii() and text.isdigit():
        names = [f"site{i}" for i in range(1, int(text) + 1)] if len(text) < 4 else []
    plain = all(name.isascii() and name[:1].isalnum() and name.replace("-", "a").isalnum() for name in names)
    if not 1 <= len(names) <= MAX_SITES or not plain or len(set(names)) != len(names):
        raise UsageError(
            f"--sites: {units.quoted(text)}: a number from 1 to {MAX_SITES}, or as many different names: "
            "kent,lancaster,oslo"
        )
    known = {member.name: member for member in like}
    first = like[0] if like else Member("")
    return tuple(known.get(name) or replace(first, name=name) for name in names)


# -- the options -----------------------------------------------------------------------------


def _word(option: str, parse: Callable[[str], _T], text: str) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _members(members: Sequence[Member], asked: Asked) -> list[Member]:
    up, down = (_word(o, units.rate, t) for o, t in (("--up", asked.up), ("--down", asked.down)))
    connection = _word("--connection", units.rate, asked.connection)
    found = {
        m.name: replace(
            m, up=up, down=down, connection=connection, sideways=connection, slots=asked.slots or m.slots
        )
        for m in members
    }
    for text in asked.links:
        name, rates = _of_site("--link", text, found)
        first, _, second = rates.partition(":")
        both = [_word("--link", units.rate, rate) for rate in (first, second or first)]
        found[name] = replace(found[name], up=both[0], down=both[1])
    for text in asked.slow:
        name, times = _of_site("--slow", text, found)
        if not times.isascii() or not times.isdigit() or not 1 <= int(times) <= 1000:
            raise UsageError(f"--slow: {units.quoted(times)}: how many times slower, from 1 to 1000")
        found[name] = replace(found[name], connection=found[name].connection / int(times))
    for text in asked.dies:
        name, rest = _of_site("--dies", text, found)
        share, _, back = rest.partition(":")
        returns = _word("--dies", units.duration, back) if back else None
        found[name] = replace(found[name], dies=_word("--dies", units.share, share), returns=returns)
    return list(found.values())


def _cut(text: str) -> Cut:
    """`kent:oslo:10m:15m`."""
    words = text.split(":")
    if len(words) != 4:
        raise UsageError(f"--cut: {units.quoted(text)}: two sites, and from when to when: kent:oslo:10m:15m")
    begins, ends = (_word("--cut", units.duration, word) for word in words[2:])
    return Cut(words[0], words[1], begins, ends)


def _of_site(option: str, text: str, members: dict[str, Member]) -> tuple[str, str]:
    """`NAME:REST`."""
    name, colon, rest = text.partition(":")
    if name not in members or not colon:
        raise UsageError(
            f"{option}: {units.quoted(text)}: begins with a site and a colon; the sites are: "
            + ", ".join(members)
        )
    return name, rest


def _files(asked: Asked, data: str | None, seed: int) -> Files:
    folder = asked.tree or data
    if folder is not None:
        return trees.read(folder)
    return trees.made(
        asked.files,
        _word("--bytes", units.size, asked.bytes),
        _word("--largest", units.share, asked.largest),
        asked.tail,
        asked.directories if asked.directories is not None else max(1, asked.files // 25),
        seed,
    )

"""Which mirrors are due, and when to look again; how fresh a mirror is.

Pure: times are seconds since 1970, minutes of the day are counted in the zone that is passed in.
"""

from __future__ import annotations

import enum
import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, tzinfo

from cluster.model import Schedule, value

RETRY = 600.0  # s from the end of a pass that failed to the next one, or `every` if that is less
BACKOFF = 8  # times `every`, at most, after failures in a row
LONGEST_BACKOFF = 86_400.0  # s; a mirror that is due more seldom than that is not put off at all
GAP = 60.0  # s between the end of a pass and the next one by schedule, or a tenth of `every` if that is less
SCOPES = 16  # wake-ups for more directories than this are one for the whole mirror

STALE = 2.0  # times the interval without a complete pass (HAZARDS section 5)
ERROR = 4.0


class Freshness(enum.StrEnum):
    NEVER = "never"  # no pass has been complete yet
    FRESH = "fresh"
    STALE = "stale"
    ERROR = "error"


@value
class History:
    """The last passes over the whole of a mirror. `since` is when the schedule began to hold for it."""

    since: float
    started: float | None = None
    ended: float | None = None
    failures: int = 0  # passes in a row that failed


@value
class Wake:
    """A reason to compare a directory sooner. What an operator asked for (`urgent`) does not wait for the
    hours of the schedule. By `news` (s since 1970) something had changed at the origin, so that what was
    listed before says nothing about it."""

    at: float
    reason: str = ""
    urgent: bool = False
    news: float | None = None


@value
class Situation:
    """Everything that decides when one mirror is next due."""

    schedule: Schedule
    history: History
    wakes: Mapping[bytes, Wake] = field(default_factory=dict)
    running: bool = False
    paused: bool = False


@value
class Start:
    """A pass to be started: of the whole mirror where `scope` is empty. `since` is when it became due."""

    since: float
    mirror: str
    scope: bytes
    reason: str


@value
class Due:
    """`starts` longest overdue first, at most one per mirror; `again` is None where only a wake-up helps."""

    starts: tuple[Start, ...]
    again: float | None


def due(now: float, site: str, zone: tzinfo, situations: Mapping[str, Situation]) -> Due:
    """What is to be started now.

    Wake-ups are level, not edge: one that comes during a pass makes the mirror due again at its end. A mirror
    that is running is not due, and the end of its pass is a reason to look again.
    """
    starts: list[Start] = []
    later: list[float] = []
    for name, situation in situations.items():
        start = next_start(now, name, site, zone, situation)
        if start is None:
            continue
        if start.since > now:
            later.append(start.since)
        elif not situation.running:
            starts.append(start)
    return Due(tuple(sorted(starts, key=lambda s: (s.since, s.mirror))), min(later, default=None))


def next_start(now: float, name: str, site: str, zone: tzinfo, situation: Situation) -> Start | None:
    """The next pass of a mirror, by schedule or because of a wake-up; `since` may lie in the future.

    None for a paused mirror, and for one without a schedule that nobody woke. By schedule it is the whole
    mirror, which answers every wake-up too; so a schedule that is due goes first. Where the descriptor says
    `paused`, only what an operator asks for begins.
    """
    schedule, wakes = situation.schedule, situation.wakes
    if situation.paused:
        return None
    at = None if schedule.paused else scheduled(now, name, site, zone, situation)
    if schedule.paused:
        wakes = {path: wake for path, wake in wakes.items() if wake.urgent}
    if wakes and (at is None or at > now):
        scope, wake = first_wake(wakes)
        came = min(wake.at, now)
        woken = came if wake.urgent else admitted(now, came, schedule.window, zone)
        return Start(woken, name, scope, wake.reason or "woken")
    return None if at is None else Start(at, name, b"", "schedule")


def scheduled(now: float, name: str, site: str, zone: tzinfo, situation: Situation) -> float | None:
    """When the schedule alone wants the next pass; None where it never does."""
    schedule, history = situation.schedule, situation.history
    began = history.started
    if began is not None and began > now:
        began = None  # the clock was set back: what it told then says nothing about now
    if schedule.cron is not None:
        at = cron_next(schedule.cron, history.since if began is None else began, f"{name}@{site}", zone)
    elif schedule.every is None:
        return None
    elif began is None:
        at = min(history.since, now)
    else:
        ended = None if history.ended is None else min(history.ended, now)
        wait, at = schedule.every, began
        if history.failures and ended is not None:
            wait, at = backed_off(schedule.every, history.failures), ended
        at += wait + min(schedule.jitter, wait) * fraction(name, site, int(began))
        if ended is not None:
            at = max(at, ended + min(GAP, schedule.every / 10))
    return admitted(now, at, schedule.window, zone)


def newest(wakes: Mapping[bytes, Wake]) -> float | None:
    """When the last of these was told that something had changed; None where none was."""
    return max((wake.news for wake in wakes.values() if wake.news is not None), default=None)


def first_wake(wakes: Mapping[bytes, Wake]) -> tuple[bytes, Wake]:
    """Which of some scopes to look at next: an urgent one first, and the whole mirror where it answers for
    all of them or they are more than SCOPES."""
    if b"" in wakes or len(wakes) > SCOPES:
        urgent = any(wake.urgent for wake in wakes.values())
        news = newest(wakes)
        oldest = min(wakes.values(), key=lambda wake: wake.at)
        reason = wakes[b""].reason if b"" in wakes else oldest.reason
        return b"", Wake(oldest.at, reason, urgent, news)
    scope = min(wakes, key=lambda path: (not wakes[path].urgent, wakes[path].at, path))
    return scope, wakes[scope]


def answered(scope: bytes, path: bytes) -> bool:
    """Whether a pass over `scope` compares what a wake-up for `path` is about."""
    return not scope or path == scope or path.startswith(scope + b"/")


# -- intervals


def backed_off(every: float, failures: int) -> float:
    """Seconds to the next pass after so many failures in a row, at least one. The first ones may be an origin
    that is away for minutes, so they are tried again soon; later it is spared for longer than `every`."""
    wait = min(every, RETRY) * (1 << min(failures - 1, 20))
    return min(wait, every * BACKOFF, max(every, LONGEST_BACKOFF))


def fraction(name: str, site: str, cycle: int) -> float:
    """Jitter from 0 up to 1: the same for everybody who knows a mirror, its site and when its pass began."""
    told = hashlib.sha256(f"{name}\0{site}\0{cycle}".encode()).digest()
    return int.from_bytes(told[:6], "big") / 2**48


def cron_next(line: str, after: float, identity: str, zone: tzinfo) -> float:
    """The first time after `after` that a cron line names. `H` in it is chosen by `identity`."""
    from croniter import croniter

    began = datetime.fromtimestamp(after, zone)
    return float(croniter(line, began, hash_id=identity.encode()).get_next(float))


def interval(schedule: Schedule, now: float, name: str, site: str, zone: tzinfo) -> float | None:
    """Seconds between passes as users may expect them; of a cron line the longest of the next gaps. None
    where there is no schedule."""
    if schedule.cron is None:
        return None if schedule.every is None else schedule.every + schedule.jitter
    times = [now]
    for _ in range(8):
        times.append(cron_next(schedule.cron, times[-1], f"{name}@{site}", zone))
    return max(later - sooner for sooner, later in itertools.pairwise(times[1:]))


def freshness(now: float, last_complete: float | None, interval: float | None) -> Freshness:
    """What users are told. A mirror without an interval is as fresh as its last push.

    A time that lies in the future by as much, since the clock was set back, says as little about now.
    """
    if last_complete is None:
        return Freshness.NEVER
    age = abs(now - last_complete)
    if interval is None or age <= STALE * interval:
        return Freshness.FRESH
    return Freshness.STALE if age <= ERROR * interval else Freshness.ERROR


# -- hours


def minute_of(at: float, zone: tzinfo) -> int:
    """Minutes since midnight in `zone`."""
    local = datetime.fromtimestamp(at, zone)
    return local.hour * 60 + local.minute


def within(at: float, window: tuple[int, int], zone: tzinfo) -> bool:
    """Whether a time lies in the window (minutes from, to; may wrap). From a minute to itself is all day."""
    start, end = window
    return (minute_of(at, zone) - start) % 1440 < ((end - start) % 1440 or 1440)


def admitted(now: float, at: float, window: tuple[int, int] | None, zone: tzinfo) -> float:
    """Since or from when something due at `at` may begin: it waits for hours that have not come yet."""
    earliest = max(now, at)
    opens = opening(earliest, window, zone)
    return at if opens == earliest else opens


def opening(at: float, window: tuple[int, int] | None, zone: tzinfo) -> float:
    """The first time from `at` on that lies in the window. On days when clocks change it may be an hour off;
    who looks again at that time gets it right."""
    if window is None or within(at, window, zone):
        return at
    minutes = (window[0] - minute_of(at, zone)) % 1440
    return at - at % 60 + minutes * 60

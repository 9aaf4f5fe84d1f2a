"""What an origin sent, version by version: by nginx's log with the validators that it gave out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

# For `log_format`: nginx's validator is "TIME-SIZE" in hexadecimal, so that a line tells the whole version.
FORMAT = (
    "$msec $request_time $remote_user $status $body_bytes_sent $sent_http_etag $request_method $http_range"
    " $request_uri"
)
RECOVERY = 15.0  # s until sites that were apart rely on each other again
WORST = 8  # of what was sent too often, told in words
COPIED = 2.0  # s after which what a site has may be at those who reach it: published, told, asked for
UNPUBLISHED = 5.0  # s: what came within them may not be published, and is lost with its site


class Sent(NamedTuple):
    """One answer with bytes of a file."""

    at: float  # s since 1970, when its last byte left
    asked: float
    site: str
    bytes: int
    version: str  # the validator
    size: int  # of the whole file
    target: str
    first: int = 0  # byte of the file

    @property
    def young(self) -> bool:
        """It was read in the second of its own time: it may have changed since and look the same."""
        return self.asked - int(self.version.strip('"').partition("-")[0], 16) < 1.1


class Trouble(NamedTuple):
    """From `begin` to `end` (s since 1970) these sites could not rely on each other; one alone: on nobody."""

    begin: float
    end: float
    sites: frozenset[str]


@dataclass(frozen=True)
class Extra:
    """Bytes that the origin sent once more than it had to, of one version."""

    bytes: int
    excused: bool  # whoever could have given them was out of reach
    rows: tuple[Sent, ...]

    def __str__(self) -> str:
        told = ", ".join(f"{row.site} {row.bytes} at {row.asked % 10_000:.1f}" for row in self.rows[:8])
        why = "excused" if self.excused else "too many"
        return f"{self.bytes} {why} of {self.rows[0].target} ({self.rows[0].size} bytes): {told}"


@dataclass(frozen=True)
class Account:
    sent: int
    unique: int  # bytes of versions that were sent, each once, as far as they were sent
    forgiven: int  # of what was sent: on its way to sites that were killed, or read too young
    apart: int  # of what was sent: nobody within reach had it, nor had had the time to copy it
    extras: tuple[Extra, ...]  # the largest first

    @property
    def dup(self) -> float:
        return (self.sent - self.forgiven - self.apart) / self.unique if self.unique else 1.0

    @property
    def inexcusable(self) -> int:
        return sum(extra.bytes for extra in self.extras if not extra.excused)

    def __str__(self) -> str:
        head = (
            f"the origin sent {self.sent} bytes of {self.unique}: {self.dup:.3f} times"
            f" without {self.forgiven} for deaths and young files, {self.apart} that nobody within reach had;"
            f" {self.inexcusable} of them while a sibling was within reach"
        )
        return "\n".join([head, *(f"  {extra}" for extra in self.extras[:WORST])])


def read(lines: Iterable[str]) -> list[Sent]:
    """Of the log, what sent bytes of a file."""
    found = []
    for line in lines:
        at, took, site, status, sent, version, method, part, target = line.rstrip("\n").split(" ", 8)
        if status in ("200", "206") and method == "GET" and not target.endswith("/") and int(sent):
            size = int(version.strip('"').rpartition("-")[2], 16)
            asked = float(at) - float(took)
            first = int(part.removeprefix("bytes=").partition("-")[0]) if status == "206" else 0
            found.append(Sent(float(at), asked, site, int(sent), version, size, target, first))
    return found


def account(rows: Sequence[Sent], deaths: Sequence[Trouble], troubles: Sequence[Trouble]) -> Account:
    versions: dict[tuple[str, str], list[Sent]] = defaultdict(list)
    for row in rows:
        versions[row.target, row.version].append(row)
    judge = _Judge(deaths, troubles)
    forgiven, unique, apart = 0, 0, 0
    extras: list[Extra] = []
    for told in versions.values():
        told.sort(key=lambda row: row.asked)
        too_many = {True: 0, False: 0}  # by whether it is excused
        for length, answers in _stretches(told):
            unique += length
            for number, row in enumerate(answers[1:], 1):
                before = answers[:number]
                if all(one.young or judge.lost(one, row) for one in before):
                    forgiven += length
                    continue
                too_many[judge.excused(before, row)] += length
                apart += length if judge.nobody_had_it(before, row) else 0
        extras += [Extra(size, excused, tuple(told)) for excused, size in too_many.items() if size]
    extras.sort(key=lambda extra: (extra.excused, -extra.bytes))
    return Account(sum(row.bytes for row in rows), unique, forgiven, apart, tuple(extras))


def _stretches(rows: Sequence[Sent]) -> Iterator[tuple[int, list[Sent]]]:
    """Runs of bytes that were sent in the same answers: how many, and these, in their order."""
    edges = sorted({edge for row in rows for edge in (row.first, row.first + row.bytes)})
    for first, end in pairwise(edges):
        answers = [row for row in rows if row.first <= first and end <= row.first + row.bytes]
        if answers:
            yield end - first, answers


class _Judge:
    def __init__(self, deaths: Sequence[Trouble], troubles: Sequence[Trouble]) -> None:
        self._deaths, self._troubles = deaths, troubles
        self._sites = {site for trouble in (*deaths, *troubles) for site in trouble.sites}

    def lost(self, one: Sent, row: Sent) -> bool:
        """Whether it may not have been published when its site died, before it is asked for again."""
        return any(
            one.site in d.sites and d.begin <= row.at and -1.0 <= d.begin - one.at <= UNPUBLISHED
            for d in self._deaths
        )

    def excused(self, before: Sequence[Sent], row: Sent) -> bool:
        """Whether nobody who had fetched it could be reached, or could be a moment ago."""
        return all(self._apart(row.site, one.site, row.asked - RECOVERY, row.at) for one in before)

    def nobody_had_it(self, before: Sequence[Sent], row: Sent) -> bool:
        """Whether whoever asks could reach nobody who had fetched it, and no third one who could have reached
        such a one for as long as it takes to copy it: what no design can avoid that lets nobody wait."""
        if not all(self._apart(row.site, one.site, row.asked, row.at) for one in before):
            return False
        return not any(
            row.asked >= one.at + COPIED
            and not self._apart(one.site, third, one.at, one.at + COPIED)
            and not self._apart(row.site, third, row.asked, row.at)
            for one in before
            for third in self._sites - {row.site, one.site}
        )

    def _apart(self, one: str, other: str, begin: float, end: float) -> bool:
        return one != other and any(
            t.begin <= end and begin <= t.end and (t.sites == {one, other} or t.sites < {one, other})
            for t in self._troubles
        )

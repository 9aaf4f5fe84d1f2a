"""What an origin sent, version by version: by nginx's log with the validators that it gave out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# For `log_format`: nginx's validator is "TIME-SIZE" in hexadecimal, so that a line tells the whole version.
FORMAT = (
    "$msec $request_time $remote_user $status $body_bytes_sent $sent_http_etag $request_method $request_uri"
)
RECOVERY = 15.0  # s until sites that were apart rely on each other again
WORST = 8  # of what was sent too often, told in words
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
    extras: tuple[Extra, ...]  # the largest first

    @property
    def dup(self) -> float:
        return (self.sent - self.forgiven) / self.unique if self.unique else 1.0

    @property
    def inexcusable(self) -> int:
        return sum(extra.bytes for extra in self.extras if not extra.excused)

    def __str__(self) -> str:
        head = (
            f"the origin sent {self.sent} bytes of {self.unique}: {self.dup:.3f} times"
            f" without {self.forgiven} for deaths and young files;"
            f" {self.inexcusable} of them while a sibling was within reach"
        )
        return "\n".join([head, *(f"  {extra}" for extra in self.extras[:WORST])])


def read(lines: Iterable[str]) -> list[Sent]:
    """Of the log, what sent bytes of a file."""
    found = []
    for line in lines:
        at, took, site, status, sent, version, method, target = line.rstrip("\n").split(" ", 7)
        if status in ("200", "206") and method == "GET" and not target.endswith("/") and int(sent):
            size = int(version.strip('"').rpartition("-")[2], 16)
            asked = float(at) - float(took)
            found.append(Sent(float(at), asked, site, int(sent), version, size, target))
    return found


def account(rows: Sequence[Sent], deaths: Sequence[Trouble], troubles: Sequence[Trouble]) -> Account:
    versions: dict[tuple[str, str], list[Sent]] = defaultdict(list)
    for row in rows:
        versions[row.target, row.version].append(row)
    forgiven, unique = 0, 0
    extras: list[Extra] = []
    for told in versions.values():
        sent, size = sum(row.bytes for row in told), told[0].size
        unique += min(sent, size)
        too_many = max(0, sent - size)
        pardoned = min(too_many, sum(row.bytes for row in told if row.young or _lost(row, deaths)))
        forgiven += pardoned
        if too_many > pardoned:
            extras.append(Extra(too_many - pardoned, _excused(told, troubles), tuple(told)))
    extras.sort(key=lambda extra: (extra.excused, -extra.bytes))
    return Account(sum(row.bytes for row in rows), unique, forgiven, tuple(extras))


def _lost(row: Sent, deaths: Sequence[Trouble]) -> bool:
    """Whether it may not have been published when its site died."""
    return any(row.site in d.sites and -1.0 <= d.begin - row.at <= UNPUBLISHED for d in deaths)


def _excused(rows: Sequence[Sent], troubles: Sequence[Trouble]) -> bool:
    """Whether nobody who fetched a version again could reach anybody who had begun with it before."""
    ordered = sorted(rows, key=lambda row: row.asked)
    for number, row in enumerate(ordered):
        others = {earlier.site for earlier in ordered[:number]} - {row.site}
        if any(not _apart(row.site, other, row.asked, row.at, troubles) for other in others):
            return False
    return True


def _apart(one: str, other: str, begin: float, end: float, troubles: Sequence[Trouble]) -> bool:
    return any(
        t.begin <= end and begin - RECOVERY <= t.end and (t.sites == {one, other} or t.sites < {one, other})
        for t in troubles
    )

"""Several origins of one mirror: whose turn is it, and may the mirror be compared with that one now?

Facts come from one origin in each pass. Another origin may be older, or may tell its times in a way of its
own; compared with it, a mirror would go back in time, or look as if all of it had changed. So before an
origin takes over from another, a sample of what is held is laid beside what it lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cluster.model import Entry, Held, Kind, Stamp, shown, value

FIRST_PAUSE = 600.0  # s after a failure
LONGEST_PAUSE = 86_400.0  # s; so an origin that is gone for good costs one request a day
BEHIND_AT_MOST = 259_200.0  # s, 3 days: then an origin is followed back all the same, since facts are its own
FEW = 8  # files of a sample; fewer say nothing about how an origin tells times


@value
class Health:
    """How an origin has done. Times are seconds since 1970; `behind` since when it is known to be older than
    what is held, `compared` when a pass last came to its end with it."""

    failures: int = 0  # in a row
    failed: int = 0
    error: str = ""
    behind: int | None = None
    compared: bool = False

    @property
    def why(self) -> str:
        """What became of it lately, for people."""
        return f"failed {'once' if self.failures == 1 else f'{self.failures} times'}: {self.error}"

    def until(self, now: float) -> float:
        """When it is to be asked again before others; in the past where it is well."""
        if not self.failures:
            return 0.0
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.failures - 1, 16))
        return min(float(self.failed), now) + pause


def turn(urls: Sequence[str], known: Mapping[str, Health], now: float) -> list[str]:
    """All of them, in the order in which they are to be asked: the well ones as they were written, then those
    that failed lately, the one that may be asked soonest first. None is left out: a pass tries them all."""
    until = {url: known[url].until(now) if url in known else 0.0 for url in urls}
    waiting = sorted((url for url in urls if until[url] > now), key=lambda url: until[url])
    return [url for url in urls if until[url] <= now] + waiting


@value
class Sampled:
    """One directory as both know it: the files that are held there, and what the origin lists."""

    path: bytes
    held: Mapping[bytes, Held]
    listed: Sequence[Entry]


@value
class Judgement:
    """`behind` and `strange` are reasons; both empty: it may be followed."""

    behind: str = ""
    strange: str = ""


def judged(samples: Iterable[Sampled]) -> Judgement:
    """What the sample says of an origin that is to take over.

    It is behind where it shows older versions, or lacks what is newer than all that it has, and has nothing
    that is newer than ours. It is strange where most files of the same size have other times: it tells times
    of its own, such as when it copied them, so that every file would seem to be a new version.
    """
    older = newer = same = moved = 0
    first = b""
    ours: list[tuple[int, bytes]] = []
    theirs = 0
    lacking: list[tuple[int, bytes]] = []
    for sample in samples:
        listed = {entry.name: entry for entry in sample.listed if entry.kind is Kind.FILE}
        theirs = max([theirs, *(entry.mtime.ns for entry in listed.values() if entry.mtime)])
        for name, held in sample.held.items():
            then = held.mtime or held.row.mtime
            if held.kind is not Kind.FILE or then is None:
                continue
            path = sample.path + b"/" + name if sample.path else name
            ours.append((then.ns, path))
            entry = listed.get(name)
            if entry is None:
                lacking.append((then.ns, path))
            elif entry.mtime is not None:
                way = _way(entry.mtime, held)
                moved += way != 0 and entry.size == held.size
                same += way == 0
                newer += way > 0
                older += way < 0
                first = first or (path if way < 0 else b"")
    common = older + newer + same
    if common >= FEW and 2 * moved > common:
        return Judgement(strange=f"{moved} of {common} files have another time there, and the same size")
    ahead = newer or theirs > max((at for at, _ in ours), default=0)
    if older and not ahead:
        return Judgement(f"{older} of {common} files are older there, such as {shown(first)}")
    beyond = [path for at, path in lacking if at > theirs]
    if theirs and beyond and not ahead:
        return Judgement(f"it lacks {shown(beyond[0])}, which is newer than all that it lists beside it")
    return Judgement()


def _way(told: Stamp, held: Held) -> int:
    """Whether the file there is older (-1) or newer (1) than the one held; 0 where it may be the same."""
    known = [stamp for stamp in (held.mtime, held.row.mtime) if stamp is not None]
    if any(told.agrees(stamp) for stamp in known):
        return 0
    return -1 if told.ns < min(stamp.ns for stamp in known) else 1

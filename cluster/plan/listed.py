"""Whether a list of the whole tree, which the origin publishes, may stand for the walk.

Pure. A list is an old picture, made by a program of which nothing is known. It is believed about what is
there as long as it is younger than what was compared here last, and real listings of some directories do not
contradict it. What it lacks proves nothing: that is asked for at the origin.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from cluster.model import DAY, MINUTE, SECOND, Deletion, Entry, Kind, Listing, shown, value

TAKES = 15 * 60  # s for which the origin may have been writing it, up to the time that it carries
ZONE = 14 * 60 * MINUTE + DAY  # ns by which another zone's clock is off, at most, and a day on top


class Use(enum.Enum):
    """What a list is good for in this pass."""

    FACTS = "facts"  # its rows are listings
    TOKENS = "tokens"  # equal rows say that nothing changed; all else is asked for
    WALK = "walk"  # each directory is asked for; what is as the list has it need not be the next time
    NOTHING = "nothing"  # it is not believed at all


@value
class Known:
    """What is known here when a pass begins: as of when (s since 1970) everything was compared with the
    origin, None for never; by when (s) something has changed there, where somebody said so; files held."""

    compared: int | None = None
    news: float | None = None
    held: int = 0


@value
class Picture:
    """A list: its time (s since 1970) and that of the one before, its files; `same` as the one before."""

    mtime: int
    files: int
    before: int | None = None
    same: bool = False

    @property
    def as_of(self) -> int:
        """What it says was so then, or later."""
        return self.mtime - TAKES


@value
class Rules:
    """What an operator said: how old (s) a list may be, and how often (s) the tree is walked all the same."""

    age: float | None
    walk: float | None
    delete: Deletion


def use(picture: Picture, known: Known, rules: Rules, *, now: float, walked: int | None) -> tuple[Use, str]:
    """What it is good for, and why it is not for more. `walked` is when (s) the tree was walked last."""
    if picture.before is not None and picture.mtime < picture.before:
        return Use.NOTHING, "it is older than the one before"
    lost = known.held - picture.files
    share = Fraction(str(rules.delete.hold_share)) * known.held
    if lost > rules.delete.hold_files and lost > share:
        return Use.NOTHING, f"it tells of {picture.files} files, {known.held} are held"
    if rules.age is not None and now - picture.mtime > rules.age:
        return Use.WALK, f"it is {_hours(now - picture.mtime)} old"
    if known.news is not None and picture.same:
        return Use.WALK, "something has changed, and it has not"
    if rules.walk is not None and walked is not None and now - walked > rules.walk:
        return Use.WALK, f"the last walk was {_hours(now - walked)} ago"
    if known.compared is not None and picture.as_of < known.compared:
        return Use.TOKENS, "it is older than the last comparison"
    return Use.FACTS, ""


def _hours(seconds: float) -> str:
    return f"{int(seconds // 3600)} h"


# -- beside a real listing


@dataclass(slots=True)
class Checked:
    """What some directories looked like beside the list. `wrong`: what no later change explains; `shifted`
    and `agreed`: files of which the time was another zone's, or to the minute the same."""

    wrong: str = ""
    shifted: int = 0
    agreed: int = 0
    there: int = 0  # directories that are still there

    @property
    def zoned(self) -> bool:
        """Whether the list shows the clock of another zone, so that its times are those of nothing else."""
        return self.shifted > 0 and self.agreed == 0


def check(found: Checked, listed: Listing, real: Listing, as_of: int, *, facts: bool, hides: bool) -> None:
    """Lay a directory as it is listed beside what the origin says now. `as_of`: s, the list's time; `hides`:
    the origin does not list names that begin with a dot."""
    found.there += 1
    gone = kept = 0
    for name, old, new in _pairs(listed, real):
        if new is None:
            gone += not (hides and name.startswith(b"."))
            continue
        later = new.mtime is None or new.mtime.ns + new.mtime.precision > as_of * SECOND
        if old is None:
            if not (later or new.kind is Kind.DIRECTORY or name.startswith(b"fullfiletimelist")):
                found.wrong = found.wrong or f"{shown(name)} is not in it"
            continue
        kept += 1
        if old.ambiguous or Kind.SYMLINK in (old.kind, new.kind) or later:
            continue
        if old.kind is not new.kind:
            found.wrong = found.wrong or f"{shown(name)} is a {new.kind}, not a {old.kind}"
        elif not _same_size(old, new):
            found.wrong = found.wrong or f"{shown(name)} has {new.size} bytes, not {old.size}"
        elif facts and old.kind is Kind.FILE and old.mtime and new.mtime and real.zone_known:
            _times(found, old, new)
    if gone > max(1, kept):
        found.wrong = found.wrong or f"{gone} of {gone + kept} names are not there"


def _times(found: Checked, old: Entry, new: Entry) -> None:
    assert old.mtime is not None and new.mtime is not None
    if old.mtime.agrees(new.mtime):
        found.agreed += old.mtime.precision < DAY
    elif abs(old.mtime.ns - new.mtime.ns) <= ZONE:
        found.shifted += 1
    else:
        found.wrong = found.wrong or f"{shown(old.name)} has another time"


def judged(found: Checked) -> str:
    """Why the list is not believed; empty where it is."""
    if found.wrong:
        return found.wrong
    if found.shifted and found.agreed:
        return f"{found.shifted} files have other times"
    return "" if found.there else "none of the directories that were looked at is there"


def agree(listed: Listing, real: Listing, *, times: bool, hides: bool) -> bool:
    """Whether a real listing says of a directory what the list does, as far as that tells: then rows like
    these stand for it the next time."""
    for name, old, new in _pairs(listed, real):
        if old is None:
            return False
        if new is None:
            if not (hides and name.startswith(b".")):
                return False
            continue
        if old.ambiguous or old.kind is Kind.SYMLINK:
            continue
        if old.kind is not new.kind or not _same_size(old, new):
            return False
        if times and old.kind is Kind.FILE and not (old.mtime and new.mtime and old.mtime.agrees(new.mtime)):
            return False
    return True


def _pairs(listed: Listing, real: Listing) -> Iterator[tuple[bytes, Entry | None, Entry | None]]:
    """Each name as both have it. What is never mirrored is left out."""
    old = {entry.name: entry for entry in listed.entries if entry.kind is not Kind.SPECIAL}
    new = {entry.name: entry for entry in real.entries if entry.kind is not Kind.SPECIAL}
    left_out = {one.name for one in (*listed.rejected, *real.rejected)}
    for name in sorted((old.keys() | new.keys()) - left_out):
        yield name, old.get(name), new.get(name)


def _same_size(old: Entry, new: Entry) -> bool:
    return old.size is None or new.size is None or old.size == new.size

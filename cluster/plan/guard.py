"""Whether names may be deleted, and if not, why: the most dangerous decision, in one place.

Pure. Two questions are asked. Has the time of a name come (`waits`)? And may everything whose time has come
go together (`held`)? Both answer with a reason; an empty one means yes. The rules are those of the design's
section on deletion and of HAZARDS section 5:

- A name goes when `sightings` complete passes in a row lacked it and `grace` has passed since the first.
- Where a directory of at least 10 names lost all of them, two such listings lie `emptied_after` apart.
- Where the root itself lost everything, only the operator may let it go.
- Nothing goes if more than `hold_files` files AND more than `hold_share` of the files would go, or more
  than `hold_files` files that make up more than `hold_share` of the bytes.
- Nothing goes if, together with what went within `window` before, more than `hold_files` files AND more
  than `window_share` would have gone. What an operator approved is not counted there.

Exactly a limit is within it. Shares are compared as the decimal fractions that an operator wrote, never as
floating point. "Files" counts every name that is no directory: a tree of symlinks deserves the same care.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from cluster.model import Deletion, value

EMPTIED = 10  # names; below this a directory that loses all of them is ordinary


@value
class Emptied:
    """A directory all of whose names are missing: the first and the last complete listing that showed it so
    (s), how many names were lost, and how many others that last listing had."""

    first: int
    last: int
    names: int
    listed: int


@value
class Candidate:
    """A name that the pass which just ended did not find at the origin, with what lies below it."""

    path: bytes
    files: int
    bytes: int
    first: int  # s; when it was first missed
    sightings: int  # complete passes in a row
    emptied: Emptied | None = None  # the directory that it is in


@value
class Stock:
    """What the mirror holds, the candidates included, and how many files it lost within the window."""

    files: int
    bytes: int
    lately: int = 0


def waits(candidate: Candidate, policy: Deletion, now: int) -> str:
    """Why the name must stay for now. `now` in s."""
    if candidate.sightings < policy.sightings:
        return f"missed by {candidate.sightings} of {policy.sightings} passes"
    if now - candidate.first < policy.grace:
        return f"missed for {now - candidate.first} of {policy.grace:g} s"
    emptied = candidate.emptied
    if emptied is not None and b"/" in candidate.path and emptied.names >= EMPTIED:
        apart = emptied.last - emptied.first
        if apart < policy.emptied_after:
            return (
                f"its directory lost all {emptied.names} names, "
                f"seen for {apart} of {policy.emptied_after:g} s"
            )
    return ""


def held(due: Sequence[Candidate], stock: Stock, policy: Deletion) -> str:
    """Why the whole plan must wait for an operator. Every rule that forbids it is named."""
    files = sum(c.files for c in due)
    size = sum(c.bytes for c in due)
    return "; ".join(
        reason
        for reason in (
            _root_emptied(due),
            _too_many(files, stock.files, policy),
            _too_large(files, size, stock.bytes, policy),
            _too_many_lately(files, stock, policy),
        )
        if reason
    )


def _root_emptied(due: Sequence[Candidate]) -> str:
    for candidate in due:
        emptied = candidate.emptied
        if emptied and b"/" not in candidate.path and (emptied.listed == 0 or emptied.names >= EMPTIED):
            return f"the root of the mirror lost all {emptied.names} names, which needs an operator's word"
    return ""


def _too_many(files: int, of: int, policy: Deletion) -> str:
    if files > policy.hold_files and files > _exact(policy.hold_share) * of:
        return f"{files} of {of} files ({_percent(files, of)}), more than {_limits(policy)}"
    return ""


def _too_large(files: int, size: int, of: int, policy: Deletion) -> str:
    if files > policy.hold_files and size > _exact(policy.hold_share) * of:
        return f"{size} of {of} bytes ({_percent(size, of)}) in {files} files, more than {_limits(policy)}"
    return ""


def _too_many_lately(files: int, stock: Stock, policy: Deletion) -> str:
    together, of = stock.lately + files, stock.files + stock.lately
    if files and together > policy.hold_files and together > _exact(policy.window_share) * of:
        return (
            f"{together} of {of} files ({_percent(together, of)}) within {policy.window / 86400:g} days, "
            f"more than window-share, {float(_exact(policy.window_share) * 100):g} %"
        )
    return ""


def _limits(policy: Deletion) -> str:
    return f"hold-files, {policy.hold_files}, and hold-share, {float(_exact(policy.hold_share) * 100):g} %"


def _exact(share: float) -> Fraction:
    return Fraction(str(share))


def _percent(part: int, of: int) -> str:
    return f"{100 * part / of:.3g} %" if of else "all"

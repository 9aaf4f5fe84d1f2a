"""What becomes of a file that has arrived, where a repository's states name it."""

from __future__ import annotations

import enum


class Fate(enum.Enum):
    PUBLISH = "publish"
    KEEP = "keep"  # until the switch to the state that names it
    REFUSE = "refuse"  # no state names these bytes


def fate(
    published: bool | None, candidate: bool | None, *, beside: bool, replaces: bool, ahead: bool
) -> Fate:
    """`published` and `candidate` say whether the bytes are what the published states and the candidates
    name; None: they do not name this file. `beside`: it belongs to the indexes. `replaces`: another version
    of it is public. `ahead`: its directory may not be here yet.

    What no state names is published, as ever. A public file that the published state names with another
    digest stays until the switch, so that nobody finds what does not match; so does what belongs to the
    indexes."""
    if published is None and candidate is None:
        return Fate.PUBLISH
    if candidate and not published:
        waits = ahead or (replaces and (published is not None or beside))
        return Fate.KEEP if waits else Fate.PUBLISH
    return Fate.PUBLISH if published else Fate.REFUSE

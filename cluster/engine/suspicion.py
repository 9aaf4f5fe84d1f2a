"""What a sibling's lie means for what it brought before (HAZARDS section 4, strict trust).

Its files of the last window become suspects in the records; the next visit of each fetches it from the
origin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.engine.report import Report
from cluster.model import shown
from cluster.store.mirror import MirrorStore, Rechecked
from cluster.store.suspects import WINDOW

NAMED = 5  # wrong files that a report tells by name


async def cast(store: MirrorStore, caught: Mapping[str, float], report: Report) -> None:
    """Make suspects of what came from siblings that were `caught`, and say so. Raises StoreError."""
    for site, at in sorted(caught.items()):
        count = await store.suspect(site, at)
        if count:
            report.notes.append(
                f"{site} sent bytes that were not what it promised: {count} files that came from it within "
                f"{WINDOW // 86_400} days before are compared with the origin's bytes at their next visit"
            )


def tell(rechecked: Sequence[Rechecked], report: Report) -> None:
    """One line for each sibling whose files have been compared."""
    for one in rechecked:
        line = f"re-checked {one.right + one.wrong_count} files that came from {one.site}, which was caught: "
        if not one.wrong_count:
            report.notes.append(line + "all were the origin's")
            continue
        names = ", ".join(shown(path) for path in one.wrong[:NAMED])
        more = ", ..." if one.wrong_count > NAMED else ""
        report.notes.append(f"{line}not the origin's, and replaced: {one.wrong_count} ({names}{more})")

"""What a mirror's store says of it on one line, for the cluster page, the metrics and siblings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.plan.saving import MONTH, Days, Received
from cluster.store import received
from cluster.store.reader import Reader
from cluster.store.records import PassRecord

LOOKED_BACK = 20  # passes
COUNTED_ERRORS = 1000  # more failures than this are shown as this many


@dataclass(frozen=True, slots=True)
class MirrorSummary:
    """One mirror at one site, on one line. Times are seconds since 1970; None: never, or not told.

    `fresh` is the start of the last complete pass: everything was compared with the origin at or after it.
    `origin_bytes` and `sideways_bytes` are those of the last pass that ended; `received` is everything since
    the records began, `days` the newest MONTH days on which anything was received.
    """

    fresh: int | None = None
    files: int = 0
    bytes: int = 0
    outcome: str = ""  # of the last pass: complete, incomplete, held, failed; "" before the first has ended
    ended: int | None = None
    origin_bytes: int = 0
    sideways_bytes: int = 0
    saved_bytes: int = 0  # of the last pass's new files: were here, in older versions or under other names
    shared_bytes: int = 0  # of the last pass's new files: take no room of their own
    errors: int = 0  # updates that failed and have not succeeded since
    held: int = 0  # files in a deletion plan that waits for approval
    reason: str = ""  # of the last pass, where it failed, is incomplete or was cut off: its first error
    problem: str = ""  # why nothing can be said: its store cannot be read
    received: Received = Received()  # noqa: RUF009  # a value
    days: Days = field(default_factory=dict)


async def summarise(reader: Reader) -> MirrorSummary:
    """The mirror as its committed records have it now."""
    every = sorted(await reader.passes(LOOKED_BACK), key=lambda record: record.id, reverse=True)
    passes = [record for record in every if record.ended is not None]
    last = next(iter(passes), None)
    totals = await reader.totals()
    plan = await reader.held_plan()
    days, total = await reader.received(MONTH)
    lately = received.received(last.counts) if last else Received()
    complete = [r.started for r in passes if r.outcome in ("complete", "held") and not r.scope]
    return MirrorSummary(
        fresh=next(iter(complete), None),  # the newest by number: its clock may have been set back since
        files=totals.files,
        bytes=totals.bytes,
        outcome=(last.outcome or "") if last else "",
        ended=last.ended if last else None,
        origin_bytes=lately.origin,
        sideways_bytes=lately.sideways,
        saved_bytes=_counted(last, "saved"),
        shared_bytes=_counted(last, "shared"),
        errors=len(await reader.errors(COUNTED_ERRORS)),
        held=plan.files if plan is not None and plan.held_because else 0,
        reason=_reason(next(iter(every), None)) or _reason(last),
        received=total,
        days=days,
    )


def _counted(record: PassRecord | None, name: str) -> int:
    count = record.counts.get(name) if record else None
    return count if isinstance(count, int) else 0


def _reason(record: PassRecord | None) -> str:
    """The first error of a pass, and how many more there are; one that is going on has none yet."""
    errors = record.counts.get("errors") if record else None
    if record is None or not isinstance(errors, list) or not errors:
        return ""
    count = record.counts.get("error_count")
    more = count - 1 if isinstance(count, int) else 0
    return f"{errors[0]}" + (f" (and {more} more)" if more > 0 else "")


def omissions(passes: list[PassRecord]) -> dict[str, Any]:
    """What the whole mirror leaves out, by the newest pass that compared everything: `left_out`, how much for
    which reason, and `unused_rules`, None where that is not known."""
    for record in sorted(passes, key=lambda record: record.id, reverse=True):
        if record.outcome in ("complete", "held") and not record.scope:
            return {
                "left_out": record.counts.get("left_out") or [],
                "unused_rules": record.counts.get("unused"),
            }
    return {"left_out": [], "unused_rules": None}


def omitted(one: Mapping[str, object]) -> str:
    """How much is left out for one reason, for people."""
    said = [
        f"{one[key]} {noun if one[key] == 1 else key}"
        for key, noun in (("files", "file"), ("directories", "directory"), ("others", "other"))
        if one[key]
    ]
    return ", ".join([*said, f"{one['bytes']} bytes"] if one["bytes"] else said)

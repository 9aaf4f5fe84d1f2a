"""What a mirror's store says of it on one line, for the cluster page, the metrics and siblings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from cluster.model import Mirror
from cluster.store.mirror import PassRecord, Reader
from cluster.web.view import MirrorSummary

COUNTED_ERRORS = 1000  # more failures than this are shown as this many
LOOKED_BACK = 100  # passes in which the last complete one is looked for
STALE, OLD = 2, 4  # intervals of the schedule without a complete pass (HAZARDS section 5)


async def summarise(reader: Reader) -> MirrorSummary:
    """The mirror as its committed records have it now."""
    passes = [record for record in await reader.passes(LOOKED_BACK) if record.ended is not None]
    last = max(passes, key=lambda record: record.id, default=None)
    totals = await reader.totals()
    plan = await reader.held_plan()
    complete = [record.started for record in passes if record.outcome in ("complete", "held")]
    return MirrorSummary(
        fresh=max(complete, default=None),
        files=totals.files,
        bytes=totals.bytes,
        outcome=(last.outcome or "") if last else "",
        ended=last.ended if last else None,
        origin_bytes=_received(last, "origin"),
        sideways_bytes=_received(last, "sideways"),
        errors=len(await reader.errors(COUNTED_ERRORS)),
        held=plan.files if plan is not None and plan.held_because else 0,
    )


def _received(record: PassRecord | None, source: str) -> int:
    """Bytes of files from `source` in a pass; 0 where its books do not say."""
    counted = record.counts.get("bytes") if record else None
    number = cast("Mapping[str, object]", counted).get(source) if isinstance(counted, Mapping) else None
    return number if isinstance(number, int) else 0


def freshness(mirror: Mirror, compared: float | None, now: float) -> str:
    """`fresh`, `stale` (twice the schedule's interval has passed), `old` (four times) or `never`. A schedule
    by cron line tells no interval: what was ever compared is `fresh`, and its age is shown beside it."""
    if compared is None:
        return "never"
    every = mirror.schedule.every
    if every is None or mirror.schedule.cron is not None or now - compared <= STALE * every:
        return "fresh"
    return "stale" if now - compared <= OLD * every else "old"

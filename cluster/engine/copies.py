"""The files of one answer that the carrier takes: what it is told of each, and the record of what it has
written. A site that copies an archive does this once for every file of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cluster.engine.context import Context, Job
from cluster.model import Held, Kind, Stamp
from cluster.plan.compare import is_private, mode_for, record
from cluster.plan.source import FromSibling, finer
from cluster.store.appearance import disk_time
from cluster.store.small import name
from cluster.store.tree import Staged

if TYPE_CHECKING:
    from cluster.courier.said import Order, Written

Told = tuple[int | None, int | None, int | None]
"""Mode, uid and gid as they are listed: few in any tree."""


class Copies:
    """`expected`: files by their place in the question; `prefix` that of their temporaries."""

    def __init__(
        self, context: Context, expected: Mapping[int, tuple[Job, FromSibling]], prefix: bytes
    ) -> None:
        self._context, self._expected, self._prefix = context, expected, prefix
        self._times: dict[int, Stamp | None] = {}
        self._looks: dict[Told, tuple[int, int, int]] = {}
        self._modes: dict[int | None, tuple[int, bool]] = {}

    def orders(self) -> list[Order]:
        """What the carrier has to know of them."""
        orders: list[Order] = []
        times, known = self._times, self._looks
        for place, (job, source) in self._expected.items():
            entry, offer = job.entry, source.offer
            told = (entry.mode, entry.uid, entry.gid)
            looks = known.get(told)
            if looks is None:
                looks = known[told] = self._look(job)
            times[place] = time = finer(entry.mtime, offer.mtime)
            assert offer.sha256 is not None  # of whatever is offered in a bundle
            orders.append((place, offer.sha256, *looks, disk_time(time)))
        return orders

    def _look(self, job: Job) -> tuple[int, int, int]:
        context = self._context
        listed = record(job.entry, context.mirror.attributes, keep_ids=context.policy.keep_ids)
        return context.store.looks(listed)[:3]

    def staged(self, written: Sequence[Written]) -> list[tuple[int, Staged]]:
        """What it has verified and written, to be published. A listed time that was not over when it was
        listed proves nothing later: `plan.compare.fetched` has the rule."""
        context, keep_ids = self._context, self._context.policy.keep_ids
        copied, ready = int(context.clock.now()), []
        for place, inode, on_disk in written:
            job, source = self._expected[place]
            entry, offer = job.entry, source.offer
            settled = entry.mtime is None or entry.mtime.over(job.visit.listed_at)
            if not settled:
                job.visit.agrees = False
            mode, private = self._mode(entry.mode)
            held = Held(
                entry.name,
                Kind.FILE,
                offer.size,
                offer.sha256,
                self._times[place],
                entry.row,
                mode,
                entry.uid if keep_ids else None,
                entry.gid if keep_ids else None,
                link=entry.link,
                etag=offer.etag,
                settled=settled,
                source=source.site,
                verified=source.verified,
                copied=copied,
                disk_mtime=on_disk,
                inode=inode,
                private=private,
            )
            ready.append((place, Staged(name(self._prefix, place), held, inode)))
        return ready

    def _mode(self, told: int | None) -> tuple[int, bool]:
        known = self._modes.get(told)
        if known is None:
            mode = mode_for(Kind.FILE, told, self._context.mirror.attributes)
            known = self._modes[told] = mode, is_private(Kind.FILE, told)
        return known

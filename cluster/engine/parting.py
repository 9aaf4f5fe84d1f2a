"""Names that were one file at the origin and are not any more: here each gets a body of its own again; and
names that are one file, and were fetched one by one, are linked again.

Which of the names of a file stay together shows only when all of them have been listed, so this comes after
the walk. Until it is done a name keeps the group that it had in its record, and a pass that is cut off before
finds it again.
"""

from __future__ import annotations

from dataclasses import replace

from cluster.engine.context import Context, Stage, Visit
from cluster.errors import Changed
from cluster.model import Entry, Held, join
from cluster.plan.compare import Evidence, evidence, record
from cluster.store.tree import Change


async def part(context: Context) -> None:
    """Do it for what the walk left in Stage.LINKS. Raises StoreError."""
    store = context.store
    while paths := await store.later_directories(context.record, Stage.LINKS):
        for path in paths:
            for entry in await store.later_take(context.record, Stage.LINKS, path):
                await _part_one(context, path, entry)
                await store.later_done(context.record, [(Stage.LINKS, path, entry.name)])


async def _part_one(context: Context, directory: bytes, entry: Entry) -> None:
    store, path = context.store, join(directory, entry.name)
    have = await store.held(path)
    if have is None or evidence(entry, have, foreign=context.policy.foreign) is Evidence.CHANGED:
        return
    if have.link == entry.link:  # it has been fetched meanwhile, and has a body of its own
        await _rejoin(context, directory, have)
        return
    want = record(
        entry,
        context.mirror.attributes,
        base=have,
        settled=have.settled,
        keep_ids=context.policy.keep_ids,
    )
    to = await store.by_link(entry.link) if entry.link is not None else None
    known = await store.held(to) if to is not None else None
    if known is not None and known.sha256 == have.sha256 and known.inode != have.inode:
        linked = replace(want, inode=known.inode, disk_mtime=known.disk_mtime)
        await _publish(context, Change(directory, linked, previous=have, link_to=to))
    elif await _is_shared(context, path, entry, have):
        try:
            staged = await store.stage_own(path, want)
        except Changed as error:
            context.fail(Visit(directory, Stage.LINKS), entry.name, error.message)
            return
        if staged is None:
            context.fail(
                Visit(directory, Stage.LINKS), entry.name, "what is on disk is not what was recorded"
            )
            return
        await _publish(context, Change(directory, staged.held, previous=have, staged=staged))
    else:
        await store.refresh(directory, [want])


async def _rejoin(context: Context, directory: bytes, have: Held) -> None:
    """Link a name with the first of its group that has the same content."""
    linked = await context.store.linked(have.link) if have.link is not None else []
    same = {join(at, h.name): h for at, h in linked if h.sha256 == have.sha256}
    first = min(same, default=b"")
    if first and same[first].inode != have.inode:
        held = replace(have, inode=same[first].inode, disk_mtime=same[first].disk_mtime)
        await _publish(context, Change(directory, held, previous=have, link_to=first))


async def _is_shared(context: Context, path: bytes, entry: Entry, have: Held) -> bool:
    """Whether a name that is another file at the origin by now has the same body here."""
    for directory, other in await context.store.linked(have.link or ""):
        if join(directory, other.name) == path or other.inode != have.inode:
            continue
        moving = await context.store.later_entry(context.record, Stage.LINKS, directory, other.name)
        if moving is None or entry.link is None or moving.link != entry.link:
            return True
    return False


async def _publish(context: Context, change: Change) -> None:
    """Published when this returns: the next name looks at what is recorded."""

    def done(error: Exception | None) -> None:
        if error is not None:
            context.fail(Visit(change.directory, Stage.LINKS), change.held.name, str(error))

    await context.batcher.add(change, done, {})
    await context.batcher.flush()

"""After a pass over everything: lists of what the mirror holds, where the descriptor asks for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

from cluster.engine.report import Report
from cluster.errors import StoreError
from cluster.listing.bulk.write import LsLR, TimeList, writable
from cluster.model import Held, Kind, Mirror, Site, join, shown
from cluster.store import lists
from cluster.store.mirror import Reader

TOGETHER = 2**20  # bytes of text that are written at once

FORMS: dict[str, type[LsLR | TimeList]] = {lists.LS_LR: LsLR, lists.TIME_LIST: TimeList}

log = logging.getLogger("sideways.pass")


async def list_held(site: Site, mirror: Mirror, scope: bytes, report: Report) -> None:
    """Write them, where anything has changed since they were written. A disk that cannot take them, or a
    change in the middle, leaves the old ones: the log says so."""
    if not mirror.lists or scope or report.outcome == "failed":
        return
    try:
        reader = await Reader.open(mirror.name, site)
        try:
            await _written(site, mirror, reader)
        finally:
            await reader.close()
    except StoreError as error:
        log.warning("%s: no lists of what is held: %s", mirror.name, error)


async def _written(site: Site, mirror: Mirror, reader: Reader) -> None:
    ours = []
    for kind in mirror.lists:
        name = lists.file_name(mirror, kind)
        if await reader.held(name) is None:
            ours.append(kind)
            continue
        log.warning("%s: the origin itself has %s: ours is not served", mirror.name, shown(name))
        await asyncio.to_thread(lists.forget, mirror, site, kind)
    position = await reader.position()
    made_of = " ".join((*(str(part) for part in position), *ours))
    if not ours or await asyncio.to_thread(lists.made_of, mirror, site) == made_of:
        return
    drafts: list[tuple[LsLR | TimeList, lists.Draft]] = []
    try:
        for kind in ours:
            draft = await asyncio.to_thread(lists.Draft, mirror, site, kind)
            drafts.append((FORMS[kind](), draft))
        await _filled(reader, drafts)
        if await reader.position() != position:
            log.warning("%s: no new lists: something changed while they were written", mirror.name)
            return
        for _, draft in drafts:
            await asyncio.to_thread(draft.keep)
        await asyncio.to_thread(lists.note, mirror, site, made_of)
    finally:
        for _, draft in drafts:
            await asyncio.to_thread(draft.drop)


async def _filled(reader: Reader, drafts: Sequence[tuple[LsLR | TimeList, lists.Draft]]) -> None:
    waiting = [[form.head] for form, _ in drafts]
    size = 0
    async for path, names in _directories(reader):
        for (form, _), texts in zip(drafts, waiting, strict=True):
            texts.append(form.directory(path, names))
            size += len(texts[-1])
        if size >= TOGETHER:
            for (_, draft), texts in zip(drafts, waiting, strict=True):
                await asyncio.to_thread(draft.add, b"".join(texts))
                texts.clear()
            size = 0
    for (form, draft), texts in zip(drafts, waiting, strict=True):
        await asyncio.to_thread(draft.add, b"".join((*texts, form.tail)))


async def _directories(reader: Reader) -> AsyncIterator[tuple[bytes, list[Held]]]:
    """Each directory before what is in it, and what is public of it by name."""
    stack = [b""]
    while stack:
        path = stack.pop()
        held = await reader.directory(path)
        names = sorted((one for one in (held or {}).values() if writable(one)), key=lambda one: one.name)
        yield path, names
        stack.extend(join(path, one.name) for one in reversed(names) if one.kind is Kind.DIRECTORY)

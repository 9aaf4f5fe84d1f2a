"""From a path in a URL to what the store holds there; links are followed here, never by the kernel.

Only names of the committed records are ever found, and nothing below what the origin keeps from the world
(HAZARDS 26, 123).
"""

from __future__ import annotations

from collections import deque

from cluster.errors import UnsafeName
from cluster.model import MAX_DEPTH, Held, Kind, checked_name, join, value
from cluster.store.mirror import Reader

MAX_HOPS = 16


@value
class Found:
    """What a path leads to. `path` is where it really is; `held` is None for the root."""

    path: bytes
    held: Held | None

    @property
    def directory(self) -> bool:
        return self.held is None or self.held.kind is Kind.DIRECTORY


async def resolve(reader: Reader, path: bytes) -> Found | None:
    """What is publicly held at `path` (checked, relative to the mirror), or None."""
    todo = deque(path.split(b"/")) if path else deque()
    at = Found(b"", None)
    hops = 0
    while todo:
        name = todo.popleft()
        if name == b"..":  # from a link's target; of the request, only plain names get this far
            at = await _parent(reader, at)
            continue
        held = await reader.held(join(at.path, name)) if at.directory else None
        if held is None or held.private:
            return None
        if held.kind is Kind.SYMLINK:
            hops += 1
            target = link_target(at.path, held.target)
            if target is None or hops > MAX_HOPS or len(todo) + len(target) > 2 * MAX_DEPTH:
                return None
            todo.extendleft(reversed(target))
        elif held.kind in (Kind.FILE, Kind.DIRECTORY):
            at = Found(join(at.path, name), held)
        else:
            return None
    return at


async def _parent(reader: Reader, at: Found) -> Found:
    parent = at.path.rpartition(b"/")[0]
    return Found(parent, await reader.held(parent) if parent else None)


def link_target(directory: bytes, target: bytes | None) -> list[bytes] | None:
    """The components of a link's target as seen from `directory`, plain names and `..`; None where it is
    absolute or leaves the mirror."""
    if not target or target.startswith(b"/"):
        return None
    components = []
    level = directory.count(b"/") + 1 if directory else 0
    for component in target.split(b"/"):
        if component in (b"", b"."):
            continue
        level += -1 if component == b".." else 1
        if level < 0:
            return None
        if component != b"..":
            try:
                checked_name(component)
            except UnsafeName:
                return None
        components.append(component)
    return components

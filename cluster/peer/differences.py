"""Where a sibling's records differ from ours: digests are compared from the root down, where they differ.

For who lost its place in a journal. What comes out is where to look at the origin, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.model import Kind, join
from cluster.peer.https import HttpsSibling
from cluster.peer.wire import MAX_BELOW, Digests
from cluster.store.digest import directory_digest

if TYPE_CHECKING:
    from cluster.store.mirror import Reader

QUESTIONS = 200  # to one sibling in one comparison; what is not decided by then is looked at as a whole


async def differing(sibling: HttpsSibling, mirror: str, reader: Reader) -> list[bytes] | None:
    """Directories below which something differs; none of them lies below another.

    None where it cannot be told now: a digest of either root is not up to date, since it is at work. Raises
    PeerError, StoreError.
    """
    ours = await reader.digest(b"")
    if ours is None:
        return None
    found: list[bytes] = []
    left = [(b"", ours)]
    asked = 0
    while left:
        if asked >= QUESTIONS:
            return [*found, *(path for path, _ in left)]
        path, known = left.pop()
        asked += 1
        theirs = await sibling.digests(mirror, path)
        if theirs.digest is None and not path:
            return None
        if theirs.digest == known:
            continue
        below = await _below(reader, path, theirs)
        if below is None:
            found.append(path)
        else:
            left += below
    return found


async def _below(reader: Reader, path: bytes, theirs: Digests) -> list[tuple[bytes, bytes]] | None:
    """The subdirectories that differ, with our digests; None where the directory itself does, or may."""
    if theirs.digest is None or theirs.own != await own_digest(reader, path) or not theirs.below:
        return None
    differ = []
    for name, digest in theirs.below:
        ours = await reader.digest(join(path, name))
        if ours is None or digest is None:
            return None
        if ours != digest:
            differ.append((join(path, name), ours))
    return differ or None


async def digests(reader: Reader, path: bytes) -> Digests:
    """The answer to a sibling that compares: `below` is empty where there are more than MAX_BELOW."""
    entries = await reader.directory(path)
    if entries is None:
        return Digests(None, None)
    names = sorted(held.name for held in entries.values() if held.kind is Kind.DIRECTORY and not held.unknown)
    below = (
        [(name, await reader.digest(join(path, name))) for name in names] if len(names) <= MAX_BELOW else []
    )
    return Digests(await reader.digest(path), directory_digest(entries.values(), {}), tuple(below))


async def own_digest(reader: Reader, path: bytes) -> bytes | None:
    """Of a directory as if everything below it were empty: its own names alone."""
    entries = await reader.directory(path)
    return None if entries is None else directory_digest(entries.values(), {})

"""An origin that is a value: for tests, for examples in the documentation, and for simulated clusters.

It behaves like an origin with exact sizes, modes and links unless it is told otherwise, notes each request,
and misbehaves where a fault was planted.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from cluster.errors import Changed, OriginError, TooLarge, Unreachable, Vanished
from cluster.model import (
    SECOND,
    Entry,
    Facts,
    Kind,
    Listing,
    Rejected,
    Stamp,
    checked_path,
    href,
    join,
    split,
)
from cluster.origin.base import Properties, Traffic, Want

CHUNK = 64 * 2**10
EPOCH = 1_700_000_000 * SECOND  # the time of what is put without one


@dataclass(frozen=True, slots=True)
class Node:
    """One name of the tree. `data` belongs to files and is shared by hard links."""

    kind: Kind = Kind.FILE
    data: bytes = b""
    mtime: int = EPOCH  # ns
    mode: int = 0o644
    target: bytes | None = None
    link: str | None = None


@dataclass(slots=True)
class _Fault:
    error: Callable[[str], OriginError] | None = None
    cut: int | None = None
    change: Callable[[], None] | None = None
    times: int = 1


@dataclass
class MemoryOrigin:
    """See the module. `files` maps paths to bodies; directories above them come by themselves.

        origin = MemoryOrigin({b"pool/a.deb": b"..."})
        origin.fail("listing", b"pool", Unreachable, times=2)

    `precision` (ns) is the width of the times that listings show; with `properties.exact_sizes` False they
    show sizes in rounded KiB. `before(method, path)` is awaited ahead of every request and every chunk
    ("chunk"): a simulation puts its delays there.
    """

    files: dict[bytes, bytes] = field(default_factory=dict)
    properties: Properties = field(
        default_factory=lambda: Properties(True, True, True, True, network=True, scheme="memory")
    )
    url: str = "memory://origin/"
    precision: int = 1
    before: Callable[[str, bytes], Awaitable[None]] | None = None
    traffic: Traffic = field(default_factory=Traffic)
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self._nodes: dict[bytes, Node] = {b"": Node(Kind.DIRECTORY, mode=0o755)}
        self._names: dict[bytes, set[bytes]] = {b"": set()}
        self._faults: dict[tuple[str, bytes], _Fault] = {}
        self._rejected: dict[bytes, tuple[Rejected, ...]] = {}
        for path, data in self.files.items():
            self.put(path, data)

    def __repr__(self) -> str:
        return f"<MemoryOrigin {len(self._nodes)} names, {len(self.requests)} requests>"

    # -- the tree

    def put(self, path: bytes, data: bytes, *, mtime: int = EPOCH, mode: int = 0o644) -> None:
        """Make or replace a file. `mtime` in ns."""
        self._set(path, Node(Kind.FILE, data, mtime, mode))

    def directory(self, path: bytes, *, mtime: int = EPOCH, mode: int = 0o755) -> None:
        """Make a directory, or change the attributes of one."""
        self._set(path, Node(Kind.DIRECTORY, mtime=mtime, mode=mode))

    def symlink(self, path: bytes, target: bytes, *, mtime: int = EPOCH) -> None:
        self._set(path, Node(Kind.SYMLINK, mtime=mtime, mode=0o777, target=target))

    def special(self, path: bytes, *, mtime: int = EPOCH) -> None:
        self._set(path, Node(Kind.SPECIAL, mtime=mtime))

    def link(self, existing: bytes, path: bytes) -> None:
        """A further name for a file."""
        node = self._nodes[existing]
        shared = replace(node, link=node.link or f"memory:{len(self._nodes)}")
        self._nodes[existing] = shared
        self._set(path, shared)

    def remove(self, path: bytes) -> None:
        """Take away a name and everything below it."""
        for name in tuple(self._names.pop(path, ())):
            self.remove(join(path, name))
        del self._nodes[path]
        parent, name = split(path)
        self._names.get(parent, set()).discard(name)

    def reject(self, directory: bytes, rejected: Iterable[Rejected]) -> None:
        """What the listing of a directory holds besides usable names."""
        self._rejected[directory] = tuple(rejected)

    def tree(self) -> dict[bytes, Node]:
        """Every path but the root."""
        return {path: node for path, node in self._nodes.items() if path}

    # -- faults

    def fail(
        self,
        method: str,
        path: bytes,
        error: type[OriginError] | Callable[[str], OriginError],
        *,
        times: int = 1,
    ) -> None:
        """The next `times` requests (`listing`, `facts`, `read`) of `path` raise. A class is given a message;
        a function gets the path for people and returns the error.
        """
        made = (lambda shown: error(shown, "planted fault")) if isinstance(error, type) else error
        self._faults[method, path] = _Fault(error=made, times=times)

    def truncate(self, path: bytes, at: int, *, times: int = 1) -> None:
        """The next `times` bodies of `path` break after `at` bytes with Unreachable."""
        self._faults["body", path] = _Fault(cut=at, times=times)

    def change_during_read(self, path: bytes, change: Callable[[], None], *, times: int = 1) -> None:
        """`change` is called after the first chunk of the next `times` bodies of `path`."""
        self._faults["body", path] = _Fault(change=change, times=times)

    # -- Origin

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        await self._request("listing", directory)
        node = self._node(directory, Kind.DIRECTORY)
        entries = tuple(
            self._entry(name, self._nodes[join(directory, name)]) for name in sorted(self._names[directory])
        )
        size = sum(len(entry.name) for entry in entries)
        self.traffic.listings += size
        own = self._entry(split(directory)[1], node)
        return Listing(entries, self._rejected.get(directory, ()), format="memory", size=size, own=own)

    async def facts(self, path: bytes) -> Facts:
        await self._request("facts", path)
        return self._facts(self._node(path))

    def read(self, path: bytes, want: Want) -> _Reading:
        return _Reading(self, path, want)

    async def close(self) -> None:
        self.closed = True

    # -- inside

    def _set(self, path: bytes, node: Node) -> None:
        parent, name = split(checked_path(path))
        if path:
            if parent not in self._nodes:
                self.directory(parent)
            if self._nodes[parent].kind is not Kind.DIRECTORY:
                raise ValueError(f"{href(parent)}: not a directory")
            self._names[parent].add(name)
        if node.kind is Kind.DIRECTORY:
            self._names.setdefault(path, set())
        elif path in self._names:
            raise ValueError(f"{href(path)}: a directory; remove it first")
        self._nodes[path] = node

    def _node(self, path: bytes, kind: Kind | None = None) -> Node:
        node = self._nodes.get(path)
        if node is None:
            raise Vanished(href(path), "no such name")
        if kind is not None and node.kind is not kind:
            raise Changed(href(path), f"a {node.kind}, not a {kind}")
        return node

    def _entry(self, name: bytes, node: Node) -> Entry:
        tells, file = self.properties, node.kind is Kind.FILE
        size = len(node.data)
        links = sum(other.link == node.link for other in self._nodes.values()) if node.link else 1
        return Entry(
            name,
            node.kind,
            size=size if file and tells.exact_sizes else None,
            rounded=f"{size / 1024:.1f}K" if file and not tells.exact_sizes else None,
            mtime=self._stamp(node),
            mode=node.mode if tells.modes else None,
            target=node.target if tells.symlinks else None,
            link=node.link if tells.hard_links else None,
            links=links if tells.hard_links else 1,
        )

    def _stamp(self, node: Node) -> Stamp:
        return Stamp(node.mtime // self.precision * self.precision, self.precision)

    def _facts(self, node: Node) -> Facts:
        if node.kind is not Kind.FILE:
            return Facts(mtime=self._stamp(node), kind=node.kind)
        return Facts(len(node.data), Stamp(node.mtime), validator(node), ranges=True)

    async def _request(self, method: str, path: bytes) -> None:
        self.traffic.requests += 1
        self.requests.append((method, path))
        if self.before is not None:
            await self.before(method, path)
        fault = self._fault(method, path)
        if fault is not None and fault.error is not None:
            raise fault.error(href(path))

    def _fault(self, method: str, path: bytes) -> _Fault | None:
        fault = self._faults.get((method, path))
        if fault is not None:
            fault.times -= 1
            if fault.times <= 0:
                del self._faults[method, path]
        return fault


def validator(node: Node) -> str:
    """The strong validator of a file's version."""
    return f'"{hashlib.sha256(b"%d " % node.mtime + node.data).hexdigest()[:16]}"'


class _Reading:
    """One body on its way: the context and the body in one object."""

    facts: Facts
    start: int

    def __init__(self, origin: MemoryOrigin, path: bytes, want: Want) -> None:
        self._origin, self._path, self._want = origin, path, want

    async def __aenter__(self) -> Self:
        origin, path, want = self._origin, self._path, self._want
        await origin._request("read", path)
        node = self._node = origin._node(path, Kind.FILE)
        size = len(node.data)
        if want.size is not None and want.size != size:
            raise Changed(href(path), f"{size} bytes, {want.size} were listed")
        self.facts = origin._facts(node)
        same = want.etag == self.facts.etag
        if want.stop is not None and want.etag is not None and not same:
            raise Changed(href(path), "another version than the one of which a part is wanted")
        self.start = want.start if same and 0 < want.start <= size else 0
        self._end = size if want.stop is None else min(size, want.stop)
        if self._end - self.start > want.limit:
            raise TooLarge(href(path), f"{self._end - self.start} bytes, at most {want.limit} are accepted")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        origin, path, data = self._origin, self._path, self._node.data
        fault = origin._fault("body", path) or _Fault()
        end = self._end if fault.cut is None else min(self._end, fault.cut)
        for position in range(self.start, end, CHUNK):
            if origin.before is not None:
                await origin.before("chunk", path)
            chunk = data[position : min(position + CHUNK, end)]
            origin.traffic.bytes += len(chunk)
            yield chunk
            if fault.change is not None:
                fault.change()
                fault.change = None
            if origin._nodes.get(path) is not self._node:
                raise Changed(href(path), "changed while it was read")
        if end < self._end:
            raise Unreachable(href(path), f"the body broke after {end} of {len(data)} bytes")

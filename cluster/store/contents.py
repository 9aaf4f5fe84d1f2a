"""What a site holds already, looked up by SHA-256: in this mirror, and in others whose policy allows it.

The look-up rests on an index of the records that only mirrors have which ask for it (`<storage once>`); what
is on its way to its name is known in memory. A record is a hint: `cluster.store.sharing` reads the bytes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from cluster.errors import DiskFull, SidewaysError, StoreError
from cluster.model import Attributes, Held, Once, Site, join, shown, value
from cluster.store import rows, schema
from cluster.store.sharing import Damaged, Shared, Sharing, Source, is_recorded
from cluster.store.tree import Staged, Tree

_log = logging.getLogger(__name__)

CANDIDATES = 8  # files with one content that are tried: links of one file may be used up (EMLINK)
RECENT = 4096  # files that are remembered before they are in the records
_INDEXES = (
    ("entries_content", "entries (substr(sha256, 1, 8)) WHERE kind = 0 AND size > 0"),
    ("waiting_content", "waiting (sha256)"),
)


def index(connection: sqlite3.Connection, once: Once) -> None:
    """Make what look-ups rest on, or drop it. In a transaction. Takes seconds for a million files, once."""
    for name, what in _INDEXES:
        if once is Once.NO:
            connection.execute(f"DROP INDEX IF EXISTS {name}")
        else:
            connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {what}")


@value
class Place:
    """Where a content is, as the records say: at a public path, or as a `temporary`."""

    held: Held
    path: bytes = b""
    temporary: bytes = b""


def find(connection: sqlite3.Connection, sha256: bytes) -> list[Place]:
    """Files with this content, CANDIDATES at most; what waits for a switch is among them. Empty where there
    is no index: nothing is searched for it."""
    columns = ", ".join("e." + column for column in rows.COLUMNS.split(", "))
    found: list[Place] = []
    with contextlib.suppress(sqlite3.OperationalError):  # no such index
        query = f"""SELECT d.path, {columns} FROM entries e INDEXED BY entries_content
                    JOIN directories d ON d.id = e.directory
                    WHERE substr(e.sha256, 1, 8) = substr(?1, 1, 8) AND e.sha256 = ?1
                    AND e.kind = 0 AND e.size > 0 AND e.unknown = 0 LIMIT {CANDIDATES}"""  # noqa: S608
        for directory, *record in connection.execute(query, (sha256,)):
            held = rows.unpack(tuple(record))
            found.append(Place(held, join(directory, held.name)))
        query = "SELECT temporary, held FROM waiting INDEXED BY waiting_content WHERE sha256 = ? LIMIT 1"
        for temporary, packed in connection.execute(query, (sha256,)):
            found.append(Place(rows.unpack_whole(packed), temporary=temporary))
    return found


def _is_private(connection: sqlite3.Connection | None, place: Place) -> bool:
    """Whether the origin keeps this file from the world, or a directory that it is in."""
    if connection is None:
        return True
    above = (rows.held(connection, path) for path in rows.ancestors(place.path))
    return any(held is not None and held.private for held in above)


class Neighbour:
    """Another mirror of the site. What its origin keeps from the world is never taken for another mirror's:
    that may name it without being allowed to read it."""

    def __init__(self, name: str, site: Site) -> None:
        self.name, self._site = name, site
        self._connection: sqlite3.Connection | None = None
        self._tree: Tree | None = None
        self._lock = threading.Lock()
        self._broken = False

    def open(self, sha256: bytes) -> list[tuple[Place, int]]:
        """Its public files with this content, open to be read; the caller closes them. None where its records
        cannot be read, or belong to another version of this program."""
        with self._lock:
            try:
                connection = self._opened()
                places = find(connection, sha256) if connection is not None else []
                places = [one for one in places if one.path and not _is_private(connection, one)]
            except (sqlite3.Error, SidewaysError) as error:
                _log.info("%s: not looked into for what others need: %s", self.name, error)
                self._broken = True
                return []
            found = [(place, self._file(place)) for place in places]
        return [(place, descriptor) for place, descriptor in found if descriptor is not None]

    def _file(self, place: Place) -> int | None:
        assert self._tree is not None
        with contextlib.suppress(SidewaysError):
            return self._tree.open_file(place.path)
        return None

    def _opened(self) -> sqlite3.Connection | None:
        path = os.path.join(self._site.state, f"{self.name}.db")
        if self._broken or (self._connection is None and not os.path.exists(path)):
            return None
        if self._connection is None:
            connection = schema.connect(path, read_only=True)
            with contextlib.ExitStack() as failing:
                failing.callback(connection.close)
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                public = schema.meta_get(connection, "path") if version == len(schema.STEPS) else None
                if public is None:
                    raise StoreError(f"{self.name}: its records have schema {version}")
                self._tree = _reading(self.name, public, self._site)
                failing.pop_all()
            self._connection = connection
        return self._connection

    def close(self) -> None:
        if self._tree is not None:
            self._tree.close()
        if self._connection is not None:
            self._connection.close()


def _reading(name: str, public: str, site: Site) -> Tree:
    tree = Tree(
        site.data,
        name,
        public,
        site=site.name,
        state=site.state,
        reserve=site.reserve,
        attributes=Attributes(),
    )
    tree.open(writing=False)
    return tree


@value
class Need:
    """A file that is to have this record (with its SHA-256 and size) at `path`. `avoid`: the inode there
    now."""

    path: bytes
    held: Held
    avoid: int = 0


class Contents:
    """See the module. For one pass; `stage` blocks, and may be called from several threads."""

    def __init__(self, tree: Tree, site: Site, neighbours: Iterable[str], once: Once, *, parts: bool) -> None:
        self._tree = tree
        self._sharing = Sharing(tree.temporaries, tree.copy, once, parts=parts)
        self._neighbours = [Neighbour(name, site) for name in neighbours]
        self._recent: OrderedDict[bytes, Place] = OrderedDict()
        self._noting = threading.Lock()

    @property
    def apart(self) -> bool:
        """Whether the file system turned out to be unable to share blocks."""
        return bool(self._sharing.apart)

    def note(self, path: bytes, staged: Staged) -> None:
        """This is about to be published, or waits to be."""
        sha256 = staged.held.sha256
        if sha256 is not None and staged.held.size:
            with self._noting:
                self._recent[sha256] = Place(staged.held, path, staged.temporary)
                self._recent.move_to_end(sha256)
                if len(self._recent) > RECENT:
                    self._recent.popitem(last=False)

    def may_have(self, sha256: bytes) -> bool:
        """Whether it is worth a look beside the records of this mirror."""
        with self._noting:
            return bool(self._neighbours) or sha256 in self._recent

    def stage(
        self, needs: Sequence[Need], known: Sequence[Sequence[Place]], *, copy: bool
    ) -> tuple[list[Shared | None], set[bytes]]:
        """For each a temporary with the bytes that are here already, or None; and the public paths of this
        mirror whose bytes are not those of their records. `known` is what `find` told of each. `copy`: also
        where that takes room as well. Raises DiskFull.
        """
        damaged: set[bytes] = set()
        staged = [self._one(need, some, damaged, copy) for need, some in zip(needs, known, strict=True)]
        return staged, damaged

    def _one(self, need: Need, known: Sequence[Place], damaged: set[bytes], copy: bool) -> Shared | None:
        """Without a copy first: another candidate may share its blocks, or look right for a link."""
        for copying in (False, True) if copy else (False,):
            for source, name, path in self._sources(need, known):
                try:
                    shared = self._sharing.stage(source, need.held, need.avoid, copy=copying)
                except DiskFull:
                    raise
                except Damaged:
                    _log.warning("%s: has not the content that is recorded", name)
                    damaged.add(path)
                except StoreError as error:
                    _log.warning("%s: gets no second name: %s", name, error)
                else:
                    if shared is not None:
                        return shared
        return None

    def _sources(self, need: Need, known: Sequence[Place]) -> Iterator[tuple[Source, str, bytes]]:
        """Open files that may have the content, with what to call them and, in this mirror, their paths. Each
        is closed when the next one is asked for."""
        sha256 = need.held.sha256
        assert sha256 is not None
        with self._noting:
            recent = self._recent.get(sha256)
        for place in (*([recent] if recent is not None else []), *known):
            for source in self._source(place, self._own(place), need):
                yield source, shown(place.path), place.path
        for neighbour in self._neighbours:
            for place, descriptor in neighbour.open(sha256):
                for source in self._source(place, descriptor, need):
                    yield source, f"{neighbour.name}/{shown(place.path)}", b""

    def _source(self, place: Place, descriptor: int | None, need: Need) -> Iterator[Source]:
        if descriptor is None:
            return
        try:
            if is_recorded(descriptor, place.held) and place.held.size == need.held.size:
                yield Source(descriptor, place.held)
        finally:
            os.close(descriptor)

    def _own(self, place: Place) -> int | None:
        """What is noted, or waits, is a temporary, and soon under its name."""
        if place.temporary:
            with contextlib.suppress(OSError):
                return self._tree.temporaries.read(place.temporary)
        with contextlib.suppress(SidewaysError):
            return self._tree.open_file(place.path) if place.path else None
        return None

    def discard(self, staged: Staged) -> None:
        """Somebody else's bytes are published in its place."""
        self._tree.discard([staged])

    def close(self) -> None:
        for neighbour in self._neighbours:
            neighbour.close()

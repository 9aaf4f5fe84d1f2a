"""The states of repositories in the books: what a root names, what of it is in place, what waits for the
switch.

A *root* (`InRelease`, `repomd.xml`, `SHA256SUMS`) names the files of one state, by digests. A state is a
candidate until everything that it names is in place; then it is switched to and is the published one; the one
before is retired, and what it names stays for the clients that still have its indexes. Blocking; the caller
has the transaction. Paths are bytes from the mirror's root, times s since 1970."""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]

from cluster.errors import Contradicted, UsageError
from cluster.model import href, join, shown, split, value
from cluster.repository.base import Group, Order, Role, Signature
from cluster.store import rows
from cluster.store.tree import Change, Staged

PAGE = 500  # names of one answer
_NAMES = 200  # of one question: SQLite takes so many parameters in every version


class Stand(enum.IntEnum):
    """How far a state is."""

    CANDIDATE = 0
    PUBLISHED = 1
    RETIRED = 2
    SWITCHING = 3  # everything is in place; its last names are being renamed


@value
class Name:
    """One file as a state names it. `sha256` is of the same bytes, where it is known: always, where that is
    the `algorithm`. `turn` is the order in which a switch publishes."""

    path: bytes
    role: Role
    turn: int
    size: int | None
    algorithm: str  # "" where the state names it without a digest
    digest: bytes
    sha256: bytes | None = None
    optional: bool = False


@value
class Known:
    """A root, and why its newest state is not published, since when; "" where it is."""

    group: Group
    type: str
    trouble: str = ""
    since: int = 0
    older: bytes | None = None  # SHA-256 of the root of a state that is held, since it is older
    approved: bytes | None = None  # of one that is published all the same


@value
class State:
    """One state of one root. `at` is when it was found, published or retired."""

    id: int
    root: bytes
    stand: Stand
    sha256: bytes  # of what was read of the root
    label: str
    order: Order | None
    valid_until: int | None
    at: int
    read: bool  # all its names are known


@value
class Expected:
    """What published states and what candidates say of one file."""

    published: tuple[Name, ...] = ()
    candidates: tuple[Name, ...] = ()


# -- roots


def roots(connection: sqlite3.Connection) -> list[Known]:
    found = connection.execute("SELECT parts, type, trouble, since, older, approved FROM roots ORDER BY name")
    return [Known(_group(parts), *rest) for parts, *rest in found]


def know(connection: sqlite3.Connection, groups: Iterable[tuple[Group, str]]) -> None:
    """These roots (and the type of each) are there; what is known of them stays."""
    connection.executemany(
        "INSERT INTO roots (name, type, parts) VALUES (?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET type = excluded.type, parts = excluded.parts",
        [(group.name, type_, _packed(group)) for group, type_ in groups],
    )


def forget(connection: sqlite3.Connection, root: bytes) -> list[bytes]:
    """A root is gone. Returns temporaries that nothing needs any more."""
    _drop(connection, [one.id for one in states(connection, root)])
    connection.execute("DELETE FROM roots WHERE name = ?", (root,))
    return prune(connection)


def set_trouble(connection: sqlite3.Connection, root: bytes, reason: str, now: int) -> None:
    """Why the newest state of a root is not published; "" when it is. The time of the first reason stays."""
    connection.execute(
        "UPDATE roots SET since = CASE WHEN ?1 = '' THEN 0 WHEN trouble = '' THEN ?2 ELSE since END, "
        "trouble = ?1, older = CASE WHEN ?1 = '' THEN NULL ELSE older END WHERE name = ?3",
        (rows.text(reason), now, root),
    )


def hold(connection: sqlite3.Connection, root: bytes, older: bytes) -> bool:
    """The origin has a state that is older than the published one: the SHA-256 of its root. Whether an
    operator has approved just this one; else it is held."""
    query = "UPDATE roots SET older = ?1 WHERE name = ?2 AND approved IS NOT ?1"
    return connection.execute(query, (older, root)).rowcount == 0


def approve(connection: sqlite3.Connection, older: bytes) -> bytes:
    """The older state that is held may be published, once: its root. Raises UsageError."""
    known = roots(connection)
    for one in known:
        if one.older == older:
            query = "UPDATE roots SET approved = ?, older = NULL WHERE name = ?"
            connection.execute(query, (older, one.group.name))
            return one.group.read[0]
    held = ", ".join(one.older.hex() for one in known if one.older is not None)
    raise UsageError(
        f"{older.hex()}: "
        + (f"the older states that are held are {held}" if held else "no older state is held")
    )


def _packed(group: Group) -> bytes:
    signatures = [(one.signed, one.detached, one.inline) for one in group.signatures]
    whole: bytes = msgpack.packb((group.name, group.read, group.files, signatures))
    return whole


def _group(packed: bytes) -> Group:
    name, read, files, signatures = msgpack.unpackb(packed, use_list=False)
    return Group(name, read, files, tuple(Signature(*one) for one in signatures))


# -- states

_STATE = "id, root, stand, sha256, label, kind, key, valid_until, at, read"


def _state(row: Sequence[Any]) -> State:
    identity, root, stand, sha256, label, kind, key, valid_until, at, read = row
    order = Order(kind, key) if kind else None
    return State(identity, root, Stand(stand), sha256, label, order, valid_until, at, bool(read))


def states(connection: sqlite3.Connection, root: bytes) -> list[State]:
    """Every state of a root that is known, the newest last."""
    query = f"SELECT {_STATE} FROM states WHERE root = ? ORDER BY id"  # noqa: S608
    return [_state(row) for row in connection.execute(query, (root,))]


def standing(connection: sqlite3.Connection, stand: Stand) -> list[State]:
    query = f"SELECT {_STATE} FROM states WHERE stand = ? ORDER BY root, id"  # noqa: S608
    return [_state(row) for row in connection.execute(query, (stand,))]


def propose(connection: sqlite3.Connection, new: State, names: Iterable[Name]) -> tuple[State, list[bytes]]:
    """A new candidate of a root, in the place of the one before: with its id, and temporaries that nobody
    needs now."""
    before = [one.id for one in states(connection, new.root) if one.stand is Stand.CANDIDATE]
    _drop(connection, before)
    connection.execute("UPDATE roots SET older = NULL WHERE name = ?", (new.root,))
    order = new.order or Order("", 0)
    cursor = connection.execute(
        "INSERT INTO states (root, stand, sha256, label, kind, key, valid_until, at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.root,
            Stand.CANDIDATE,
            new.sha256,
            rows.text(new.label),
            order.kind,
            order.key,
            new.valid_until,
            new.at,
        ),
    )
    assert cursor.lastrowid is not None
    add(connection, cursor.lastrowid, names)
    query = f"SELECT {_STATE} FROM states WHERE id = ?"  # noqa: S608
    return _state(connection.execute(query, (cursor.lastrowid,)).fetchone()), prune(connection)


def add(connection: sqlite3.Connection, state: int, names: Iterable[Name]) -> None:
    """More names. The SHA-256 of what was named so before, by another algorithm, is known by then. Raises
    Contradicted for one that this state names otherwise already."""
    for one in names:
        place = state, *split(one.path)
        told = int(one.role), one.turn, one.size, one.algorithm, one.digest, one.sha256, one.optional
        if connection.execute(_ADD, (*place, *told)).rowcount == 0:
            _same(connection, place, one)


_ADD = """INSERT OR IGNORE INTO named VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, coalesce(?9,
            (SELECT sha256 FROM named WHERE directory = ?2 AND name = ?3 AND algorithm = ?7 AND digest = ?8
             AND sha256 IS NOT NULL LIMIT 1)), ?10)"""


def _same(connection: sqlite3.Connection, place: tuple[int, bytes, bytes], one: Name) -> None:
    """Raises Contradicted."""
    query = "SELECT size, algorithm, digest FROM named WHERE state = ? AND directory = ? AND name = ?"
    size, algorithm, digest = connection.execute(query, place).fetchone()
    if None not in (size, one.size) and size != one.size:
        raise Contradicted(shown(one.path), f"named with {size} bytes and with {one.size} bytes")
    if algorithm == one.algorithm and digest != one.digest:
        raise Contradicted(shown(one.path), f"named with two {algorithm} digests")


def leave_out(connection: sqlite3.Connection, state: int, path: bytes) -> None:
    """A candidate does without this name: it is neither here nor at the origin."""
    query = "DELETE FROM named WHERE state = ? AND directory = ? AND name = ?"
    connection.execute(query, (state, *split(path)))


def mark_read(connection: sqlite3.Connection, state: int) -> None:
    connection.execute("UPDATE states SET read = 1 WHERE id = ?", (state,))


def _drop(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    for identity in ids:
        connection.execute("DELETE FROM named WHERE state = ?", (identity,))
        connection.execute("DELETE FROM states WHERE id = ?", (identity,))


# -- names

_COLUMNS = "n.directory, n.name, n.role, n.turn, n.size, n.algorithm, n.digest, n.sha256, n.optional"


def _name(row: Sequence[Any]) -> Name:
    directory, name, role, turn, size, algorithm, digest, sha256, optional = row
    return Name(join(directory, name), Role(role), turn, size, algorithm, digest, sha256, bool(optional))


def names(connection: sqlite3.Connection, state: int, *roles: Role) -> list[Name]:
    """The names of a state with these roles, in the order of publication. They are few, but for files."""
    marks = ", ".join("?" * len(roles))
    query = f"""SELECT {_COLUMNS} FROM named n WHERE state = ? AND role IN ({marks})
                ORDER BY turn, directory, name"""  # noqa: S608
    return [_name(row) for row in connection.execute(query, (state, *roles))]


def expected(connection: sqlite3.Connection, paths: Iterable[bytes]) -> dict[bytes, Expected]:
    """What is said of those of these files that a published state or a candidate names."""
    by_directory: dict[bytes, list[bytes]] = {}
    for path in paths:
        directory, name = split(path)
        by_directory.setdefault(directory, []).append(name)
    found: dict[bytes, tuple[list[Name], list[Name]]] = {}
    for directory, some in by_directory.items():
        for i in range(0, len(some), _NAMES):
            part = some[i : i + _NAMES]
            query = f"""SELECT s.stand, {_COLUMNS} FROM named n JOIN states s ON s.id = n.state
                        WHERE n.directory = ? AND n.name IN ({", ".join("?" * len(part))})
                        AND s.stand <> {int(Stand.RETIRED)}"""  # noqa: S608
            for stand, *columns in connection.execute(query, (directory, *part)):
                one = _name(columns)
                found.setdefault(one.path, ([], []))[stand != Stand.PUBLISHED].append(one)
    return {path: Expected(tuple(old), tuple(new)) for path, (old, new) in found.items()}


def names_some(connection: sqlite3.Connection, root: bytes, paths: Iterable[bytes]) -> list[bytes]:
    """Those of these files that the published state of a root names."""
    query = """SELECT 1 FROM states s JOIN named n ON n.state = s.id
               WHERE s.root = ? AND s.stand = ? AND n.directory = ? AND n.name = ?"""
    return [
        path
        for path in paths
        if connection.execute(query, (root, Stand.PUBLISHED, *split(path))).fetchone() is not None
    ]


def missing(
    connection: sqlite3.Connection, state: int, roles: Collection[Role], after: bytes | None = None
) -> list[Name]:
    """Names beyond `after` that are not in place, by path, PAGE of them at most: neither published here with
    that digest nor waiting for the switch, or in a directory that is not here. Of what is named by another
    digest than SHA-256, all that was not `proven`; of what may be absent, only what is here and another
    version."""
    beyond = "" if after is None else "AND (n.directory, n.name) > (?, ?)"
    query = f"""
        SELECT {_COLUMNS} FROM named n
        LEFT JOIN waiting w ON w.directory = n.directory AND w.name = n.name
        LEFT JOIN directories d ON d.path = n.directory
        LEFT JOIN entries e
          ON e.directory = d.id AND e.name = n.name AND e.kind = {rows.FILE} AND e.unknown = 0
        WHERE n.state = ? AND n.role IN ({", ".join("?" * len(roles))}) {beyond}
          AND (n.sha256 IS NULL OR coalesce(w.sha256, e.sha256) IS NOT n.sha256 OR d.id IS NULL)
          AND NOT (n.optional AND n.role = {int(Role.FILE)} AND w.sha256 IS NULL AND e.sha256 IS NULL)
        ORDER BY n.directory, n.name LIMIT {PAGE}"""  # noqa: S608
    place = () if after is None else split(after)
    return [_name(row) for row in connection.execute(query, (state, *roles, *place))]


def proven(connection: sqlite3.Connection, one: Name, sha256: bytes) -> None:
    """A file with this digest has that SHA-256."""
    connection.execute(
        "UPDATE named SET sha256 = ? WHERE directory = ? AND name = ? AND algorithm = ? AND digest = ?",
        (sha256, *split(one.path), one.algorithm, one.digest),
    )


# -- what waits for the switch


def keep(connection: sqlite3.Connection, kept: Iterable[tuple[bytes, Staged]]) -> list[bytes]:
    """Complete, durable temporaries (directory, staged), to be published with their state. Returns those that
    they replace."""
    before: list[bytes] = []
    for directory, staged in kept:
        held = staged.held
        query = "SELECT temporary FROM waiting WHERE directory = ? AND name = ?"
        found = connection.execute(query, (directory, held.name)).fetchone()
        if found is not None and found[0] != staged.temporary:
            before.append(found[0])
        packed = msgpack.packb(rows.pack(held), unicode_errors="surrogateescape")
        values = directory, held.name, staged.temporary, staged.inode, held.sha256, packed, staged.blocks
        connection.execute("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    return before


def waiting(connection: sqlite3.Connection, path: bytes) -> Staged | None:
    query = "SELECT temporary, inode, held, blocks FROM waiting WHERE directory = ? AND name = ?"
    found = connection.execute(query, split(path)).fetchone()
    return None if found is None else _waiting(*found)


def _waiting(temporary: bytes, inode: int, held: bytes, blocks: bytes) -> Staged:
    return Staged(temporary, rows.unpack_whole(held), inode, blocks)


def changes(connection: sqlite3.Connection, state: int) -> tuple[list[Change], list[Change]]:
    """What of a state waits, in the order in which it is to be published: what is new by its name, which
    nobody looks for before the root says so, and the rest."""
    found = connection.execute(
        """SELECT n.role, n.directory, w.temporary, w.inode, w.held, w.blocks FROM named n
           JOIN waiting w ON w.directory = n.directory AND w.name = n.name AND w.sha256 = n.sha256
           WHERE n.state = ? ORDER BY n.turn, n.directory, n.name""",
        (state,),
    ).fetchall()
    new: list[Change] = []
    rest: list[Change] = []
    for role, directory, *columns in found:
        staged = _waiting(*columns)
        previous = rows.held(connection, join(directory, staged.held.name))
        some = new if previous is None and role < Role.SIGNATURE else rest
        some.append(Change(directory, staged.held, previous=previous, staged=staged))
    return new, rest


def temporaries(connection: sqlite3.Connection) -> set[bytes]:
    """Those that wait for a switch."""
    return {name for (name,) in connection.execute("SELECT temporary FROM waiting")}


def no_longer(connection: sqlite3.Connection, gone: Iterable[tuple[bytes, bytes]]) -> None:
    """These (directory, name) do not wait any more."""
    connection.executemany("DELETE FROM waiting WHERE directory = ? AND name = ?", gone)


def prune(connection: sqlite3.Connection) -> list[bytes]:
    """Forget what waits for a state that is none any more; its temporaries."""
    gone = connection.execute(
        f"""SELECT directory, name, temporary FROM waiting w WHERE NOT EXISTS
            (SELECT 1 FROM named n JOIN states s ON s.id = n.state WHERE n.directory = w.directory
             AND n.name = w.name AND n.sha256 = w.sha256
             AND s.stand IN ({int(Stand.CANDIDATE)}, {int(Stand.SWITCHING)}))"""  # noqa: S608
    ).fetchall()
    no_longer(connection, [(directory, name) for directory, name, _ in gone])
    return [temporary for _, _, temporary in gone]


# -- the switch


def switching(connection: sqlite3.Connection, state: int) -> None:
    """Everything is in place; whatever happens from now on, this state is published in the end."""
    connection.execute("UPDATE states SET stand = ? WHERE id = ?", (Stand.SWITCHING, state))


def back(connection: sqlite3.Connection, state: int) -> None:
    """Not all of its last names could be renamed: what failed has to be brought again."""
    connection.execute("UPDATE states SET stand = ? WHERE id = ?", (Stand.CANDIDATE, state))


def switched(connection: sqlite3.Connection, state: State, now: int) -> list[bytes]:
    """All its names are published: it is the published state of its root, and what was is retired. Returns
    temporaries that nothing needs any more."""
    query = "UPDATE states SET stand = ?, at = ? WHERE root = ? AND stand = ?"
    connection.execute(query, (Stand.RETIRED, now, state.root, Stand.PUBLISHED))
    query = "UPDATE states SET stand = ?, at = ? WHERE id = ?"
    connection.execute(query, (Stand.PUBLISHED, now, state.id))
    set_trouble(connection, state.root, "", now)
    connection.execute("UPDATE roots SET approved = NULL WHERE name = ?", (state.root,))
    return prune(connection)


def drop_retired(connection: sqlite3.Connection, before: int) -> None:
    """Forget states that were retired at `before` (s) or earlier."""
    query = "SELECT id FROM states WHERE stand = ? AND at <= ?"
    _drop(connection, [i for (i,) in connection.execute(query, (Stand.RETIRED, before)).fetchall()])


# -- what people are told


def told(connection: sqlite3.Connection) -> list[dict[str, object]]:
    """Each root: which state is published, since when, and why no newer one is."""
    found: list[dict[str, object]] = []
    for root in roots(connection):
        known = states(connection, root.group.name)
        now = next((one for one in known if one.stand is Stand.PUBLISHED), None)
        found.append(
            {
                "root": shown(root.group.read[0]),
                "href": href(root.group.read[0]),
                "type": root.type,
                "label": now.label if now is not None else "",
                "sha256": now.sha256.hex() if now is not None else None,
                "order": None if now is None or now.order is None else [now.order.kind, now.order.key],
                "published": now.at if now is not None else None,
                "valid_until": now.valid_until if now is not None else None,
                "trouble": root.trouble,
                "since": root.since or None,
                "held": root.older.hex() if root.older is not None else None,
            }
        )
    return found

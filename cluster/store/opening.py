"""Opening a mirror's store: everything that happens before anybody may use it. Blocking."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3

from cluster.errors import StoreError
from cluster.model import Mirror, Site, value
from cluster.store import adoption, contents, passes, recovery, rows, schema
from cluster.store.connections import Connections
from cluster.store.lock import Lock
from cluster.store.publicity import Publicity
from cluster.store.status import StatusFiles
from cluster.store.tree import Tree

_log = logging.getLogger(__name__)


@value
class Opened:
    """`recovered` are the directories that an interrupted batch touched."""

    tree: Tree
    records: Connections
    publicity: Publicity
    clean: bool
    recovered: set[bytes]


def open_store(mirror: Mirror, site: Site, lock: Lock, now: int) -> Opened:
    """Take the lock, check the marker, open the records, roll open intents forward, remove orphans.

    Raises Locked, DataMissing, StoreError; the caller releases the lock then.
    """
    try:
        os.makedirs(site.state, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{site.state}: {error.strerror}") from error
    lock.take()
    with contextlib.ExitStack() as failing:
        tree = Tree(
            site.data,
            mirror.name,
            mirror.path,
            site=site.name,
            state=site.state,
            reserve=site.reserve,
            attributes=mirror.attributes,
        )
        tree.open()
        failing.callback(tree.close)
        path = os.path.join(site.state, f"{mirror.name}.db")
        fresh = not os.path.exists(path)
        writer, clean, aside = recovery.open_records(path, mirror.name, now)
        failing.callback(writer.close)
        if aside:
            _log.error("%s: records could not be read: moved to %s and begun anew", mirror.name, aside)
        files = StatusFiles(site.state, mirror.name)
        failing.callback(files.close)
        if fresh or aside:
            files.clear()
        with schema.transaction(writer, durable=True):
            schema.meta_set(writer, "path", mirror.path)
            adoption.rescue(writer, tree, now)
            contents.index(writer, mirror.storage.once)
            keep = adoption.partial_names(writer, now)
        recovered = recovery.roll_forward(writer, rows.Ids(writer), tree, now)
        tree.remove_orphans(keep)
        opened = Opened(
            tree,
            Connections(path, writer, mirror.name),
            Publicity(mirror.name, files),
            clean,
            recovered,
        )
        failing.pop_all()
        return opened


def book_refusal(mirror: Mirror, site: Site, lock: Lock, reason: str, now: int) -> None:
    """Why the store could not be opened, for whoever asks what became of the last pass; under the lock. Where
    there are no records that this program writes, or they cannot be written, the log alone says it."""
    path = os.path.join(site.state, f"{mirror.name}.db")
    if not lock.held or not os.path.exists(path):
        return
    try:
        with contextlib.closing(schema.connect(path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == len(schema.STEPS):
                with schema.transaction(connection, durable=True):
                    passes.refused(connection, reason, now)
    except (StoreError, sqlite3.Error) as error:
        _log.warning("%s: what became of its pass cannot be recorded: %s", mirror.name, error)


def open_copy(mirror: Mirror, site: Site, folder: str, now: int) -> Opened:
    """The same on a copy of the committed records in `folder`, for a pass that only looks: no lock, nothing
    recovered, and the public tree open for reading. Raises StoreError.
    """
    path = os.path.join(folder, f"{mirror.name}.db")
    original = os.path.join(site.state, f"{mirror.name}.db")
    try:
        if os.path.exists(original):
            with (
                contextlib.closing(schema.connect(original, read_only=True)) as source,
                contextlib.closing(sqlite3.connect(path)) as target,
            ):
                source.backup(target)
    except sqlite3.Error as error:
        raise schema.refusal(error, path) from error
    writer, clean, _ = recovery.open_records(path, mirror.name, now)
    with contextlib.ExitStack() as failing:
        failing.callback(writer.close)
        there = os.path.isdir(os.path.join(site.data, mirror.path.strip("/")))
        data = site.data if there else os.path.join(folder, "data")
        if not there:
            os.makedirs(os.path.join(data, mirror.path.strip("/")))
        tree = Tree(
            data,
            mirror.name,
            mirror.path,
            site=site.name,
            state=folder,
            reserve=site.reserve,
            attributes=mirror.attributes,
        )
        tree.open(writing=False)
        failing.callback(tree.close)
        files = StatusFiles(folder, mirror.name)
        opened = Opened(
            tree, Connections(path, writer, mirror.name), Publicity(mirror.name, files), clean, set()
        )
        failing.pop_all()
        return opened

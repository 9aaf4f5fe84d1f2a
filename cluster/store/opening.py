"""Opening a mirror's store: everything that happens before anybody may use it. Blocking."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass

from cluster.errors import StoreError
from cluster.model import Mirror, Site
from cluster.store import adoption, recovery, rows, schema
from cluster.store.connections import Connections
from cluster.store.lock import Lock
from cluster.store.publicity import Publicity
from cluster.store.status import StatusFiles
from cluster.store.tree import Tree

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
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

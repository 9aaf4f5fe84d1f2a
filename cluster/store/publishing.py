"""One batch on its way to the public tree: the steps between its intent and its result (HAZARDS 3.2)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.errors import StoreError
from cluster.model import Held, Kind, join, shown
from cluster.store import intents, rows
from cluster.store.intents import Intended
from cluster.store.tree import Change, Tree

Outcome = Held | Exception


class NotSynced(Exception):
    """The temporaries of a batch could not be made durable: nothing was changed, and they are of no use."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Begun:
    """A batch whose intent is committed. `own` has the record of every directory that it touches, new or
    known; `new` are those of them that had none."""

    intent: int
    batch: list[Intended]
    own: dict[bytes, Held | None]
    new: frozenset[bytes]


def begin(
    connection: sqlite3.Connection, changes: Sequence[Change], attributes: dict[bytes, Held], now: int
) -> Begun:
    """In a durable transaction, before anything is done."""
    batch = [intents.intended(connection, change) for change in changes]
    own: dict[bytes, Held | None] = {}
    new = set()
    for path in {change.directory for change in changes} | attributes.keys():
        known = rows.held(connection, path)
        if known is None:
            new.add(path)
        own[path] = attributes.get(path, known)
    return Begun(intents.open_intent(connection, batch, now), batch, own, frozenset(new))


def carry_out(
    tree: Tree, changes: Sequence[Change], begun: Begun, attributes: dict[bytes, Held]
) -> tuple[list[Outcome], dict[bytes, Held]]:
    """Temporaries durable, names renamed, directories durable: per change its record, or why it failed; and
    those of `attributes` that are set.

    Raises NotSynced.
    """
    try:
        tree.sync([change.staged for change in changes if change.staged is not None])
    except StoreError as error:
        raise NotSynced(error) from error
    outcomes: list[Outcome] = list(tree.apply(changes))
    own = dict(begun.own)
    touched = set(attributes)
    for change, outcome in zip(changes, outcomes, strict=True):
        if isinstance(outcome, Held):
            touched.add(change.directory)
            if outcome.kind is Kind.DIRECTORY:
                path = join(change.directory, outcome.name)
                if own.get(path, outcome) is None:
                    own[path] = outcome
    failed = _settle(tree, {path: own.get(path) for path in touched})
    concluded: list[Outcome] = [
        failed.get(change.directory, outcome) if isinstance(outcome, Held) else outcome
        for change, outcome in zip(changes, outcomes, strict=True)
    ]
    return concluded, {path: held for path, held in attributes.items() if path not in failed}


def _settle(tree: Tree, directories: dict[bytes, Held | None]) -> dict[bytes, StoreError]:
    """Why directories are not durable; usually none."""
    try:
        tree.settle(directories)
    except StoreError:
        failed = {}
        for path, held in directories.items():
            try:
                tree.settle({path: held})
            except StoreError as error:
                failed[path] = error
        return failed
    return {}


def conclude(
    connection: sqlite3.Connection,
    ids: rows.Ids,
    begun: Begun,
    outcomes: Sequence[Outcome],
    attributes: dict[bytes, Held],
    now: int,
) -> None:
    """In a durable transaction, after everything was done: what is true now, and the journal.

    A name that failed keeps its record; whether the disk still has that version, `view` tells.
    """
    published: list[intents.Published] = [
        (one.directory, outcome, one.packed if outcome is one.held else rows.pack(outcome), one.blocks)
        for one, outcome in zip(begun.batch, outcomes, strict=True)
        if isinstance(outcome, Held)
    ]
    told = {join(directory, held.name) for directory, held, *_ in published if held.kind is Kind.DIRECTORY}
    quiet = []
    for directory, held in intents.own_records(attributes):
        path = join(directory, held.name)
        if path in told or (path and not held.name):
            continue
        if path in begun.new and path:
            published.append((directory, held, rows.pack(held), None))
        else:
            quiet.append((directory, held))
    intents.record(connection, ids, published, now, quiet=quiet)
    intents.close_intent(connection, begun.intent)


def in_the_way(path: bytes, removals: Iterable[bytes]) -> StoreError | None:
    """Why nothing can be published at `path` yet: a deletion at, above or below it is not finished."""
    for removal in removals:
        if path == removal or path.startswith(removal + b"/") or removal.startswith(path + b"/"):
            return StoreError(f"{shown(path)}: the deletion of {shown(removal)} is not finished")
    return None

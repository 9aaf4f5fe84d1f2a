"""One batch on its way to the public tree: the steps between its intent and its result (HAZARDS 3.2)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from cluster.errors import StoreError
from cluster.model import Held, Kind, join, shown, value
from cluster.store import intents, rows
from cluster.store.intents import Intended
from cluster.store.tree import Change, Staged, Tree

Outcome = Held | Exception


@value
class Batch:
    """Changes that go to the disk together, at `now` (s).

    `attributes`: directories whose own mode, owner and mtime are set afterwards (path -> record; with b"" for
    the root). `tell` is called, once the result is committed, with why each change was not done (Blocked,
    DiskFull, OSError) or None; where the store broke, never. `ordered`: what stands after one that failed is
    not tried, and its temporary stays.
    """

    changes: Sequence[Change]
    attributes: dict[bytes, Held]
    now: int
    tell: Callable[[list[Exception | None]], None]
    ordered: bool = False


Following = Callable[[], Batch | None]


class NotSynced(Exception):
    """The temporaries of a batch could not be made durable: nothing was changed, and they are of no use."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(str(error))
        self.error = error


@value
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


def renamed(tree: Tree, changes: Sequence[Change], *, synced: bool, ordered: bool = False) -> list[Outcome]:
    """Temporaries durable, unless they are `synced`, and renamed: per change its record, or why it failed.

    Raises NotSynced.
    """
    if not synced:
        try:
            tree.sync(staged_in(changes))
        except StoreError as error:
            raise NotSynced(error) from error
    return list(tree.apply(changes, ordered=ordered))


def settled(
    tree: Tree,
    changes: Sequence[Change],
    outcomes: Sequence[Outcome],
    begun: Begun,
    attributes: dict[bytes, Held],
    following: Sequence[Change],
) -> tuple[list[Outcome], dict[bytes, Held], StoreError | None]:
    """Directories durable, and the temporaries of the `following` batch with them: the outcomes as they are
    now, those of `attributes` that are set, and why the temporaries are not durable."""
    own = dict(begun.own)
    touched = set(attributes)
    for change, outcome in zip(changes, outcomes, strict=True):
        if isinstance(outcome, Held):
            touched.add(change.directory)
            if outcome.kind is Kind.DIRECTORY:
                path = join(change.directory, outcome.name)
                if path not in attributes:  # not what was recorded before: it may be hidden or shown by this
                    own[path] = outcome
    failed, not_synced = _settle(tree, {path: own.get(path) for path in touched}, staged_in(following))
    concluded: list[Outcome] = [
        failed.get(change.directory, outcome) if isinstance(outcome, Held) else outcome
        for change, outcome in zip(changes, outcomes, strict=True)
    ]
    return concluded, {path: held for path, held in attributes.items() if path not in failed}, not_synced


def staged_in(changes: Iterable[Change]) -> list[Staged]:
    return [change.staged for change in changes if change.staged is not None]


def _settle(
    tree: Tree, directories: dict[bytes, Held | None], staged: Sequence[Staged]
) -> tuple[dict[bytes, StoreError], StoreError | None]:
    """Why directories are not durable, and why temporaries are not; usually nothing. Where both were asked
    for at once and that failed, nobody knows which of them it was, and the disk tells of an error only once:
    the temporaries count as lost."""
    lost = None
    try:
        if not staged:
            tree.settle(directories)
        else:
            tree.settle_with(directories, staged)
    except StoreError as why:
        lost = why if staged else None
        failed = {}
        for path, held in directories.items():
            try:
                tree.settle({path: held})
            except StoreError as error:
                failed[path] = error
        return failed, lost
    return {}, None


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

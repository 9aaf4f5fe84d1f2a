"""What is remembered of a mirror's origins, by URL, and the directories that say how old an origin is.

Blocking; the caller has the transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict

from cluster.plan.origins import Health
from cluster.store import intents, rows, schema

KEY = "origins"
LATELY = 512  # journal records that are looked through for directories


def known(connection: sqlite3.Connection) -> dict[str, Health]:
    """Every origin that a pass ever tried."""
    text = schema.meta_get(connection, KEY)
    return {} if text is None else {url: Health(**said) for url, said in json.loads(text).items()}


def note(connection: sqlite3.Connection, health: Mapping[str, Health]) -> None:
    """Remember these; others stay."""
    told = {**known(connection), **health}
    schema.meta_set(connection, KEY, json.dumps({url: asdict(one) for url, one in sorted(told.items())}))


def last(connection: sqlite3.Connection) -> str | None:
    """The origin of the newest pass that chose one, however it ended and whatever it was about: what it
    brought is here."""
    query = "SELECT origin FROM passes WHERE origin <> '' ORDER BY id DESC LIMIT 1"
    row = connection.execute(query).fetchone()
    return None if row is None else str(row[0])


def sample(connection: sqlite3.Connection, lately: int, spread: int) -> list[bytes]:
    """Up to `lately` directories in which files were published last, and `spread` ones from all over the
    tree: held directories, each once."""
    found: dict[bytes, None] = {}
    recent = connection.execute(
        "SELECT path FROM journal WHERE action = ? ORDER BY seq DESC LIMIT ?", (intents.PUBLISH, LATELY)
    )
    for (path,) in recent:
        if len(found) >= lately:
            break
        found.setdefault(path.rpartition(b"/")[0])
    (most,) = connection.execute("SELECT max(id) FROM directories").fetchone()
    for step in range(spread):
        query = "SELECT path FROM directories WHERE id >= ? ORDER BY id LIMIT 1"
        row = connection.execute(query, (1 + most * step // spread,)).fetchone()
        if row is not None:
            found.setdefault(row[0])
    return [path for path in found if rows.is_recorded(connection, path)]

"""Bytes of files that the passes of a mirror received, by the day (UTC) on which each pass ended.

Blocking; the caller has the transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from cluster.plan.saving import DAY, Received

KEPT = 400  # days on which anything was received; counted in rows, because a clock may have been wrong
OLDER = -1  # the day that stands for all those before


def add(connection: sqlite3.Connection, counts: Mapping[str, object], now: int) -> None:
    """`counts` is the JSON of a pass, which ended or was cut off at `now` (s since 1970)."""
    told = received(counts)
    if not (told.origin or told.sideways):
        return
    _add(connection, max(0, now // DAY), told)
    oldest = connection.execute(
        "SELECT day FROM received WHERE day != ? ORDER BY day DESC LIMIT 1 OFFSET ?", (OLDER, KEPT)
    ).fetchone()
    if oldest is not None:
        between = (OLDER, *oldest)
        gone = connection.execute(
            "SELECT sum(origin), sum(sideways) FROM received WHERE day > ? AND day <= ?", between
        ).fetchone()
        connection.execute("DELETE FROM received WHERE day > ? AND day <= ?", between)
        _add(connection, OLDER, Received(*gone))


def _add(connection: sqlite3.Connection, day: int, told: Received) -> None:
    connection.execute(
        """INSERT INTO received VALUES (?, ?, ?) ON CONFLICT (day)
           DO UPDATE SET origin = origin + excluded.origin, sideways = sideways + excluded.sideways""",
        (day, told.origin, told.sideways),
    )


def days(connection: sqlite3.Connection, limit: int = KEPT) -> dict[int, Received]:
    """The newest `limit` days on which anything was received, in order."""
    found = connection.execute(
        "SELECT day, origin, sideways FROM received WHERE day != ? ORDER BY day DESC LIMIT ?", (OLDER, limit)
    ).fetchall()
    return {day: Received(origin, sideways) for day, origin, sideways in reversed(found)}


def total(connection: sqlite3.Connection) -> Received:
    """Everything since the records began."""
    return Received(
        *connection.execute(
            "SELECT ifnull(sum(origin), 0), ifnull(sum(sideways), 0) FROM received"
        ).fetchone()
    )


def received(counts: Mapping[str, object]) -> Received:
    """What the JSON of a pass says that it received; nothing where it does not say."""
    told = counts.get("bytes")
    if not isinstance(told, Mapping):
        return Received()
    origin, sideways = told.get("origin"), told.get("sideways")
    return Received(origin if isinstance(origin, int) else 0, sideways if isinstance(sideways, int) else 0)

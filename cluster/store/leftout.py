"""What a mirror leaves out, in the books: how much for each reason, and which rules have matched nothing."""

from __future__ import annotations

import sqlite3

from cluster.model import Kind
from cluster.store import passes, rows

REASONS = 50  # that are told: those that save most
LOOKED_BACK = 20  # passes


def by_reason(connection: sqlite3.Connection) -> list[dict[str, object]]:
    """For each reason its text, how many `files`, `directories` and `others`, and `bytes` of files as far as
    the origin told their sizes. What is in a directory that is left out nobody has counted."""
    found: dict[str, dict[str, int]] = {}
    for reason, kind, count, size in connection.execute(
        "SELECT reason, kind, count(*), coalesce(sum(size), 0) FROM skipped GROUP BY reason, kind"
    ):
        one = found.setdefault(reason, {"files": 0, "directories": 0, "others": 0, "bytes": 0})
        file, directory = rows.KINDS[kind] is Kind.FILE, rows.KINDS[kind] is Kind.DIRECTORY
        one["files" if file else "directories" if directory else "others"] += count
        one["bytes"] += size if file else 0
    most = sorted(found, key=lambda r: (found[r]["bytes"], found[r]["directories"], found[r]["files"], r))
    return [{"reason": reason, **found[reason]} for reason in most[: -REASONS - 1 : -1]]


def silent(connection: sqlite3.Connection, rules: str) -> set[str] | None:
    """The rules that had matched nothing by the end of the newest pass with this digest of rules; None where
    there is none that could tell."""
    for record in passes.latest(connection, LOOKED_BACK):
        told = record.counts.get("unused")
        if record.counts.get("rules") == rules and isinstance(told, list):
            return {str(text) for text in told}
    return None

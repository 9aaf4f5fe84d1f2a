"""`check --explain`: which rule of `<select>` decides for a path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from cluster.config import units
from cluster.config.settings import shown_rule
from cluster.errors import UsageError
from cluster.model import SECOND, Entry, Kind, Mirror, Stamp, checked_path, shown, split
from cluster.plan.select import Selection, reason_of, today


def decisions(
    mirror: Mirror, paths: Sequence[str], size: str | None, age: str | None, now: float
) -> list[dict[str, Any]]:
    """One row for each path; one with a slash at its end is a directory. `size` and `age` are as in a rule:
    those of the files. Raises UsageError, UnsafeName."""
    try:
        bytes_ = units.size(size) if size is not None else None
        mtime = Stamp((today(now) - units.age(age)) * SECOND) if age is not None else None
    except ValueError as error:
        raise UsageError(str(error)) from None
    selection = Selection(mirror.select, today(now))
    rows = []
    for path in paths:
        name = checked_path(os.fsencode(path.strip("/")))
        if not name:
            raise UsageError("the root of a mirror is always mirrored; name a path below it")
        kind = Kind.DIRECTORY if path.endswith("/") else Kind.FILE
        found = selection.deciding(name, Entry(split(name)[1], kind, size=bytes_, mtime=mtime))
        at, rule = found if found is not None else (name, None)
        rows.append(
            {
                "path": shown(name),
                "mirrored": rule is None or rule.include,
                "rule": None if rule is None else shown_rule(rule),
                "from": None if rule is None else rule.where,
                "reason": None if rule is None or rule.include else reason_of(rule),
                "above": shown(at) if at != name else None,
            }
        )
    return rows


def sentence(row: dict[str, Any]) -> str:
    """One decision for people."""
    if row["rule"] is None:
        return f"{row['path']}: mirrored: no rule matches"
    what = "mirrored" if row["mirrored"] else f"left out ({row['reason']})"
    above = f" with {row['above']}/" if row["above"] else ""
    return f"{row['path']}: {what}{above}: {row['rule']} ({row['from']})"

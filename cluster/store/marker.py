"""The marker: one identity in DATA and STATE, so that a missing mount is no empty disk (HAZARDS 37).

DATA/.sideways/marker     "UUID SITE"
STATE/marker              the same
"""

from __future__ import annotations

import contextlib
import os
import uuid

from cluster.errors import DataMissing, StoreError

PRIVATE = ".sideways"  # beside the public trees, never served
_LONGEST = 4096  # bytes of a marker that are read


def check_marker(data: str, state: str, site: str) -> str:
    """The identity of `site`, if `data` is the folder that `state` belongs to.

    Both markers are made where neither exists: the first start. A state that was lost gets the one in
    `data` again, if that names this site. Raises DataMissing where `data` lacks its marker or has another.
    """
    here, there = os.path.join(state, "marker"), os.path.join(data, PRIVATE, "marker")
    try:
        known, found = _read(here), _read(there)
        if known is None:
            found = found or _create(there, f"{uuid.uuid4()} {site}\n")
            if found.partition(" ")[2] != site:
                raise DataMissing(f"{data}: belongs to site {found.partition(' ')[2]}, not to {site}")
            known = _create(here, found + "\n")
    except OSError as error:
        raise StoreError(f"{error.filename}: {error.strerror}") from error
    if found is None:
        raise DataMissing(f"{data}: not mounted, or emptied: its marker {there} is missing")
    if found != known:
        raise DataMissing(
            f"{data}: another site's or an older disk: its marker is {found!r}, {here} has {known!r}"
        )
    return known.partition(" ")[0]


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST).strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None


def _create(path: str, text: str) -> str:
    """Write it durably and whole; where somebody else was first, theirs counts."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    if os.path.basename(folder) == PRIVATE:
        os.chmod(folder, 0o700)
    temporary = f"{path}.{uuid.uuid4().hex}"
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _publish(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
    written = _read(path)
    if written is None:
        raise StoreError(f"{path}: is empty after it was written")
    return written


def _publish(temporary: str, path: str) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        if _read(path) is None:  # torn by a crash of an older file system: it says nothing
            os.replace(temporary, path)

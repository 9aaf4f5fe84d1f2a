"""The site's own trace files and its lists of them, `STATE/trace/MIRROR/NAME`: beside the tree, which is the
origin's alone."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile

from cluster.errors import StoreError
from cluster.model import Held, Kind, Mirror, Site, Stamp, Told


def write(mirror: Mirror, site: Site, name: bytes, text: bytes) -> None:
    """Replace one; it is never seen half written. Blocking. Raises StoreError."""
    path = _path(mirror, site, name)
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=folder)
        try:
            with open(descriptor, "wb") as file:
                file.write(text)
                os.fchmod(descriptor, 0o644)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def opened(mirror: Mirror, site: Site, name: bytes) -> tuple[int, Held] | None:
    """An open descriptor of it, which the caller closes, and what there is to say of it; None where the
    mirror has none (yet). Blocking."""
    if mirror.trace.level is Told.NONE:
        return None
    try:
        descriptor = os.open(_path(mirror, site, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    told = os.fstat(descriptor)
    if not stat.S_ISREG(told.st_mode):
        os.close(descriptor)
        return None
    held = Held(
        name,
        Kind.FILE,
        told.st_size,
        mtime=Stamp(told.st_mtime_ns),
        mode=0o644,
        source="this site",
        copied=int(told.st_mtime),
    )
    return descriptor, held


def _path(mirror: Mirror, site: Site, name: bytes) -> str:
    return os.path.join(site.state, "trace", mirror.name, os.fsdecode(name))

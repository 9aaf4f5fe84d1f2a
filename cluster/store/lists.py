"""Lists of what a mirror holds, `STATE/published/MIRROR/`: beside the tree, which is the origin's alone."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator

from cluster.errors import StoreError
from cluster.model import Held, Kind, Mirror, Site, Stamp

LS_LR, TIME_LIST = "ls-lR", "fullfiletimelist"
_MADE_OF = ".made-of"  # from which records the lists were made


def file_name(mirror: Mirror, kind: str) -> bytes:
    """What a list is called in the root of the mirror."""
    return b"ls-lR.gz" if kind == LS_LR else f"fullfiletimelist-{mirror.name}".encode()


class Draft:
    """A list that is being written; readers see the old one until it is kept. Blocking. Raises StoreError."""

    def __init__(self, mirror: Mirror, site: Site, kind: str) -> None:
        folder = _folder(mirror, site)
        self._path = os.path.join(folder, os.fsdecode(file_name(mirror, kind)))
        # Without a time and a name in its header, so that the same list has the same bytes.
        self._pack = zlib.compressobj(6, zlib.DEFLATED, 31) if self._path.endswith(".gz") else None
        with _told(self._path):
            os.makedirs(folder, exist_ok=True)
            descriptor, self._temporary = tempfile.mkstemp(prefix=".new-", dir=folder)
            self._file = open(descriptor, "wb")  # noqa: SIM115

    def add(self, text: bytes) -> None:
        with _told(self._path):
            self._file.write(self._pack.compress(text) if self._pack else text)

    def keep(self) -> None:
        """It is the list from now on."""
        with _told(self._path):
            if self._pack:
                self._file.write(self._pack.flush())
            self._file.flush()
            os.fchmod(self._file.fileno(), 0o644)
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._temporary, self._path)

    def drop(self) -> None:
        """Nothing of it stays, unless it was kept."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary)


def made_of(mirror: Mirror, site: Site) -> str:
    """What `note` was told last; empty where a list is missing. Blocking."""
    folder = _folder(mirror, site)
    try:
        with open(os.path.join(folder, _MADE_OF), encoding="ascii") as file:
            text = file.read(1000)
    except (OSError, ValueError):
        return ""
    there = (os.path.exists(os.path.join(folder, os.fsdecode(file_name(mirror, k)))) for k in mirror.lists)
    return text if all(there) else ""


def note(mirror: Mirror, site: Site, text: str) -> None:
    """All lists have been made of these records; what else lies there goes. Blocking. Raises StoreError."""
    folder = _folder(mirror, site)
    kept = {os.fsdecode(file_name(mirror, kind)) for kind in mirror.lists} | {_MADE_OF}
    with _told(folder):
        for name in os.listdir(folder):
            if name not in kept:
                os.unlink(os.path.join(folder, name))
        with open(os.path.join(folder, _MADE_OF), "w", encoding="ascii") as file:
            file.write(text)


def forget(mirror: Mirror, site: Site, kind: str) -> None:
    """There is no such list. Blocking."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(_folder(mirror, site), os.fsdecode(file_name(mirror, kind))))


def opened(mirror: Mirror, site: Site, name: bytes) -> tuple[int, Held] | None:
    """An open descriptor of the list of this name, which the caller closes, and what there is to say of it;
    None where there is none. Blocking."""
    if name not in {file_name(mirror, kind) for kind in mirror.lists}:
        return None
    path = os.path.join(_folder(mirror, site), os.fsdecode(name))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    told = os.fstat(descriptor)
    if not stat.S_ISREG(told.st_mode):
        os.close(descriptor)
        return None
    stamp, copied = Stamp(told.st_mtime_ns), int(told.st_mtime)
    held = Held(name, Kind.FILE, told.st_size, mtime=stamp, mode=0o644, source="this site", copied=copied)
    return descriptor, held


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def _folder(mirror: Mirror, site: Site) -> str:
    return os.path.join(site.state, "published", mirror.name)

"""How a published name looks on disk: mode, owner, time (HAZARDS 26, 116)."""

from __future__ import annotations

import grp
import os
import pwd

from cluster.errors import StoreError
from cluster.model import Attributes, Held, Kind, Stamp
from cluster.store import small

_ALLOWED = 0o775  # no set-id, no sticky bit, no write bit for others
_OTHERS = 0o007
_NOBODY = 2**32 - 1
_NS = 2**63 - 1  # what a time in ns can be at most, either side of 1970


def is_private(held: Held) -> bool:
    """Whether the origin keeps this from the world. Where it tells no mode, what was known stands."""
    if held.mode is None or held.kind not in (Kind.FILE, Kind.DIRECTORY):
        return held.private
    needed = 0o005 if held.kind is Kind.DIRECTORY else 0o004
    return held.mode & needed != needed


def as_found(held: Held, sha256: bytes | None, size: int, mtime: int, inode: int) -> Held:
    """A record with what is on disk now: `mtime` in ns. (`replace` takes four times as long; there is one of
    these for each file.)"""
    return Held(
        held.name,
        held.kind,
        size,
        sha256,
        held.mtime,
        held.row,
        held.mode,
        held.uid,
        held.gid,
        held.target,
        held.link,
        held.etag,
        held.settled,
        held.unknown,
        held.source,
        held.verified,
        held.copied,
        mtime,
        inode,
        is_private(held),
    )


def published_mode(held: Held, attributes: Attributes, *, root: bool) -> int:
    """The mode on disk: what `attributes` give, else what the origin tells, else 0644 or 0755.

    Nothing lets a private name be read by others. Unless we are `root`, the owner can always read what we
    hold and work in our directories, whatever the origin's mode is: 0000 would lock us out.
    """
    directory = held.kind is Kind.DIRECTORY
    told = held.mode if held.mode is not None else 0o755 if directory else 0o644
    given = attributes.directory_mode if directory else attributes.file_mode
    mode = (told if given is None else given) & _ALLOWED
    if is_private(held) and held.mode is None:
        mode &= ~_OTHERS
    elif is_private(held):
        mode &= told | ~_OTHERS
    if not root:
        mode |= 0o700 if directory else 0o400
    return mode


class Appearance:
    """Sets it. Owners are changed as root only; names of users and groups are looked up once.

    Raises StoreError for a user or group that this machine does not know.
    """

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes
        self._modes: dict[tuple[Kind, int | None, bool], int] = {}
        self._root = os.geteuid() == 0
        self._uid, self._gid = -1, -1
        if self._root and attributes.owner is not None:
            self._uid = _number("user", attributes.owner)
        if self._root and attributes.group is not None:
            self._gid = _number("group", attributes.group)

    def of(self, held: Held) -> tuple[int, int, int, int | None]:
        """(mode, uid, gid, mtime in ns) that a file or directory gets; -1 and None: as it is."""
        key = held.kind, held.mode, held.private
        mode = self._modes.get(key)
        if mode is None:
            mode = self._modes[key] = published_mode(held, self._attributes, root=self._root)
        return mode, *self._owner(held), disk_time(held.mtime)

    def has(self, found: os.stat_result, held: Held) -> bool:
        """Whether a file looks so already, as far as anything is to be set."""
        mode, uid, gid, mtime = self.of(held)
        return (
            found.st_mode & 0o7777 == mode
            and uid in (-1, found.st_uid)
            and gid in (-1, found.st_gid)
            and mtime in (None, found.st_mtime_ns)
        )

    def set(self, descriptor: int, held: Held) -> None:
        """Owner, mode and time of an open file or directory. Raises OSError."""
        small.dress(descriptor, *self.of(held))

    def set_rest(self, descriptor: int, held: Held, found: os.stat_result) -> bool:
        """The same for an open file that was `found` to look so: only what differs is set. Whether its time
        was. Raises OSError."""
        mode, uid, gid, mtime = self.of(held)
        if uid not in (-1, found.st_uid) or gid not in (-1, found.st_gid):
            os.fchown(descriptor, uid, gid)
        if found.st_mode & 0o7777 != mode:
            os.fchmod(descriptor, mode)
        if mtime in (None, found.st_mtime_ns):
            return False
        os.utime(descriptor, ns=(mtime, mtime))
        return True

    def set_link(self, folder: int, name: bytes, held: Held) -> None:
        """Owner and time of a symbolic link itself. Raises OSError."""
        uid, gid = self._owner(held)
        if uid != -1 or gid != -1:
            os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
        if held.mtime is not None:
            ns = _bounded(held.mtime.ns)
            os.utime(name, ns=(ns, ns), dir_fd=folder, follow_symlinks=False)

    def _owner(self, held: Held) -> tuple[int, int]:
        if not self._root:
            return -1, -1
        return _chosen(self._uid, held.uid), _chosen(self._gid, held.gid)


def _chosen(given: int, told: int | None) -> int:
    """-1 leaves it alone, also where an origin tells a number that no Linux has."""
    return told if given == -1 and told is not None and 0 <= told < _NOBODY else given


def disk_time(mtime: Stamp | None) -> int | None:
    """A time (ns) as far as a file system can keep it; None: as it is."""
    return None if mtime is None else _bounded(mtime.ns)


def _bounded(ns: int) -> int:
    return ns if -_NS <= ns <= _NS else max(-_NS, min(ns, _NS))


def _number(kind: str, name: str) -> int:
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except KeyError:
        raise StoreError(f"{name}: no such {kind} on this machine") from None

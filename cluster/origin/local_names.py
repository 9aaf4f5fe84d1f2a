"""What the file system says of names, as an origin says it."""

from __future__ import annotations

import errno
import os
import stat

from cluster.errors import (
    Changed,
    OriginError,
    Refused,
    SourceMissing,
    TooLarge,
    Unreachable,
    UnsafeName,
    Vanished,
)
from cluster.model import Entry, Facts, Kind, Limits, Listing, Rejected, Stamp, checked_name, href
from cluster.model import split as split_path

# The file system itself is gone, rather than one name on it.
_UNMOUNTED = (errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESHUTDOWN)
_FARTHEST = 2**63 - 1  # ns from 1970, either way


def scan(
    descriptor: int,
    directory: bytes,
    ancestors: set[tuple[int, int]],
    own: os.stat_result,
    limits: Limits,
    progress: list[int],
) -> Listing | None:
    """One reading of an open directory; None where a name went away meanwhile. `progress` counts names.

    `own` and `ancestors` are the identities of the directory itself and of all above it. Raises OSError, and
    TooLarge beyond `limits.directory_entries`.
    """
    entries: list[Entry] = []
    rejected: list[Rejected] = []
    with os.scandir(descriptor) as names:
        for found in names:
            progress[0] += 1
            if len(entries) + len(rejected) >= limits.directory_entries:
                raise TooLarge(href(directory), f"more than {limits.directory_entries} entries")
            name = os.fsencode(found.name)
            try:
                checked_name(name)
                status = found.stat(follow_symlinks=False)
                target = os.readlink(name, dir_fd=descriptor) if stat.S_ISLNK(status.st_mode) else None
            except UnsafeName as error:
                rejected.append(Rejected(name, str(error)))
            except FileNotFoundError:
                return None
            else:
                entry = as_entry(name, status, target)
                if entry.kind is Kind.DIRECTORY and (status.st_dev, status.st_ino) in ancestors:
                    rejected.append(Rejected(name, "leads back to a directory above it", Kind.DIRECTORY))
                else:
                    entries.append(entry)
    entries.sort(key=lambda entry: entry.name)
    rejected.sort(key=lambda entry: entry.name)
    itself = as_entry(split_path(directory)[1], own, None)
    return Listing(tuple(entries), tuple(rejected), format="directory", own=itself)


def as_entry(name: bytes, status: os.stat_result, target: bytes | None) -> Entry:
    kind = kind_of(status.st_mode)
    linked = kind is Kind.FILE and status.st_nlink > 1
    return Entry(
        name,
        kind,
        size=status.st_size if kind is Kind.FILE else None,
        mtime=_stamp(status),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        target=target,
        link=f"{status.st_dev}:{status.st_ino}" if linked else None,
        links=status.st_nlink if linked else 1,
    )


def kind_of(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.DIRECTORY
    return Kind.SYMLINK if stat.S_ISLNK(mode) else Kind.SPECIAL


def as_facts(status: os.stat_result) -> Facts:
    kind = kind_of(status.st_mode)
    if kind is not Kind.FILE:
        return Facts(mtime=_stamp(status), kind=kind)
    return Facts(status.st_size, _stamp(status), validator(status), kind, ranges=True)


def version(status: os.stat_result) -> tuple[int, int, int, int]:
    """What differs when somebody wrote to it. The change time also tells a new content under an old mtime."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def validator(status: os.stat_result) -> str:
    """A strong validator: equal only for one version of one file."""
    return '"' + "-".join(f"{part:x}" for part in version(status)) + '"'


def classified(shown: str, error: OSError) -> OriginError:
    """What a pass does about it. `shown` is the path for people."""
    reason = error.strerror or str(error)
    if error.errno == errno.ENOENT:
        return Vanished(shown, reason)
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refused(shown, reason)
    if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENAMETOOLONG):
        return Changed(shown, f"not what was listed: {reason}")
    if error.errno in _UNMOUNTED:
        return SourceMissing(shown, reason)
    return Unreachable(shown, reason)  # EIO, ESTALE and the like: never an empty listing (HAZARDS 36)


def _stamp(status: os.stat_result) -> Stamp:
    """To the ns; a time beyond 64 bits of them (ext4 goes to the year 2446) is the last that they hold."""
    return Stamp(max(-_FARTHEST, min(status.st_mtime_ns, _FARTHEST)))

"""What a program of an operator needs before it starts, and what it leaves when it has ended. Blocking."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import stat
import time

ROOM = 256 * 2**20  # bytes that stay free for records, or a hundredth of a small disk
ROUNDS = 5  # looks for processes, each of which may have started another one meanwhile


def account(name: str) -> pwd.struct_passwd:
    """A user of this machine, by name or number. Raises OSError."""
    try:
        return pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        raise OSError(f"there is no user {name} on this machine") from None


def reachable(folder: str, user: pwd.struct_passwd) -> None:
    """Raises OSError where a folder above this one is closed to the user. Of lists of access (ACL) nothing is
    said."""
    groups = set(os.getgrouplist(user.pw_name, user.pw_gid))
    above = os.path.realpath(folder)
    while user.pw_uid != 0 and above != "/":
        above = os.path.dirname(above)
        found = os.stat(above)
        if found.st_uid == user.pw_uid:
            enters = found.st_mode & stat.S_IXUSR
        elif found.st_gid in groups:
            enters = found.st_mode & stat.S_IXGRP
        else:
            enters = found.st_mode & stat.S_IXOTH
        if not (enters or _has_list(above)):
            raise OSError(f"user {user.pw_name} cannot reach {folder}: {above} is closed to it")


def _has_list(folder: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(os.getxattr(folder, "system.posix_acl_access"))
    return False


def linked_away(folder: str) -> bool:
    """Whether the program has put a link in the place of its folder; it is gone then."""
    if not os.path.islink(folder):
        return False
    with contextlib.suppress(OSError):
        os.unlink(folder)
    return True


def too_full(folder: str) -> str:
    """What is wrong with the disk of a folder; empty where there is room."""
    with contextlib.suppress(OSError):
        disk = os.statvfs(folder)
        free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        if free < min(ROOM, total // 100):
            return f"{free} bytes are free where {folder} is"
    return ""


def ticks() -> int:
    """What the kernel says of a process that begins now, in clock ticks since the machine did."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def _began(process: int) -> int:
    """The same of a process. Raises OSError."""
    with open(f"/proc/{process}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def end_strays(folder: str, since: int) -> None:
    """Kill what the program has moved to other sessions: whoever began since then (`ticks`) with this
    folder in its environment."""
    mark = b"\0SIDEWAYS_STAGING=" + os.fsencode(folder) + b"\0"
    for _ in range(ROUNDS):
        strays = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is(pid, mark, since)]
        for pid in strays:
            with contextlib.suppress(OSError):
                _kill(pid, mark, since)
        if not strays:
            return


def _kill(process: int, mark: bytes, since: int) -> None:
    """By a descriptor, so that nobody else with its number is hit. Raises OSError."""
    descriptor = os.pidfd_open(process)
    try:
        if _is(process, mark, since):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)


def _is(process: int, mark: bytes, since: int) -> bool:
    if process == os.getpid():
        return False
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            return mark in b"\0" + file.read() and _began(process) >= since
    except OSError:  # it has ended, or is somebody else's
        return False

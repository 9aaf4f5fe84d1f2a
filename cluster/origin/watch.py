"""Following a local source as it changes.

Inotify sees what this machine's kernel does: a change that another client makes on an NFS server is not
among it, and the schedule stays the floor under every watch.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from cluster.errors import SourceMissing, Unreachable
from cluster.model import OriginSpec
from cluster.origin.local import source_path

DEBOUNCE = 2_000  # ms in which changes are gathered: a burst of uploads is one wake-up
QUIET = 500  # ms without a change end the gathering sooner


async def changes(
    spec: OriginSpec, *, debounce: int = DEBOUNCE, quiet: int = QUIET, stop: asyncio.Event | None = None
) -> AsyncIterator[set[bytes]]:
    """Sets of directories (relative paths) in which something changed, until `stop` is set.

    `{b""}`, "somewhere in it", stands for a change below a name that is not UTF-8, which the watcher cannot
    tell. Raises SourceMissing where the folder is not there, Unreachable where the kernel's limit on watches
    (fs.inotify.max_user_watches) is too small for it.
    """
    import watchfiles
    from watchfiles._rust_notify import WatchfilesRustInternalError

    root = os.path.realpath(source_path(spec))  # the watcher tells resolved paths
    folder = os.fsdecode(root)
    if not os.path.isdir(root):
        raise SourceMissing("", f"{spec.url}: no such folder")
    while stop is None or not stop.is_set():
        try:
            async for found in watchfiles.awatch(
                folder,
                watch_filter=None,
                debounce=debounce,
                step=quiet,
                stop_event=stop,
                recursive=True,
                ignore_permission_denied=True,
            ):
                yield {_directory(root, os.fsencode(path)) for _, path in found}
        except ExceptionGroup as group:
            # watchfiles 1.3.0 ends its watch with this error when a name is not UTF-8.
            if group.split(WatchfilesRustInternalError)[1] is not None:
                raise
            await asyncio.sleep(debounce / 1000)
            yield {b""}
        except OSError as error:
            raise Unreachable("", f"{spec.url} cannot be watched: {error}") from error
        else:
            return


def _directory(root: bytes, path: bytes) -> bytes:
    """The directory of a changed name, relative to the root."""
    relative = os.path.relpath(path, root)
    return os.path.dirname(relative) if relative != b"." else b""

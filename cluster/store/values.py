"""What goes to and from the public tree: what is there, what is ready, what is to be done."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Iterable

from cluster.model import Held, value

Shape = tuple[str, int, int, int, int]
"""Name (as Python decodes file names), file type of the mode, size, mtime (ns) and inode."""


def looks_of(shapes: Iterable[Shape]) -> bytes:
    """A digest of what stands in a directory, in whatever order: two that are equal stand for the same."""
    return hashlib.blake2b(marshal.dumps(sorted(shapes), 2), digest_size=16).digest()


@value
class Stat:
    """What lstat says of a name."""

    kind: str
    size: int
    mtime: int  # ns
    inode: int
    mode: int


@value
class Staged:
    """A complete, verified temporary, with the record that will be true once it is published."""

    temporary: bytes  # file name in the temporaries folder
    held: Held
    inode: int
    blocks: bytes = b""  # concatenated BLAKE3 of each 8 MiB block, for files over 8 MiB


@value
class Change:
    """One thing to do to the public tree. `held` is what will be true afterwards.

    - staged file:  `staged` set -> rename the temporary to the name
    - hard link:    `link_to` set (a path of this tree) -> link(2) to a temporary name, then rename
    - symlink, directory: made (symlink: temporary name, then rename; directory: mkdir if absent)
    - attributes only: `attributes` True -> fchmod/futimens/fchown on what is there
    `previous` is the record that we had; where it is None and something else stands there: Blocked.
    """

    directory: bytes
    held: Held
    previous: Held | None = None
    staged: Staged | None = None
    link_to: bytes | None = None
    attributes: bool = False

"""This site's disk: one mirror's public tree, and the private folder beside all of them.

Every operation walks from an open folder by descriptors with O_NOFOLLOW, so that no name, link or race leads
outside (HAZARDS 15, 17, 18). Blocking: call it on a thread. Raises StoreError subclasses and UnsafeName.

    DATA/.sideways/marker            this site's identity (uuid), also in STATE/marker: a missing mount shows
    DATA/.sideways/tmp/MIRROR/       temporaries; random names
    DATA/.sideways/trash/MIRROR/T/   what was deleted at time T (s), with its path
    DATA/<mirror.path>/              the public tree: nothing of ours in it
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.model import Held


@dataclass(frozen=True, slots=True)
class Stat:
    """What lstat says of a name."""

    kind: str
    size: int
    mtime: int  # ns
    inode: int
    mode: int


@dataclass(frozen=True, slots=True)
class Staged:
    """A complete, verified temporary, with the record that will be true once it is published."""

    temporary: bytes  # file name in the temporaries folder
    held: Held
    inode: int
    blocks: bytes = b""  # concatenated SHA-256 of each 8 MiB block, for files over 8 MiB


@dataclass(frozen=True, slots=True)
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


BLOCK = 8 * 2**20


class Tree:
    """See the module. One per mirror and process."""

    def scan(self, directory: bytes) -> dict[bytes, Stat] | None:
        """Every name in a public directory; None where the directory is absent."""
        raise NotImplementedError

    def stage_small(self, files: Sequence[tuple[Held, bytes]]) -> list[Staged]:
        """Write many small bodies to temporaries in one call. `held.sha256` and size are already right."""
        raise NotImplementedError

    def sync(self, staged: Iterable[Staged]) -> None:
        """Make temporaries durable: fsync each, or one syncfs where there are more than 8. A failure is final."""
        raise NotImplementedError

    def apply(self, changes: Sequence[Change]) -> list[Held | Exception]:
        """Rename everything into place; per change the record as it is on disk, or why not. No fsync of directories."""
        raise NotImplementedError

    def settle(self, directories: dict[bytes, Held | None]) -> None:
        """After names changed in them: set each directory's recorded mode, owner and mtime, then fsync it."""
        raise NotImplementedError

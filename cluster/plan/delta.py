"""Whether a new version is made from an older one that is here, from which, and by which steps. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.model import Delta

LEAST = 2**20  # bytes of a file for which it can pay: below, it is three answers for one
LEVELS = (65_536, 4_096, 512)  # bytes of a block: each finds what the one before left over
MOST_BLOCKS = 2**21  # of one level: they are in memory, some 40 bytes for each
ROLL = 40e6  # bytes/s of an older file that are looked at for one block size
MERGE = 64 * 2**10  # bytes between two ranges that are rather fetched than left out
MOST_REQUESTS = 1000  # ranges that an origin is asked for, one after the other
LITTLE = 0.05  # share of the file that must be here already

_COMPRESSED = re.compile(
    rb"\.(gz|tgz|xz|txz|bz2|tbz2?|zst|lz|lz4|lzma|lzo|br|7z|rar|deb|udeb|rpm|drpm|apk|snap|flatpak|squashfs"
    rb"|png|jpe?g|gif|webp|mp[34]|m4[av]|ogg|ogv|opus|flac|webm|mkv|avi|mov|gpg|asc)$",
    re.IGNORECASE,
)
_VERSION = re.compile(rb"[0-9]+(?:[._~+-][0-9]+)*")


@dataclass(slots=True)
class Experience:
    """What making new versions from old ones has cost: bytes of new file per second beside the link, and the
    share of them that came over it. What is known before the first one is cautious."""

    rate: float = 80e6
    share: float = 0.2

    def note(self, size: int, seconds: float, travelled: int) -> None:
        """One more: the newest counts as much as all before it."""
        self.rate = (self.rate + size / max(seconds, 1e-3)) / 2
        self.share = (self.share + min(1.0, travelled / size)) / 2


def shuffled(name: bytes) -> bool:
    """Whether a change of one byte changes everything behind it: compressed, or encrypted."""
    return _COMPRESSED.search(name) is not None


def worth(mode: Delta, name: bytes, size: int, speed: float | None, known: Experience) -> bool:
    """Whether `size` bytes are rather made from an older version than fetched at `speed` (bytes/s; None where
    nothing has been measured: then the little that it costs is risked)."""
    if mode is Delta.NO or size < LEAST or shuffled(name):
        return False
    return mode is Delta.ALWAYS or speed is None or known.share + speed / known.rate < 1


def control_limit(size: int) -> int:
    """Bytes that the control file of a file of `size` may have: beyond, it is not worth it, or is none."""
    return min(64 * 2**20, size // 32 + 2**16)


def rolls(mode: Delta, unused: int, missing: int, speed: float | None) -> bool:
    """Whether every offset of the `unused` bytes here is looked at, rather than `missing` bytes fetched."""
    return mode is Delta.ALWAYS or speed is None or unused / ROLL < missing / speed


def hopeless(size: int, copied: int, block: int) -> bool:
    """Whether so little was found by blocks of this size that the two are no versions of one thing."""
    return block <= LEVELS[1] and copied < LITTLE * size


def forebear(name: bytes, names: Iterable[bytes]) -> bytes | None:
    """The one of `names` that is the same but for the version in it, and nearest to `name`: foo-1.2.tar for
    foo-1.3.tar. Only dotted numbers are versions: image-1 and image-2 may be anything."""
    wanted = _versions(name)
    if wanted is None or shuffled(name):
        return None
    best: tuple[tuple[int, int, int], bytes] | None = None
    for other in names:
        found = _versions(other)
        if found is None or other == name or found[0] != wanted[0]:
            continue
        rank = _nearness(wanted[1], found[1])
        if best is None or (rank, other) > best:
            best = (rank, other)
    return best[1] if best is not None else None


def versioned(name: bytes) -> bool:
    """Whether it may have a forebear at all."""
    return _versions(name) is not None and not shuffled(name)


def before_version(name: bytes) -> bytes:
    """What the names of all versions begin with."""
    found = _VERSION.search(name)
    return name[: found.start()] if found else name


def _versions(name: bytes) -> tuple[bytes, list[int]] | None:
    """The name without its numbers, and the numbers."""
    numbers = _VERSION.findall(name)
    if not any(b"." in number for number in numbers):
        return None
    digits = re.findall(rb"[0-9]+", b" ".join(numbers))
    return (_VERSION.sub(b"#", name), [int(one) for one in digits]) if max(map(len, digits)) < 19 else None


def _nearness(wanted: list[int], found: list[int]) -> tuple[int, int, int]:
    """Larger is nearer: more leading numbers alike, then the first other one nearer, then the newer one."""
    alike = 0
    for mine, theirs in zip(wanted, found, strict=False):
        if mine != theirs:
            return alike, -abs(mine - theirs), theirs
        alike += 1
    return alike, 0, len(found)

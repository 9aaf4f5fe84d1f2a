"""In which order a site walks, and which site fetches what first.

Two sites that walk towards each other, or owners by rendezvous hash, fetch different things at one time:
`COOPERATION.md` has the figures. Chance is an argument: the seed of `shuffled` is site and pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from cluster.model import Order

SPLIT = 512  # wanted files above which a directory is not one unit of ownership: its files are


def weight(site: str, path: bytes) -> bytes:
    """The rendezvous hash of a site for a path (highest random weight)."""
    return hashlib.blake2b(path, digest_size=8, key=site.encode()).digest()


def ranking(path: bytes, sites: Iterable[str]) -> list[str]:
    """The sites by who is to fetch `path`, first first. Every site computes the same."""
    return sorted(sites, key=lambda site: (weight(site, path), site), reverse=True)


def owner(path: bytes, sites: Iterable[str]) -> str:
    """Who is first in `ranking`."""
    return max(sites, key=lambda site: (weight(site, path), site))


def yields(path: bytes, own: str, sibling: str) -> bool:
    """On equal claims: whether `own` gives way to `sibling`."""
    return (weight(own, path), own) < (weight(sibling, path), sibling)


def arranged(paths: Sequence[bytes], order: Order, seed: str) -> list[bytes]:
    """Children of one directory in the order in which they are walked. They arrive sorted."""
    if order is Order.BACKWARD:
        return list(reversed(paths))
    if order is Order.SHUFFLED:
        return sorted(paths, key=lambda path: weight(seed, path))
    return list(paths)

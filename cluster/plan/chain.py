"""A large file of an origin that sends no parts of it: one site, the *head*, fetches it, and the others hand
on what has arrived in a chain, each reading from the one before it (simulated: 1.6 times the bound for any
number of sites; where one serves all it is 15.6 times for sixteen).

Everything that is known comes in as values; times are seconds on the clock of the site that decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cluster.model import SECOND, Facts, Held, Stamp, value
from cluster.plan import steal
from cluster.plan.order import ranking

_MODIFIED = "modified:"  # no entity tag begins so: they begin with a quote or W/


@value
class Link:
    """A site at which the file arrives, or is. `front`: how many bytes from its beginning on are there
    without a gap; `seen`: when, on our own clock, that was last seen to grow.
    """

    site: str
    front: int
    seen: float


def version_named(facts: Facts) -> str | None:
    """What a version is called among sites: by the strong validator that the origin names it by, else by its
    Last-Modified; None where neither is told. Size and name together are what `plan.compare.answer` takes
    for one version.
    """
    return facts.etag or _modified(facts.mtime)


def version_held(held: Held) -> str | None:
    """The same of a file that is here. What was read within the second of its own Last-Modified has none."""
    return _modified(held.mtime) if held.etag is None else held.etag or None


def is_proof(name: str) -> bool:
    """Whether all bytes that bear this name and one size are of one version, whoever read them when. By a
    time alone they may be joined, and count once the SHA-256 is that of a file which one answer brought.
    """
    return not name.startswith(_MODIFIED)


def _modified(mtime: Stamp | None) -> str | None:
    return f"{_MODIFIED}{mtime.ns}" if mtime is not None and mtime.precision <= SECOND else None


def before(
    path: bytes,
    own: str,
    front: int,
    links: Mapping[str, Link],
    head: str | None,
    *,
    size: int,
    now: float,
    patience: float,
) -> Link | None:
    """Whom `own`, which has `front` bytes, reads from, or waits for while that one has no more than we.

    The chain begins at `head`, the site that fetches it from the origin, and goes on by rank. It leaves out
    whoever has shown no progress for `patience` s although there was something to be had, and whoever is a
    range (64 MiB) behind the one before it: a slow site then slows nobody down. None: nobody before us is of
    use, and nobody at all has more.
    """
    chain: list[Link] = []
    for site in _order(path, {own, *links}, head):
        if site == own:
            break
        link, top = links[site], chain[-1].front if chain else 0
        waits = bool(chain) and link.front >= top
        lives = site == head or link.front == size or waits or now - link.seen < patience
        if lives and link.front + steal.RANGE >= top:
            chain.append(link)
    if chain:
        return chain[-1]
    best = max(links.values(), key=lambda link: link.front, default=None)
    return best if best is not None and best.front > front else None


def waited_for(front: int, link: Link | None, head: str | None, links: Mapping[str, Link]) -> str | None:
    """Whose fault it is if nothing comes to a site that has `front` bytes, and that `before` sends to `link`:
    the one that is read from; else the head, unless it has more than we; else the one before us."""
    if link is not None and link.front > front:
        return link.site
    if head is not None and (head not in links or links[head].front <= front):
        return head
    return link.site if link is not None else head


def turn(path: bytes, own: str, sites: Iterable[str]) -> int:
    """How many of `sites` would rather be the head than `own`."""
    return ranking(path, {own, *sites}).index(own)


def _order(path: bytes, sites: Iterable[str], head: str | None) -> list[str]:
    order = ranking(path, sites)
    return sorted(order, key=lambda site: site != head)

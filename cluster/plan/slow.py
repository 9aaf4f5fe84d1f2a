"""Which siblings are too slow to be waited for, by what each site tells of its own pass.

A site that does without a sibling fetches from the origin what that sibling has got from there. So it may do
without those only that have got little, however slow they are.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.model import value

SLOWER = 5.0  # times our own pace: below that the ranks and claims divide the work well enough
SPARED = 0.04  # of what all have fetched: what the origin may send twice for it


@value
class Headway:
    """How a pass goes at one site: the best bytes/s at which the origin sent to it for some seconds, the
    bytes of files that it has got from there in this pass, and those that it held before."""

    pace: int
    fetched: int
    before: int = 0


def done_without(own: Headway | None, others: Mapping[str, Headway]) -> frozenset[str]:
    """The siblings that a site whose pass goes like `own` neither asks nor waits for.

    Each is `SLOWER` times slower, and together they have no more than the share `SPARED` of what all sites
    have fetched. Of a site that tells nothing nothing is known: it is not among them.
    """
    if own is None:
        return frozenset()
    left = SPARED * (own.fetched + sum(one.fetched for one in others.values()))
    found: set[str] = set()
    for has, site in sorted((one.before + one.fetched, site) for site, one in others.items()):
        if others[site].pace * SLOWER <= own.pace:
            left -= has
            if left < 0:
                break
            found.add(site)
    return frozenset(found)

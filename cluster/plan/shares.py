"""How sites that share what an origin allows divide it: units (connections, parts of a bandwidth) in whole
numbers, by what everybody knows.

Each site has a *home* share, its own without a word from anybody; what it does not need is *lent*. Homes
do not overlap and a unit is lent by its home alone, so that sites which know different things divide
badly, but not more than there is. `ranked` are sites in the order of `cluster.plan.order.ranking`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cluster.model import value


@value
class Standing:
    """How a site stands in one budget, in units: connections, or thousandths of a bandwidth.

    `fair` is its home share, `allowed` what it may use now, `used` what it uses of it (of a bandwidth this is
    not counted), `wanted` what it could use. `lent` is what siblings use of its share, or may be using still,
    `borrowed` what it has of theirs. Of the `silent` nothing is heard.
    """

    sort: str
    host: str
    budget: int
    fair: int
    allowed: int
    used: int
    wanted: int
    lent: int
    borrowed: int
    silent: tuple[str, ...] = ()


def homes(budget: int, ranked: Sequence[str]) -> dict[str, int]:
    """Equal shares; what is left over goes to those that rank first.

    Who leaves makes nobody's share smaller, so that sites of which some have not noticed it yet stay within
    the budget.
    """
    each, over = divmod(budget, max(1, len(ranked)))
    return {site: each + (place < over) for place, site in enumerate(ranked)}


def sharing(
    budget: int,
    ranked: Sequence[str],
    present: Collection[str],
    fresh: Collection[str],
    gone: Collection[str],
) -> dict[str, int]:
    """The home share of each site that is `present`, as those see it who hear each other.

    `ranked` may share; `gone` are known to be doing nothing; `fresh` are those present who were heard so
    lately that they are not about to fall silent one after the other.

    More than half of those who may be at work divide everything: what a site held that has fallen silent
    comes back. No more than half keep the shares that they have when all are there, since the rest may be
    dividing everything: the halves of a cluster that is cut in two stay within the budget, and unequal parts
    exceed it by the shares of the smaller one. Where that leaves those who are here nothing at all, the first
    of them has one unit: a site needs nobody.
    """
    here = [site for site in ranked if site in present]
    left = [site for site in ranked if site in present or site not in gone]
    everything = 2 * sum(site in fresh for site in here) > len(left)
    shares = homes(budget, here if everything else left)
    found = {site: shares[site] for site in here}
    if here and not any(found.values()):
        found[here[0]] = 1
    return found


def divided(total: int, wants: Mapping[str, int], turn: int) -> dict[str, int]:
    """Who should have how much: nobody more than it wants, and of two that want more, both the same.

    `wants` are in the order of rank. What cannot be divided goes to the first; where there is not one unit
    for each, `turn` says from whom on, and with each turn others are served.
    """
    wanting = [site for site, want in wants.items() if want > 0]
    found = dict.fromkeys(wants, 0)
    if len(wanting) > total:
        for place in range(total):
            found[wanting[(turn * total + place) % len(wanting)]] = 1
        return found
    left = total
    while wanting:
        each, over = divmod(left, len(wanting))
        content = [site for site in wanting if wants[site] <= each]
        if not content:
            return found | {site: each + (place < over) for place, site in enumerate(wanting)}
        for site in content:
            found[site] = wants[site]
            left -= wants[site]
        wanting = [site for site in wanting if wants[site] > each]
    return found


def loans(have: Mapping[str, int], should: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Who lends whom how much, so that from what they `have` all come to what they `should` have: by lender,
    then borrower. `have` is in the order of rank. What nobody needs stays where it is."""
    found: dict[str, dict[str, int]] = {}
    lacks = {site: should[site] - have[site] for site in have if should[site] > have[site]}
    for lender, held in have.items():
        spare = held - should[lender]
        for borrower, lack in lacks.items():
            if spare > 0 and lack > 0:
                lent = min(spare, lack)
                found.setdefault(lender, {})[borrower] = lent
                lacks[borrower] -= lent
                spare -= lent
    return found

"""Who fetches which piece, who steals it, who gives way, and who takes over."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.plan.order import SPLIT, owner, ranking, yields
from cluster.plan.steal import (
    BLOCK,
    LARGE,
    RANGE,
    TURN,
    Backlog,
    Fetch,
    Piece,
    SeenClaim,
    Wait,
    divided,
    free_at,
    gives_way,
    next_piece,
    piece_owner,
    pieces,
    slowest,
    successors,
)

SITES = ["kent", "lancaster", "lima", "oslo"]
PATIENCE = 5.0
F = Piece(b"pool/f", 100)
sizes = st.one_of(st.none(), st.integers(0, LARGE), st.integers(LARGE + 1, 40 * RANGE))


def claim(site: str, seen: float = 0.0, start: int = 0, stop: int | None = None, received: int = 0):
    return SeenClaim(site, seen, start, stop, received)


def step(own="kent", mine=(), tails=None, claims=(), backlogs=None, now=1.0, **more):
    tails = tails or {}
    return next_piece(
        own,
        mine,
        tails,
        backlogs if backlogs is not None else {site: Backlog(1) for site in tails},
        lambda path: [c for p, c in claims if p == path],
        sites=more.pop("sites", SITES),
        now=now,
        patience=PATIENCE,
        **more,
    )


# -- division


@given(sizes, st.booleans())
def test_every_byte_of_a_file_is_in_exactly_one_piece(size, ranges):
    parts = pieces(b"f", size, ranges=ranges)
    at = 0
    for part in parts:
        assert part.start == at
        at = part.stop
    assert at == (size or 0)
    assert len({p.key for p in parts}) == len(parts)
    assert len(parts) == 1 or all(0 < p.size <= RANGE and p.start % BLOCK == 0 for p in parts)


@pytest.mark.parametrize(
    ("size", "each"),
    [(LARGE, LARGE), (LARGE + 1, BLOCK), (2 * RANGE, BLOCK), (2 * RANGE + 1, RANGE), (40 * RANGE, RANGE)],
)
def test_a_file_of_medium_size_is_divided_into_blocks_and_a_large_one_into_ranges(
    size: int, each: int
) -> None:
    assert {
        part.size for part in pieces(b"x", size, ranges=True)[:-1] or pieces(b"x", size, ranges=True)
    } == {each}


@given(
    st.lists(st.tuples(st.integers(0, 10**6).map(lambda n: b"%d" % n), sizes), unique_by=lambda f: f[0]),
    st.permutations(SITES),
    st.booleans(),
)
def test_every_byte_has_one_owner_and_all_sites_compute_the_same(files, sites, ranges):
    here, there = (divided(b"d", files, who, ranges=ranges) for who in (SITES, sites))
    assert here == there
    assert {site for _, site in here} <= set(SITES)
    for name, size in files:
        parts = [p for p, _ in here if p.path == b"d/" + name]
        assert sum(p.size for p in parts) == (size or 0)
        assert [p.start for p in parts] == sorted({p.start for p in parts})
    for piece, site in here:
        assert piece_owner(piece, len(files), SITES) == site


def test_a_directory_is_one_owners_unless_it_is_large_and_large_files_are_shared():
    few = [(b"%d" % i, 10) for i in range(SPLIT)]
    assert {site for _, site in divided(b"d", few, SITES, ranges=True)} == {owner(b"d", SITES)}
    assert {piece_owner(Piece(b"d/" + name), SPLIT, SITES) for name, _ in few} == {owner(b"d", SITES)}
    assert {site for _, site in divided(b"d", [*few, (b"x", 1)], SITES, ranges=True)} == set(SITES)
    assert {site for _, site in divided(b"d", [(b"iso", 100 * RANGE)], SITES, ranges=True)} == set(SITES)
    assert len(divided(b"d", [(b"iso", 100 * RANGE)], SITES, ranges=False)) == 1


# -- the next piece


def test_own_work_goes_first_from_the_front():
    assert step(mine=[Piece(b"a"), Piece(b"b")], tails={"oslo": [Piece(b"z")]}) == Fetch(Piece(b"a"), "kent")


def test_the_owner_that_will_be_busy_longest_is_stolen_from_at_its_tail():
    tails = {"oslo": [Piece(b"z"), Piece(b"y")], "lima": [Piece(b"m")], "lancaster": [Piece(b"k")]}
    backlogs = {"oslo": Backlog(100, 1.0), "lima": Backlog(1000, 100.0), "lancaster": Backlog(99, 1.0)}
    assert step(tails=tails, backlogs=backlogs) == Fetch(Piece(b"z"), "oslo")
    assert slowest(backlogs) == ["oslo", "lancaster", "lima"]


def test_a_site_that_shows_nothing_is_slower_than_any_that_does():
    assert slowest({"oslo": Backlog(10**9, 0.001), "lima": Backlog(1)}) == ["lima", "oslo"]


def test_only_the_beginning_of_what_is_left_is_read():
    def endless():
        yield Piece(b"a")
        raise AssertionError("read on")

    assert step(mine=endless()) == Fetch(Piece(b"a"), "kent")


def test_nobody_fetches_what_a_live_claim_covers():
    assert step(mine=[F], claims=[(F.path, claim("oslo", seen=0.5))]) == Wait(0.5 + PATIENCE)
    part = Piece(b"iso", RANGE, RANGE, part=True)
    other = claim("oslo", start=0, stop=RANGE)
    assert step(mine=[part], claims=[(b"iso", other)]) == Fetch(part, "kent", RANGE)
    assert isinstance(step(mine=[part], claims=[(b"iso", claim("oslo", stop=RANGE + 1))]), Wait)
    assert isinstance(step(mine=[part], claims=[(b"iso", claim("oslo"))]), Wait)


def test_nothing_left_is_not_the_same_as_waiting():
    assert step() is None
    assert step(mine=[F], claims=[(F.path, claim("oslo", seen=-100.0))], now=0.0) is not None


def test_heirs_of_a_dead_claim_have_their_turns_one_after_the_other():
    lost = claim("oslo", seen=0.0)
    heirs = ranking(F.key, [s for s in SITES if s != "oslo"])
    for turn, site in enumerate(heirs):
        at = free_at(F, site, [lost], sites=SITES, now=PATIENCE, patience=PATIENCE)
        assert at == PATIENCE + turn * TURN
        assert isinstance(step(site, [F], claims=[(F.path, lost)], now=at - 0.01), Wait)
        assert step(site, [F], claims=[(F.path, lost)], now=at) == Fetch(F, site)


def test_the_longest_verified_prefix_inherits_and_counts_in_whole_blocks():
    others = ranking(F.key, ["kent", "lancaster", "lima"])
    last = others[-1]
    assert successors(F, "oslo", SITES) == others
    assert successors(F, "oslo", SITES, {last: BLOCK}) == [last, *others[:-1]]
    assert successors(F, "oslo", SITES, {last: BLOCK - 1}) == others


def test_what_is_verified_already_is_not_fetched_again():
    part = Piece(b"iso", RANGE, RANGE, part=True)
    found = step(mine=[part], prefix=lambda piece: 3 * BLOCK + 17)
    assert found == Fetch(part, "kent", RANGE + 3 * BLOCK)


# -- equal claims


@given(
    st.integers(0, 4 * RANGE),
    st.integers(0, 4 * RANGE),
    st.sampled_from([("kent", "oslo"), ("lima", "oslo"), ("kent", "lima")]),
    st.booleans(),
)
def test_of_two_that_fetch_one_piece_never_both_give_way(first, second, sites, part):
    piece = Piece(b"d/f", 4 * RANGE, RANGE if part else 0, part=part)
    a, b = sites
    stop = piece.stop if part else None
    give_a = gives_way(piece, a, first, claim(b, 0, piece.start, stop, second), now=1, patience=PATIENCE)
    give_b = gives_way(piece, b, second, claim(a, 0, piece.start, stop, first), now=1, patience=PATIENCE)
    assert not (give_a and give_b)
    if 2 * max(first, second) < piece.size:
        assert give_a == yields(piece.path, a, b)
        assert give_a != give_b


@pytest.mark.parametrize(
    ("received", "rival", "stops"),
    [
        (49, claim("HIGH"), True),
        (50, claim("HIGH"), False),  # half of it is here
        (0, claim("LOW"), False),
        (0, claim("HIGH", seen=-PATIENCE), False),  # its claim is void
        (0, claim("HIGH", stop=99), False),  # it does not fetch all that we lack
        (0, claim("HIGH", stop=100), True),
    ],
)
def test_the_lower_in_rank_stops_if_it_has_less_than_half(received, rival, stops):
    high, middle, low = ranking(F.path, ["kent", "lima", "oslo"])
    rival = SeenClaim({"HIGH": high, "LOW": low}[rival.site], rival.seen, rival.start, rival.stop)
    assert gives_way(F, middle, received, rival, now=0.0, patience=PATIENCE) is stops


# -- all of it together


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=30),
    st.dictionaries(st.sampled_from(SITES[1:]), st.integers(0, 30)),
    st.booleans(),
)
def test_all_work_is_done_when_owners_die_and_no_live_claim_is_broken(lengths, deaths, stealing):
    """Sites take turns, a tick each; a file takes some ticks; whoever dies never answers again. Those that
    are alive learn of it when the claims lapse."""
    files = [Piece(b"d%d/f" % i, length) for i, length in enumerate(lengths)]
    owners = {p: piece_owner(p, 1, SITES) for p in files}
    held: set[Piece] = set()
    claims: dict[bytes, dict[str, float]] = {p.path: {} for p in files}
    work: dict[str, tuple[Piece, int]] = {}
    for tick in range(400):
        alive = [s for s in SITES if tick < deaths.get(s, 10**9)]
        if tick > 40:  # by now the dead are known to be dead
            owners = {p: piece_owner(p, 1, alive) for p in files}
        for site in alive:
            if site in work:
                piece, left = work[site]
                claims[piece.path][site] = tick
                if left == 0:
                    held.add(piece)
                    del work[site], claims[piece.path][site]
                else:
                    work[site] = (piece, left - 1)
                continue
            shares = {
                s: OrderedDict.fromkeys(p for p in files if owners[p] == s and p not in held) for s in SITES
            }
            found = step(
                site,
                shares[site],
                {s: reversed(w) for s, w in shares.items() if s != site} if stealing else {},
                [(path, claim(s, seen)) for path, by in claims.items() for s, seen in by.items()],
                {s: Backlog(sum(p.size for p in w)) for s, w in shares.items()},
                now=tick,
                sites=alive,
            )
            if isinstance(found, Fetch):
                live = [s for s, seen in claims[found.piece.path].items() if tick - seen < PATIENCE]
                assert not live
                claims[found.piece.path][site] = tick
                work[site] = (found.piece, found.piece.size)
        if len(held) == len(files):
            return
    raise AssertionError(f"{len(held)} of {len(files)} after 400 ticks")

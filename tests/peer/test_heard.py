"""What is kept of siblings' claims follows what they make of them, whatever comes when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.model import Claim, Row
from cluster.peer import claims as own
from cluster.peer import heard
from cluster.peer.claims import Claims
from cluster.peer.codec import WireError
from cluster.peer.heard import Heard
from cluster.plan.slow import Headway

ROW = Row(size=7)
steps = st.lists(
    st.tuples(
        st.sampled_from(["claim", "start", "progress", "release", "clear", "go", "tell"]),
        st.sampled_from(["debian", "ctan"]),
        st.sampled_from([b"", b"pool"]),
        st.sampled_from([b"a", b"b"]),
        st.sampled_from([0, 64]),
    ),
    max_size=60,
)


def tell(claims: Claims, told: Heard, now: float) -> None:
    changes = claims.changes(now)
    for mirror in changes.cleared:
        told.cleared("kent", mirror)
    for mirror, directory, part in changes.released:
        told.released("kent", mirror, directory, [part])
    for mirror, directory, claim in changes.claimed:
        told.claimed("kent", mirror, directory, [claim], now)
    for mirror, headway in changes.going.items():
        told.goes("kent", mirror, headway)


@given(steps)
def test_a_sibling_that_hears_every_change_knows_what_is_claimed(taken):
    claims, told = Claims(), Heard()
    claims.listen(lambda: None)
    told.begin("kent")
    now = 0.0
    for what, mirror, directory, name, first in taken:
        now += 1.0
        match what:
            case "claim":
                claims.claim(mirror, directory, name, ROW, now, first=first)
            case "start":
                claims.start(mirror, directory, name, now, first=first)
            case "progress":
                claims.progress(mirror, directory, name, int(now), now, first=first)
            case "release":
                claims.release(mirror, directory, name, first=first)
            case "clear":
                claims.clear(mirror)
            case "go":
                claims.goes(mirror, Headway(int(now), first))
            case "tell":
                tell(claims, told, now)
    tell(claims, told, now)
    for mirror in ("debian", "ctan"):
        assert told.going(mirror).get("kent") == claims.going.get(mirror)
        for directory in (b"", b"pool"):
            known = [one.claim for one in told.within(mirror, directory, now)]
            said = claims.within(mirror, directory, now)
            key = lambda claim: (claim.name, claim.first)  # noqa: E731
            assert sorted(known, key=key) == sorted(said, key=key)
    assert told._sites["kent"].count == sum(
        len(told.within(mirror, directory, now))
        for mirror in ("debian", "ctan")
        for directory in (b"", b"pool")
    )


def test_a_claim_that_came_and_went_between_two_words_is_never_mentioned():
    claims = Claims()
    claims.listen(lambda: None)
    claims.claim("debian", b"", b"a", ROW, 0.0)
    claims.release("debian", b"", b"a")
    changes = claims.changes(1.0)
    assert not (changes.claimed or changes.released or changes.cleared)


def test_progress_of_one_fetch_is_told_twice_a_second_and_not_more_often():
    claims = Claims()
    claims.listen(lambda: None)
    claims.claim("debian", b"", b"a", ROW, 0.0)
    told = 0
    for tick in range(1000):  # ten seconds
        claims.progress("debian", b"", b"a", tick, tick / 100)
        told += len(claims.changes(tick / 100).claimed)
    assert 18 <= told <= 21


def test_what_is_not_renewed_grows_idle_and_what_is_repeated_has_not_advanced():
    told = Heard()
    told.begin("kent")
    told.claimed("kent", "debian", b"", [Claim(b"a", ROW, 5, 1.0)], 100.0)
    (one,) = told.at("debian", b"a", 103.0)
    assert (one.site, one.claim.idle, one.advanced) == ("kent", 4.0, 100.0)
    told.claimed("kent", "debian", b"", [Claim(b"a", ROW, 5, 0.0)], 110.0)
    (one,) = told.at("debian", b"a", 110.0)
    assert (one.claim.idle, one.advanced) == (0.0, 100.0)
    told.claimed("kent", "debian", b"", [Claim(b"a", ROW, 6, 0.0)], 120.0)
    assert told.at("debian", b"a", 120.0)[0].advanced == 120.0


def test_several_sites_and_several_parts_are_told_apart():
    told = Heard()
    for site in ("oslo", "kent"):
        told.begin(site)
        for first in (64, 0):
            told.claimed(site, "debian", b"d", [Claim(b"iso", ROW, first=first, end=first + 64)], 0.0)
    found = [(one.site, one.claim.first) for one in told.at("debian", b"d/iso", 0.0)]
    assert found == [("kent", 0), ("kent", 64), ("oslo", 0), ("oslo", 64)]
    told.gone("kent")
    assert {one.site for one in told.at("debian", b"d/iso", 0.0)} == {"oslo"}
    assert not told.knows("oslo")
    told.whole("oslo")
    assert told.knows("oslo")


def test_what_one_sibling_can_make_us_remember_is_bounded(monkeypatch):
    monkeypatch.setattr(heard, "MAX_CLAIMS", 50)
    monkeypatch.setattr(heard, "MAX_PARTS", 10)
    told = Heard()
    told.begin("kent")
    for n in range(1000):
        told.claimed("kent", "debian", b"%d" % n, [], 0.0)
        told.released("kent", "debian", b"%d" % n, [(b"a", 0)])
    assert not told._sites["kent"].claims.get("debian")
    with pytest.raises(WireError, match="more than 10 parts of one file"):
        told.claimed("kent", "debian", b"", [Claim(b"a", ROW, first=n) for n in range(60)], 0.0)
    told.begin("kent")
    with pytest.raises(WireError, match="more than 50 at once"):
        told.claimed("kent", "debian", b"", [Claim(b"%d" % n, ROW) for n in range(60)], 0.0)


def test_a_site_claims_no_more_than_its_siblings_accept(monkeypatch):
    monkeypatch.setattr(own, "MAX_TOLD", 10)
    claims = Claims()
    claims.listen(lambda: None)
    for n in range(30):
        claims.claim("debian", b"", b"%d" % n, ROW, 0.0)
    assert len(claims.changes(0.0).claimed) == 10
    assert len(claims.all("debian", 0.0)) == 10
    for n in range(10):
        claims.release("debian", b"", b"%d" % n)
    assert len(claims.changes(0.0).released) == 10
    assert len(claims.all("debian", 0.0)) == 10
    claims.clear("debian")
    claims.claim("debian", b"", b"new", ROW, 0.0)
    changes = claims.changes(0.0)
    assert (changes.cleared, len(changes.claimed)) == (["debian"], 1)

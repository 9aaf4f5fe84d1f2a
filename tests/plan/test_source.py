"""Where the bytes of a file come from."""

from cluster.model import MINUTE, SECOND, Claim, Entry, Kind, Offer, Offered, Row, Stamp, Trust
from cluster.plan.order import yields
from cluster.plan.source import SPOT_CHECK, FromOrigin, FromSibling, PutOff, choose, named_so

NOON = 1_700_000_040 * SECOND
ENTRY = Entry(b"f", size=10, mtime=Stamp(NOON // MINUTE * MINUTE, MINUTE))


THEN = Stamp(NOON, SECOND)


def offer(size=10, mtime=THEN, digest=b"d", **more) -> Offer:
    return Offer(b"f", Kind.FILE, size, digest * 32, mtime, Row(size, None, mtime), **more)


def holds(site: str, one: Offer) -> Offered:
    return Offered(site, {b"f": one}, {})


def claims(site: str, **more) -> Offered:
    return Offered(site, {}, {b"f": Claim(b"f", ENTRY.row, **more)})


def source(*offered: Offered, entry=ENTRY, trust=Trust.SIBLINGS):
    return choose(b"pool", entry, offered, own="kent", trust=trust, patience=5.0)


def test_a_sibling_that_holds_exactly_the_listed_version_is_taken():
    found = source(holds("oslo", offer()))
    assert isinstance(found, FromSibling)
    assert found.site == "oslo"


def test_another_size_time_or_kind_is_another_file():
    for other in (offer(size=11), offer(mtime=Stamp(NOON + 120 * SECOND, SECOND)), offer(mtime=None)):
        assert source(holds("oslo", other)) == FromOrigin()


def test_without_an_exact_size_from_the_origin_no_siblings_bytes_are_taken():
    rounded = Entry(b"f", rounded="10", mtime=ENTRY.mtime)
    assert source(holds("oslo", offer()), entry=rounded) == FromOrigin()


def test_the_copy_that_came_from_the_origin_is_preferred():
    found = source(holds("lancaster", offer(source="oslo")), holds("oslo", offer()))
    assert found.site == "oslo"
    assert found.others == ("lancaster",)


def test_what_a_sibling_is_fetching_is_put_off():
    assert source(claims("oslo", received=3)) == PutOff("oslo")


def test_a_claim_without_progress_is_void():
    assert source(claims("oslo", idle=5.0)) == FromOrigin()


def test_a_claim_for_another_version_is_no_claim():
    other = Offered("oslo", {}, {b"f": Claim(b"f", Row(99, None, ENTRY.mtime))})
    assert source(other) == FromOrigin()


def test_of_two_that_only_ask_so_far_the_one_that_ranks_first_goes_on():
    contested = source(claims("oslo", started=False))
    if yields(b"pool/f", "kent", "oslo"):
        assert contested == PutOff("oslo")
    else:
        assert contested == PutOff("oslo", contested=True)


def test_strict_needs_two_independent_copies_of_one_digest():
    one, two = holds("oslo", offer()), holds("lancaster", offer())
    assert source(one, trust=Trust.STRICT) == FromOrigin()
    found = source(one, two, trust=Trust.STRICT)
    assert isinstance(found, FromSibling)
    assert found.verified == "2 siblings"


def test_strict_does_not_count_a_copy_of_a_copy():
    one, echo = holds("oslo", offer()), holds("lancaster", offer(source="oslo"))
    assert source(one, echo, trust=Trust.STRICT) == FromOrigin()


def test_strict_asks_the_origin_where_siblings_contradict_each_other():
    assert (
        source(holds("oslo", offer()), holds("lancaster", offer(digest=b"e")), trust=Trust.STRICT)
        == FromOrigin()
    )


def test_strict_spot_checks_one_siblings_large_file():
    entry = Entry(b"f", size=SPOT_CHECK, mtime=ENTRY.mtime)
    found = source(holds("oslo", offer(size=SPOT_CHECK)), entry=entry, trust=Trust.STRICT)
    assert isinstance(found, FromSibling)
    assert found.spot_check


def test_what_the_origin_named_otherwise_there_or_not_at_all_is_not_the_version_that_it_names_now():
    told = [
        holds("bath", offer(etag='"now"')),
        holds("kent", offer(etag='"before"')),
        holds("oslo", offer(etag="")),
        holds("york", offer()),
        claims("hull", received=3),
    ]
    found = named_so(told, '"now"')
    assert {one.site for one in found if one.held} == {"bath"}
    assert [one.claims for one in found] == [one.claims for one in told]

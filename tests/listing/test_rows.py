"""Rows: what a generated directory looks like in every hand, doubles, sizes, limits, fingerprints, zones."""

from __future__ import annotations

import time
import zoneinfo
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import IncompleteListing, NotAListing, TooLarge
from cluster.listing import fingerprint, learnt, localised, parse, shifted
from cluster.listing.sizes import NO_SIZE, Size, size_of
from cluster.listing.times import autoindex_stamp, month_first, time_of
from cluster.model import DAY, MINUTE, SECOND, Entry, Kind, Listing, Stamp
from tests.listing import pages

URL = "http://127.0.0.1/p/"
UP_TO_2261 = 9_214_646_399  # the last year that 64 bits of ns hold whole

names = st.binary(min_size=1, max_size=40).filter(
    lambda n: n not in (b".", b"..") and not set(n) & set(b"/\0")
)
entries = st.dictionaries(
    names,
    st.tuples(st.booleans(), st.integers(0, 2**63 - 1), st.integers(0, UP_TO_2261)),
    max_size=8,
).map(
    lambda rows: [
        Entry(n, Kind.DIRECTORY, mtime=Stamp(t * SECOND, SECOND))
        if d
        else Entry(n, size=s, mtime=Stamp(t * SECOND, SECOND))
        for n, (d, s, t) in sorted(rows.items())
    ]
)


@pytest.mark.parametrize(
    "told",
    ["9999-12-31 23:59", "2262-01-01 00:00", "1677-12-31 00:00", "0000-00-00 00:00", "31-Dec-9999 23:59"],
)
def test_a_time_that_no_record_can_hold_is_no_time(told: str) -> None:
    found = time_of(told)
    assert found is None or found.stamp is None
    assert autoindex_stamp(told.encode()) is None


@pytest.mark.parametrize("style", pages.STYLES)
@settings(max_examples=60, deadline=None)
@given(directory=entries)
def test_a_directory_in_a_server_s_hand_is_given_back(style: str, directory: list[Entry]) -> None:
    listing = parse(pages.STYLES[style][0](directory), URL)
    assert list(listing.entries) == [pages.shown(entry, style) for entry in directory]


@pytest.mark.parametrize("style", pages.STYLES)
@settings(max_examples=40, deadline=None)
@given(directory=entries, share=st.floats(0, 1, exclude_max=True))
def test_a_generated_page_cut_short_loses_no_name_unnoticed(
    style: str, directory: list[Entry], share: float
) -> None:
    body = pages.STYLES[style][0](directory)
    try:
        part = parse(body[: int(len(body) * share)], URL)
    except (IncompleteListing, NotAListing):
        return
    assert list(part.entries) == [pages.shown(entry, style) for entry in directory]


def _nginx(*rows: tuple[str, str]) -> Listing:
    text = "".join(f'<a href="{n}">{n}</a>      21-Nov-2026 12:52        {s}\r\n' for n, s in rows)
    return parse(pages.nginx([]).replace(b"</pre>", text.encode() + b"</pre>"), URL)


def test_a_name_shown_twice_is_kept_once_and_marked_where_the_rows_differ() -> None:
    """HAZARDS 21."""
    listing = _nginx(("a", "1"), ("b", "3"), ("a", "2"), ("b", "3"), ("c/", "-"), ("c", "5"))
    rows = [(e.name, e.kind, e.size, e.ambiguous) for e in listing.entries]
    assert rows == [(b"a", Kind.FILE, None, True), (b"b", Kind.FILE, 3, False), (b"c", Kind.FILE, None, True)]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", Size(0)),
        ("5368709120", Size(5368709120)),
        ("9223372036854775807", Size(2**63 - 1)),
        ("9223372036854775808", Size(None, "9223372036854775808")),
        ("9" * 40, Size(None, "9" * 40)),
        ("9" * 5000, None),
        ("1.2M", Size(None, "1.2M")),
        ("1k", Size(None, "1k")),
        ("12 KiB", Size(None, "12 KiB")),
        ("690 KB", Size(None, "690 KB")),
        ("0.0K", Size(None, "0.0K")),
        ("868 B", Size(868)),
        ("833.00B", Size(833)),
        ("1,234 bytes", Size(1234)),
        ("1.5", Size(None, "1.5")),
        ("-5", Size(None, "-5")),
        ("-", NO_SIZE),
        ("—", NO_SIZE),
        ("", NO_SIZE),
        ("application/zip", None),
        ("2024-01-01", None),
        ("١٢", None),
    ],
)
def test_a_size_is_exact_only_where_it_is_printed_in_bytes(text: str, size: Size | None) -> None:
    """HAZARDS 52."""
    assert size_of(text) == size


@pytest.mark.parametrize(
    ("text", "seconds", "precision", "zoned"),
    [
        ("21-Nov-2026 12:52", 1795265520, MINUTE, False),
        ("2026-11-21 12:52", 1795265520, MINUTE, False),
        ("2026-Nov-21 12:52:20", 1795265540, SECOND, False),
        ("2026-11-21T12:52:20Z", 1795265540, SECOND, True),
        ("2026-11-21T12:52:20.00+02:00", 1795258340, SECOND // 100, True),
        ("Sat, 21 Nov 2026 12:52:20 GMT", 1795265540, SECOND, True),
        ("Sat Nov 21 12:52:20 UTC 2026", 1795265540, SECOND, True),
        ("Nov 21, 2026 12:52:20 PM", 1795265540, SECOND, False),
        ("21.11.2026 12:52", 1795265520, MINUTE, False),
        ("11/21/2026 12:52 PM", 1795265520, MINUTE, False),
        ("11/21/2026 12:52 AM", 1795222320, MINUTE, False),
        ("2026-11-21", 1795219200, DAY, False),
        ("01-Jan-1970 00:00", 0, MINUTE, False),
        ("13-Dec-1901 20:45", -2147483700, MINUTE, False),
        ("2038-01-20 00:00", 2147558400, MINUTE, False),
        ("2099-06-28 00:00", 4086288000, MINUTE, False),
    ],
)
def test_a_time_has_the_precision_that_it_is_printed_with(
    text: str, seconds: float, precision: int, zoned: bool
) -> None:
    """HAZARDS 48, 51."""
    time = time_of(text)
    assert time is not None
    assert (time.stamp, time.zoned) == (Stamp(int(seconds * SECOND), precision), zoned)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "00-Jan-2020 10:00",
        "31-Feb-2020 10:00",
        "01-Jan-0000 00:00",
        "2020-01-01 25:00",
        "05/11/2018",
        "5 files",
        "1.2M",
    ],
)
def test_what_names_no_time_gives_none(text: str) -> None:
    time = time_of(text)
    assert time is None or time.stamp is None


def test_one_date_beyond_twelve_tells_the_order_of_all() -> None:
    assert month_first(b"05/11/2018 10:15 and 28/09/2017") is False
    assert month_first(b"05/11/2018 10:15 and 9/28/2017") is True
    assert month_first(b"5/11/2018 10:15 AM") is True
    assert month_first(b"05/11/2018 10:15") is None


# -- limits ----------------------------------------------------------------------------------


def _many(count: int) -> bytes:
    stamp = Stamp(1_700_000_000 * SECOND, SECOND)
    return pages.nginx([Entry(b"package-%06d_amd64.deb" % i, size=i, mtime=stamp) for i in range(count)])


def test_a_hundred_thousand_names_are_read_in_about_a_second() -> None:
    """HAZARDS 57; 0.6 s here, the bound leaves room for a busy machine."""
    body = _many(100_000)
    start = time.process_time()
    assert len(parse(body, URL).entries) == 100_000
    assert time.process_time() - start < 2


@pytest.mark.parametrize("spoilt", [b"", b"<p>"], ids=["in shape", "out of shape"])
def test_more_names_than_the_limit_are_refused(spoilt: bytes) -> None:
    body = _many(1200).replace(b"<hr><pre>", spoilt + b"<hr><pre>")
    assert len(parse(body, URL, limit=1200).entries) == 1200
    with pytest.raises(TooLarge):
        parse(body, URL, limit=1199)
    with pytest.raises(TooLarge):
        parse(body, URL, limit=100)


def test_a_million_names_are_refused_before_anything_is_built() -> None:
    body = b"<html><title>Index of /</title><pre>" + b"".join(
        b"<a href=%d>x</a>\n" % i for i in range(1_000_000)
    )
    start = time.process_time()
    with pytest.raises(TooLarge):
        parse(body, URL)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("style", ["nginx json", "nginx xml"])
def test_other_formats_have_the_same_limit(style: str) -> None:
    body = pages.STYLES[style][0]([Entry(b"%d" % i, size=1, mtime=Stamp(0)) for i in range(100)])
    assert len(parse(body, URL, limit=100).entries) == 100
    with pytest.raises(TooLarge):
        parse(body, URL, limit=98)


def test_a_body_beyond_64_mib_is_refused() -> None:
    with pytest.raises(TooLarge):
        parse(b" " * (64 * 2**20 + 1), URL)


# -- fingerprints and zones ------------------------------------------------------------------


def test_listings_that_show_the_same_have_one_fingerprint() -> None:
    """HAZARDS 20: what was rejected, or how long the page was, makes no difference."""
    one, same = _nginx(("a", "1"), ("b/", "-")), _nginx(("b/", "-"), ("a", "1"), ("../evil", "1"))
    assert fingerprint(one) == fingerprint(same)
    others = [_nginx(("a", "2"), ("b/", "-")), _nginx(("a", "1"), ("b", "-")), _nginx(("a", "1"))]
    assert len({fingerprint(listing) for listing in [one, *others]}) == 4


SHOWN = Listing((Entry(b"a", mtime=Stamp(1795265520 * SECOND, MINUTE)),), zone_known=False)


@pytest.mark.parametrize(
    ("seconds", "hours"),
    [
        (1795265520 + 17, 0),
        (1795265520 - 7200 + 59, 2),
        (1795265520 + 12600, -3.5),
        (1795265520 - 20700, 5.75),
    ],
)
def test_one_file_s_own_time_tells_the_zone(seconds: int, hours: float) -> None:
    offset = learnt(SHOWN, b"a", seconds * SECOND)
    assert offset == int(hours * 60) * MINUTE
    placed = shifted(SHOWN, offset)
    assert placed.zone_known
    assert placed.entries[0].mtime is not None
    assert placed.entries[0].mtime.agrees(Stamp(seconds * SECOND, SECOND))


@pytest.mark.parametrize(
    ("listing", "name", "seconds"),
    [
        (SHOWN, b"b", 1795265520),  # no such row
        (SHOWN, b"a", 1795265520 + 60),  # changed since
        (SHOWN, b"a", 1795265520 - 15 * 3600),  # no zone is so far off
        (replace(SHOWN, entries=(Entry(b"a", mtime=Stamp(1795219200 * SECOND, DAY)),)), b"a", 1795219200),
        (replace(SHOWN, entries=(replace(SHOWN.entries[0], ambiguous=True),)), b"a", 1795265520),
    ],
)
def test_a_row_that_proves_nothing_teaches_no_zone(listing: Listing, name: bytes, seconds: int) -> None:
    assert learnt(listing, name, seconds * SECOND) is None


def test_a_zone_known_by_name_follows_its_summer() -> None:
    winter, summer = Stamp(1_704_110_400 * SECOND, MINUTE), Stamp(1_719_835_200 * SECOND, MINUTE)
    listing = Listing((Entry(b"s", mtime=summer), Entry(b"w", mtime=winter), Entry(b"x")), zone_known=False)
    placed = localised(listing, zoneinfo.ZoneInfo("Europe/Berlin"))
    stamps = [e.mtime.ns for e in placed.entries if e.mtime]
    assert stamps == [summer.ns - 2 * 60 * MINUTE, winter.ns - 60 * MINUTE]
    assert localised(placed, zoneinfo.ZoneInfo("Europe/Berlin")) == placed

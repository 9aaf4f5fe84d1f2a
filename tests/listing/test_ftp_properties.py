"""Whatever bytes come: a listing or a refusal. What a server prints is read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.errors import IncompleteListing, NotAListing, TooLarge
from cluster.listing.ftp import read_list, read_mlsd
from cluster.model import DAY, MINUTE, SECOND, Entry, Kind, Listing, Stamp
from tests.listing.test_ftp_dialects import TABLE

NOW = int(datetime(2026, 11, 22, 2, tzinfo=UTC).timestamp()) * SECOND
MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

names = st.binary(min_size=1, max_size=40).filter(
    lambda n: n not in (b".", b"..") and not set(n) & set(b"/\0") and b"\r\n" not in n
)
plain = st.from_regex(rb"[A-Z0-9$_]{1,8}", fullmatch=True)
seconds = st.integers(1, NOW // SECOND)


def when(stamp: Stamp) -> datetime:
    return EPOCH + timedelta(seconds=stamp.ns // SECOND)


def floored(second: int, precision: int) -> Stamp:
    return Stamp(second * SECOND // precision * precision, precision)


# -- how servers print an entry --------------------------------------------------------------


def unix(e: Entry) -> bytes:
    """As vsftpd: the year of what is older than half a year."""
    assert e.mtime
    t = when(e.mtime)
    last = b" %d" % t.year if e.mtime.precision == DAY else b"%02d:%02d" % (t.hour, t.minute)
    letter = {Kind.FILE: b"-", Kind.DIRECTORY: b"d", Kind.SYMLINK: b"l"}[e.kind]
    arrow = b" -> " + e.target if e.target else b""
    return b"%brw-r--r--    1 0        ftp   %12d %b %2d %b %b%b" % (
        *(letter, e.size or 0, MONTHS[t.month - 1], t.day, last, e.name, arrow),
    )


def mlsd(e: Entry) -> bytes:
    assert e.mtime
    word = {Kind.FILE: b"file", Kind.DIRECTORY: b"dir", Kind.SYMLINK: b"OS.unix=slink:"}[e.kind]
    told = b"size=%d;" % e.size if e.size is not None else b""
    time = when(e.mtime).strftime("%Y%m%d%H%M%S").encode()
    return b"modify=%b;%btype=%b%b;UNIX.mode=0644; %b" % (time, told, word, e.target or b"", e.name)


def iis(e: Entry) -> bytes:
    assert e.mtime
    t = when(e.mtime)
    field = b"%20d" % e.size if e.size is not None else b"      <DIR>         "
    return t.strftime("%m-%d-%Y  %I:%M%p ").encode() + field + b" " + e.name


def eplf(e: Entry) -> bytes:
    assert e.mtime
    told = b"r,s%d," % e.size if e.size is not None else b"/,"
    return b"+i1.2,m%d,%b\t%b" % (e.mtime.ns // SECOND, told, e.name)


def vms(e: Entry) -> bytes:
    assert e.mtime and e.rounded
    t = when(e.mtime)
    name = e.name if e.kind is Kind.FILE else e.name + b".DIR"
    time = b"%2d-%b-%d %02d:%02d:%02d" % (
        t.day,
        MONTHS[t.month - 1].upper(),
        t.year,
        t.hour,
        t.minute,
        t.second,
    )
    return b"%b;1\r\n   %b/9  %b  [G,O]  (RWED,RWED,RWED,RE)" % (name, e.rounded.split()[0].encode(), time)


def netware(e: Entry) -> bytes:
    assert e.mtime
    t = when(e.mtime)
    letter = b"-" if e.kind is Kind.FILE else b"d"
    return b"%b [R----F--] owner %12d       %b %2d  %d    %b" % (
        *(letter, e.size or 0, MONTHS[t.month - 1], t.day, t.year, e.name),
    )


def os2(e: Entry) -> bytes:
    assert e.mtime
    word = b"A      " if e.kind is Kind.FILE else b"    DIR"
    return b"%8d  %b  %b  %b" % (
        e.size or 0,
        word,
        when(e.mtime).strftime("%m-%d-%Y   %H:%M").encode(),
        e.name,
    )


def entry(name: bytes, kind: Kind, size: int, mtime: Stamp, target: bytes | None = None) -> Entry:
    return Entry(name, kind, size if kind is Kind.FILE else None, None, mtime, target=target)


def directories(
    name: st.SearchStrategy[bytes], precision: int, *, links: bool = False
) -> st.SearchStrategy[list[Entry]]:
    kinds = [Kind.FILE, Kind.DIRECTORY] + ([Kind.SYMLINK] if links else [])
    one = st.tuples(st.sampled_from(kinds), st.integers(0, 2**63 - 1), seconds, name)
    return st.dictionaries(name, one, min_size=1, max_size=6).map(
        lambda rows: [
            entry(n, k, s, floored(t, precision), target if k is Kind.SYMLINK else None)
            for n, (k, s, t, target) in sorted(rows.items())
        ]
    )


def aged(rows: list[Entry]) -> list[Entry]:
    """What vsftpd shows to the minute is at most half a year old."""
    return [
        e
        if not e.mtime or e.mtime.ns > NOW - 180 * DAY
        else replace(e, mtime=floored(e.mtime.ns // SECOND, DAY))
        for e in rows
    ]


arrowless = names.filter(lambda n: b" -> " not in b" " + n + b" " and b"; " not in n + b" ")
unpadded = names.filter(lambda n: not n[:1].isspace())

PRINTED: dict[str, tuple[Callable[[Entry], bytes], st.SearchStrategy[list[Entry]]]] = {
    "unix": (unix, directories(arrowless, MINUTE, links=True).map(aged)),
    "mlsd": (mlsd, directories(arrowless.filter(lambda n: b";" not in n), SECOND, links=True)),
    "iis": (iis, directories(unpadded, MINUTE)),
    "eplf": (eplf, directories(names, SECOND)),
    "netware": (netware, directories(unpadded, DAY)),
    "os/2": (os2, directories(unpadded, MINUTE)),
}


def read(form: str, body: bytes) -> Listing:
    return read_mlsd(body) if form == "mlsd" else read_list(body, now=NOW)


def facts(entries: list[Entry] | tuple[Entry, ...]) -> list[tuple[object, ...]]:
    return [(e.name, e.kind, e.size, e.mtime, e.target, e.ambiguous) for e in entries]


@pytest.mark.parametrize("form", PRINTED)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_a_server_prints_is_read_back(form: str, data: st.DataObject) -> None:
    printed, directory = PRINTED[form]
    rows = data.draw(directory)
    listing = read(form, b"".join(printed(e) + b"\r\n" for e in rows))
    assert facts(listing.entries) == facts(rows)
    assert not listing.rejected


@settings(max_examples=60, deadline=None)
@given(
    rows=st.dictionaries(
        plain, st.tuples(st.booleans(), st.integers(0, 10**6), seconds), min_size=1, max_size=6
    )
)
def test_what_openvms_prints_is_read_back(rows: dict[bytes, tuple[bool, int, int]]) -> None:
    made = [
        Entry(
            n + (b"" if d else b".X"),
            Kind.DIRECTORY if d else Kind.FILE,
            rounded=f"{b} blocks",
            mtime=floored(t, SECOND),
        )
        for n, (d, b, t) in sorted(rows.items())
    ]
    body = b"Directory D:[A]\r\n\r\n" + b"".join(vms(e) + b"\r\n" for e in made)
    listing = read_list(body + b"\r\nTotal of %d files, 1/9 blocks.\r\n" % len(made), now=NOW)
    assert {(e.name, e.kind, e.mtime) for e in listing.entries} == {(e.name, e.kind, e.mtime) for e in made}
    assert {e.rounded for e in listing.entries} - {None} == {e.rounded for e in made if e.kind is Kind.FILE}


@pytest.mark.parametrize("form", PRINTED)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_cut_shows_no_name_that_was_not_there(form: str, data: st.DataObject) -> None:
    """HAZARDS 34: a cut at the end of a row can only be told by the transfer itself."""
    printed, directory = PRINTED[form]
    rows = data.draw(directory)
    body = b"".join(printed(e) + b"\r\n" for e in rows)
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    try:
        part = read(form, cut)
    except (IncompleteListing, NotAListing):
        return
    if b"\r\n" in cut or not cut:
        assert {e.name for e in part.entries} <= {e.name for e in rows}


LINES = [line.encode() for _, lines, _ in TABLE.values() for line in lines]
PIECES = [
    b" ",
    b"  ",
    b"\t",
    b"\r",
    b"\n",
    b"->",
    b";",
    b",",
    b"1",
    b"99",
    b"Nov",
    b"12:30",
    b"2026",
    b"<DIR>",
    b"\xff",
]


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(LINES + PIECES), max_size=12).map(b"".join),
        st.lists(st.sampled_from(LINES), max_size=6)
        .map(b"\r\n".join)
        .flatmap(
            lambda body: st.tuples(st.integers(0, len(body)), st.sampled_from(PIECES)).map(
                lambda cut: body[: cut[0]] + cut[1] + body[cut[0] :] + b"\r\n"
            )
        ),
    ),
    st.integers(0, 2**62),
)
@example(b"\n", 0)
@example(b"-rw-r--r-- 1 u g 5 Feb 29 12:30 x\n", 2**62)
@example(b"+m-9223372037,r,\tx\n", 0)
def test_whatever_comes_is_a_listing_or_a_refusal(body: bytes, now: int) -> None:
    for answer in (body, body + b"\r\n"):
        for read_it in (read_mlsd, lambda b: read_list(b, now=now)):
            try:
                listing = read_it(answer)
            except (NotAListing, IncompleteListing, TooLarge):
                continue
            shown = [e.name for e in listing.entries]
            assert shown == sorted(set(shown))
            assert all(e.size is None or 0 <= e.size < 2**63 for e in listing.entries)
            assert all(e.mtime is None or abs(e.mtime.ns) < 2**63 for e in listing.entries)


@pytest.mark.parametrize(
    "unit",
    [
        b"1 a 1 1234 ",
        b"1 ",
        b"1",
        b" ",
        b"-",
        b"1 Jan 1 ",
        b"0, ",
        b"1,1",
        b" -> ",
        b"a=b;",
        b"2001-01-01 ",
        b"? ",
        b"a,",
    ],
)
@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"-rw-r--r-- ",
        b"-rw-r--r-- 1 u g 5 Nov 22 12:30 ",
        b"d [R----F--] o ",
        b"-C--E-----FTP B QUA1I1      18128 ",
        b"05-26-95  10:57AM ",
        b"+",
        b"A.TXT;1 ",
        b"SAVE00 3390   2004/06/23  ",
        b"PEP 4019 04/03/18 18:58:16 *STMF ",
    ],
)
def test_a_long_line_costs_what_its_length_is(head: bytes, unit: bytes) -> None:
    """Were it the square of the length, this one would take hours."""
    for answer in (head + unit * (400_000 // len(unit)) + b"\r\n", (head + unit * 10 + b"\r\n") * 2000):
        for read_it in (read_mlsd, lambda b: read_list(b, now=NOW)):
            try:
                read_it(answer)
            except (NotAListing, IncompleteListing, TooLarge):
                continue

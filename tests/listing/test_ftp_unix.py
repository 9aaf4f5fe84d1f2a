"""Rows of `ls -l` in every hand: names, kinds, sizes, times with their precision, links."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cluster.errors import IncompleteListing, NotAListing, TooLarge
from cluster.listing.ftp import read_list
from cluster.model import DAY, MINUTE, SECOND, Entry, Kind, Listing, Stamp

F, D, L, S = Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.SPECIAL


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def at(text: str) -> Stamp:
    """A day, a minute or a second, by the length of the text."""
    return Stamp(ns(text), {10: DAY, 16: MINUTE, 19: SECOND}[len(text)])


NOW = ns("2026-11-22 02:00")


def read(*lines: str | bytes, now: int = NOW, end: bytes = b"\r\n") -> Listing:
    told = [line.encode() if isinstance(line, str) else line for line in lines]
    return read_list(b"".join(line + end for line in told), now=now)


def only(line: str | bytes, now: int = NOW) -> Entry:
    (entry,) = read(line, now=now).entries
    return entry


ROWS = [
    # as vsftpd, ProFTPD and Pure-FTPd print them
    ("-rw-r--r--    1 0        0           12345 Nov 22 01:50 a.txt", F, b"a.txt", 12345, "2026-11-22 01:50"),
    ("-rw-r--r--   1 ftp      ftp         12345 Nov 22  2020 a.txt", F, b"a.txt", 12345, "2020-11-22"),
    ("drwxr-xr-x    2 ftp      ftp          4096 Aug  1 09:05 pool", D, b"pool", None, "2026-08-01 09:05"),
    ("lrwxrwxrwx    1 0 0  6 Mar 23  2016 l -> tmp.py", L, b"l", None, "2016-03-23"),
    ("crw-r----- 1 root kmem 0, 27 Jan 30 11:42 kmem", S, b"kmem", None, "2026-01-30 11:42"),
    ("crw-------   1 root sys 109,767 Jul  2  2004 pci@1c:ctl", S, b"pci@1c:ctl", None, "2004-07-02"),
    ("prw-r--r-- 1 root root 0 Jul  2  2004 pipe", S, b"pipe", None, "2004-07-02"),
    # owners: none, with spaces, numbers that look like sizes
    ("-rw-r--r-- 1 1 3518644 May 25 12:12 std", F, b"std", 3518644, "2026-05-25 12:12"),
    ("drwxr-xr-x 1 usernameftp 512 Jan 29 23:32 prog", D, b"prog", None, "2026-01-29 23:32"),
    ("-rwxr-xr-x   2 user  my group 500  5000000000 Mar  2 15:13 z", F, b"z", 5 * 10**9, "2026-03-02 15:13"),
    ("-rw-r--r-- 1 john smith Domain Users 7 Oct 2 10:59 .m", F, b".m", 7, "2026-10-02 10:59"),
    ("-rw-r--r-- 1 0 7 12 Mar 17  2001 x", F, b"x", 12, "2001-03-17"),
    # what else may follow the permissions
    ("drwxrwx---+ 23 500     500    0 Jan 10 13:09 acl", D, b"acl", None, "2026-01-10 13:09"),
    ("drwxr-x---+1464 chrism   chrism     41472 Feb 25 13:17 n", D, b"n", None, "2026-02-25 13:17"),
    ("-rw-r--r--. 1 root root 5 Feb 25 13:17 selinux", F, b"selinux", 5, "2026-02-25 13:17"),
    ("-rw-r--r--@ 1 root wheel 5 Feb 25 13:17 mac", F, b"mac", 5, "2026-02-25 13:17"),
    # names
    ("-rw-r--r-- 1 u g 5 Mar 17 11:07 test 1999 abc.pdf", F, b"test 1999 abc.pdf", 5, "2026-03-17 11:07"),
    ("-rw-r--r-- 1 u g 5 Mar 17 11:07   two before", F, b"  two before", 5, "2026-03-17 11:07"),
    ("-rw-r--r-- 1 u g 5 Mar 17  2011  one before", F, b" one before", 5, "2011-03-17"),
    ("-rw-r--r-- 1 u g 5 Mar 17 11:07 two behind  ", F, b"two behind  ", 5, "2026-03-17 11:07"),
    ("-rw-r--r-- 1 u g 5 Mar 17 11:07 a -> b", F, b"a -> b", 5, "2026-03-17 11:07"),
    ("-rw-r--r-- 1 u g 5 Mar 17 11:07 7 Mar 18 11:08 x", F, b"7 Mar 18 11:08 x", 5, "2026-03-17 11:07"),
    (b"-rw-r--r-- 1 u g 5 Mar 17 11:07 lat\xe9\x01\\\n", F, b"lat\xe9\x01\\\n", 5, "2026-03-17 11:07"),
    (b"-rw-r--r-- 1 u g 5 Mar 17 11:07 Icon\r", F, b"Icon\r", 5, "2026-03-17 11:07"),
    # times
    ("-rw-r--r-- 1 poh poh 6595 Jan 03 2016  left-aligned year", F, b"left-aligned year", 6595, "2016-01-03"),
    ("-rw-r----- 1 neeme neeme 346 2005-04-08 11:22 iso", F, b"iso", 346, "2005-04-08 11:22"),
    ("-rw-r----- 1 neeme neeme 346 2005-04-08  iso day", F, b"iso day", 346, "2005-04-08"),
    ("-rw-r----- 1 neeme neeme 346 04-08 11:22 iso young", F, b"iso young", 346, "2026-04-08 11:22"),
    ("-rw-r--r-- 1 u staff 9 Jul 17 09:01:12 2003 bsd -T", F, b"bsd -T", 9, "2003-07-17 09:01:12"),
    ("-rw-r-----   1 ravensm  sca  814 02 Mar 16:27 aix", F, b"aix", 814, "2026-03-02 16:27"),
    ("-rw-r--r-- 1 u g 9 Mar  1 12345 far", F, b"far", 9, None),
    ("-rw-r--r-- 1 u g 9 Feb 30  2001 no such day", F, b"no such day", 9, None),
    ("-rw-r--r-- 1 u g 9 Jan  1  1970 epoch", F, b"epoch", 9, "1970-01-01"),
    ("-rw-r--r-- 1 u g 9 Dec 14  1901 before", F, b"before", 9, "1901-12-14"),
    ("-rw-r--r-- 1 u g 9 Jan 20  2038 after", F, b"after", 9, "2038-01-20"),
    # sizes
    ("-rw-r--r-- 1 u g 9223372036854775807 Jan  1  1970 max", F, b"max", 2**63 - 1, "1970-01-01"),
    ("-rw-r--r-- 1 u g 9223372036854775808 Jan  1  1970 more", F, b"more", None, "1970-01-01"),
    # a Macintosh: resource fork, data fork, both
    ("-rw-r--r--    54149       27826    81975 Jul 22  2010 09.jpg", F, b"09.jpg", 81975, "2010-07-22"),
    ("drwxr-xr-x               folder        0 Jan  4 14:51 Steak", D, b"Steak", None, "2026-01-04 14:51"),
]


@pytest.mark.parametrize(("line", "kind", "name", "size", "time"), ROWS)
def test_a_row_is_read_whole(
    line: str | bytes, kind: Kind, name: bytes, size: int | None, time: str | None
) -> None:
    entry = only(line)
    assert (entry.kind, entry.name, entry.size) == (kind, name, size)
    assert entry.mtime == (at(time) if time else None)
    assert not entry.ambiguous


LOCALISED = [
    ("de", "-rw-r--r-- 1 u g 5 Mär  2 15:13 x", "2026-03-02 15:13"),
    ("de day first", "-rw-r--r-- 1 u g 5  2. Dez 2003 x", "2003-12-02"),
    ("fr", "-rw-r--r-- 1 u g 5 févr. 12 15:13 x", "2026-02-12 15:13"),
    ("fr day first", "-rw-r--r-- 1 u g 5 12 août  2003 x", "2003-08-12"),
    ("ru", "-rw-r--r-- 1 u g 5 янв 12 2003 x", "2003-01-12"),
    ("ja", "-rw-rw---- 1 u g 5 6月 3日 2003年 x", "2003-06-03"),
    ("zh", "-rw-rw---- 1 u g 5 12月  3 15:13 x", "2025-12-03 15:13"),
    ("ko", "-rw-rw---- 1 u g 5 10월  3일 15:13 x", "2026-10-03 15:13"),
]


@pytest.mark.parametrize(("line", "time"), [row[1:] for row in LOCALISED], ids=[row[0] for row in LOCALISED])
def test_months_are_read_in_the_server_s_language(line: str, time: str) -> None:
    entry = only(line)
    assert (entry.name, entry.size, entry.mtime) == (b"x", 5, at(time))


@pytest.mark.parametrize(
    ("line", "encoding"),
    [
        ("-rw-r--r-- 1 u g 5 Mär  2  2003 x", "latin-1"),
        ("-rw-r--r-- 1 u g 5 мар  2  2003 x", "koi8-r"),
        ("-rw-r--r-- 1 u g 5 3月 2日 2003年 x", "euc_jp"),
        ("-rw-r--r-- 1 u g 5 3月 2日 2003年 x", "shift_jis"),
        ("-rw-r--r-- 1 u g 5 3月  2  2003 x", "gb18030"),
    ],
)
def test_months_are_known_in_older_encodings(line: str, encoding: str) -> None:
    assert only(line.encode(encoding)).mtime == at("2003-03-02")


def test_a_month_that_two_languages_understand_differently_is_settled_by_the_rows_around_it() -> None:
    lis = "-rw-r--r-- 1 u g 5 lis  2  2003 a"
    assert only(lis).mtime is None
    assert read(lis, "-rw-r--r-- 1 u g 5 paź  2  2003 b").entries[0].mtime == at("2003-11-02")
    assert read(lis, "-rw-r--r-- 1 u g 5 srp  2  2003 b", "-rw-r--r-- 1 u g 5 svi  2  2003 c").entries[
        0
    ].mtime == at("2003-10-02")


YEARS = [
    # printed, now, read as (HAZARDS 50)
    ("Dec 31 23:59", "2027-01-01 00:00", "2026-12-31 23:59"),
    ("Jan  1 00:01", "2026-12-31 23:59", "2027-01-01 00:01"),  # the server is in a zone to the east
    ("Jan  2 02:00", "2027-01-01 00:00", "2027-01-02 02:00"),  # its clock is 26 hours ahead
    ("Jan  5 02:00", "2027-01-01 00:00", "2026-01-05 02:00"),
    ("Jul  1 12:00", "2026-07-01 12:00", "2026-07-01 12:00"),
    ("Jul  4 12:00", "2026-07-01 12:00", "2025-07-04 12:00"),
    ("Feb 29 00:00", "2024-02-29 12:00", "2024-02-29 00:00"),
    ("Feb 29 00:00", "2025-02-28 00:00", "2024-02-29 00:00"),
    ("Feb 28 12:00", "2024-02-27 00:00", "2024-02-28 12:00"),
    ("Feb 29 12:00", "2018-02-27 00:00", "2016-02-29 12:00"),  # no server's: the nearest there is
    ("Feb 29 12:00", "2019-03-01 00:00", "2020-02-29 12:00"),
]


@pytest.mark.parametrize(("printed", "now", "read_as"), YEARS)
def test_a_row_without_a_year_is_of_the_last_twelve_months(printed: str, now: str, read_as: str) -> None:
    assert only(f"-rw-r--r-- 1 u g 5 {printed} x", now=ns(now)).mtime == at(read_as)


def test_what_is_young_and_what_has_become_old_agree() -> None:
    """HAZARDS 51, 90: half a year later the same file shows its day alone."""
    young = only("-rw-r--r-- 1 u g 5 Nov 22 01:50 x").mtime
    old = only("-rw-r--r-- 1 u g 5 Nov 22  2026 x", now=ns("2027-06-01 00:00")).mtime
    assert young and old and young.agrees(old) and old.precision == DAY


def test_the_zone_is_known_only_where_every_row_names_it() -> None:
    full = "-rw-r--r-- 1 u g 5 2001-04-27 03:04:05.123456789 +0230 "
    listing = read(full + "a", full + "b")
    assert listing.zone_known and listing.entries[0].mtime == at("2001-04-27 00:34:05")
    assert not read(full + "a", "-rw-r--r-- 1 u g 5 Nov 22  2026 b").zone_known
    assert not read("-rw-r--r-- 1 u g 5 Nov 22  2026 b").zone_known


def test_permissions_and_numeric_owners_are_told() -> None:
    entry = only("-rwsr-S--T    1 1000     33           5 Nov 22  2020 x")
    assert (entry.mode, entry.uid, entry.gid) == (0o7740, 1000, 33)
    named = only("-rw-r-----    1 root     33           5 Nov 22  2020 x")
    assert (named.mode, named.uid, named.gid) == (0o640, None, 33)


def test_a_link_with_two_arrows_is_not_guessed() -> None:
    """HAZARDS 87: a link named `n -> m` reads like a link named `n`."""
    listing = read(
        "lrwxrwxrwx    1 0 0  6 Mar 23  2016 n -> m -> y -> z", "lrwxrwxrwx 1 0 0 1 Mar 23  2016 a -> b"
    )
    assert [(e.name, e.target) for e in listing.entries] == [(b"a", b"b")]
    assert [(r.name, r.kind) for r in listing.rejected] == [(b"n -> m -> y -> z", L)]


def test_a_link_without_its_target_is_still_a_link() -> None:
    assert only("lrwxrwxrwx   1 neeme neeme    23 2005-03-02 18:06 macros").kind is L
    assert only("lrwxrwxrwx   1 neeme neeme    23 2005-03-02 18:06 macros").target is None


def test_what_the_server_itself_could_not_look_at_is_marked() -> None:
    listing = read("total 4", "d????????? ? ?    ?       ?            ? locked", "-????????? ? ? ? ? ? b c")
    assert [(e.name, e.kind, e.ambiguous) for e in listing.entries] == [
        (b"b c", F, True),
        (b"locked", D, True),
    ]


def test_the_directory_itself_is_told_apart_from_what_it_holds() -> None:
    listing = read(
        "total 8",
        "drwxr-x---    2 0        0            4096 Nov 22 01:50 .",
        "drwxr-xr-x    9 0        0            4096 Nov 22 01:50 ..",
    )
    assert not listing.entries and not listing.rejected
    assert listing.own and listing.own.mode == 0o750


@pytest.mark.parametrize(
    "first", ["total 12", "total 1.2M", "insgesamt 8", "total: 0", "總計 4", "合計 4", "итого 20"]
)
def test_the_line_that_sums_up_is_passed_over(first: str) -> None:
    assert [e.name for e in read(first, "-rw-r--r-- 1 u g 5 Nov 22  2020 x").entries] == [b"x"]
    assert read(first).entries == ()


SOUND = "-rw-r--r-- 1 u g 5 Nov 22  2020 x"


@pytest.mark.parametrize(
    "line",
    [
        "what a hell?!",
        "",
        "total 12",
        "ls: cannot access 'x': Permission denied",
        "./sub:",
        "total nonsense",
        "-rw-r--r-- 1 u g 5 Jam 22  2020 x",
        "-rw-r--r-- 1 u g 5 Nov 36  2020 x",
        "-rw-r--r-- 1 u g 5 Nov 22 30:01 x",
        "-rw-r--r-- 1 u g 5 Nov 22 x",
        "-rw-r--r-- 1 u g 1:5 Nov 22  2020 x",
        "-rw-r--r-- 1u g 5 Nov 22  2020 x",
        "-rw-r--r-- 1 u g 6xx5 Nov 22  2020 x",
        "-rw-r--r-- 1 u g 5 Nov 22  2020",
        "-rw-r--r-- 1 u g 5 Nov 22  2020 ",
        "zrw-r--r-- 1 u g 5 Nov 22  2020 x",
        "-xrw-r--r- 1 u g 5 Nov 22  2020 x",
        "-rw-r--r-- 1 u g 5 Dic 22  2020 x",  # a month of another language
        "05-26-95  10:57AM               143712 x",
    ],
)
def test_one_line_that_is_no_row_refuses_the_whole_listing(line: str) -> None:
    with pytest.raises(NotAListing):
        read(SOUND, "-rw-r--r-- 1 u g 5 Dec 22  2020 y", line, SOUND)


def test_an_error_names_the_line() -> None:
    with pytest.raises(NotAListing, match=r"/pub: line 2 is of no known kind: 'Sorry.+'"):
        read_list(f"{SOUND}\nSorry\a\n".encode(), now=NOW, path="/pub")


def test_a_name_that_is_no_plain_component_is_refused_and_told() -> None:
    listing = read(
        SOUND, "-rw-r--r-- 1 u g 5 Nov 22  2020 ../y", f"-rw-r--r-- 1 u g 5 Nov 22  2020 {'n' * 256}"
    )
    assert [e.name for e in listing.entries] == [b"x"]
    assert [r.name for r in listing.rejected] == [b"../y", b"n" * 256]


def test_a_name_shown_twice_with_other_facts_is_marked() -> None:
    """HAZARDS 21."""
    same, other = read(SOUND, SOUND), read(SOUND, "-rw-r----- 1 u g 6 Nov 22  2020 x")
    assert [(e.size, e.ambiguous) for e in same.entries] == [(5, False)]
    assert [(e.size, e.mode, e.ambiguous) for e in other.entries] == [(None, 0o640, True)]


def test_an_answer_without_a_line_holds_nothing_and_says_so() -> None:
    """HAZARDS 33: the caller needs other evidence."""
    assert read_list(b"", now=NOW) == Listing((), format="empty")
    assert read_list(b"\r\n", now=NOW).entries == ()


def test_a_last_line_without_its_end_may_have_been_longer() -> None:
    """HAZARDS 34."""
    with pytest.raises(IncompleteListing):
        read_list(f"{SOUND}\r\n{SOUND}.tar".encode(), now=NOW)


def test_limits_hold() -> None:
    body = b"".join(b"-rw-r--r-- 1 u g 5 Nov 22  2020 %d\r\n" % i for i in range(11))
    with pytest.raises(TooLarge):
        read_list(body, now=NOW, limit=10)
    assert len(read_list(body, now=NOW, limit=11).entries) == 11
    with pytest.raises(TooLarge):
        read_list(b"x\n" * 2000, now=NOW, limit=10)


def test_more_rows_than_are_wanted_are_not_read_before_that_is_said() -> None:
    body = b"".join(b"-rw-r--r-- 1 u g 5 Nov 22  2020 %d\r\n" % i for i in range(200)) + b"what?\r\n"
    with pytest.raises(TooLarge, match="201 lines"):
        read_list(body, now=NOW, limit=100)
    with pytest.raises(NotAListing):
        read_list(body, now=NOW, limit=200)


def test_a_name_with_a_line_feed_makes_no_row_of_its_own() -> None:
    planted = b"-rw-r--r-- 1 u g 5 Nov 22  2020 a\n-rw-r--r-- 1 u g 5 Nov 22  2020 planted\r\n"
    assert [e.name for e in read_list(planted, now=NOW).entries] == [
        b"a\n-rw-r--r-- 1 u g 5 Nov 22  2020 planted"
    ]
    assert len(read_list(planted.replace(b"\r\n", b"\n"), now=NOW).entries) == 2

"""LIST otherwise than on Unix: one table for each dialect, and what each of them refuses."""

from __future__ import annotations

import pytest

from cluster.errors import IncompleteListing, NotAListing
from cluster.listing.ftp import read_list
from cluster.model import MINUTE, SECOND, Entry, Kind, Listing, Stamp
from tests.listing.test_ftp_unix import NOW, at

F, D, L, S = Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.SPECIAL


def read(*lines: str, now: int = NOW) -> Listing:
    return read_list("".join(f"{line}\r\n" for line in lines).encode(), now=now)


def rows(listing: Listing) -> list[tuple[Kind, str, int | str | None, Stamp | None]]:
    return [
        (e.kind, e.name.decode(), e.size if e.rounded is None else e.rounded, e.mtime)
        for e in listing.entries
    ]


TABLE: dict[str, tuple[str, list[str], list[tuple[Kind, str, int | str | None, str | None]]]] = {
    "IIS": (
        "dos",
        [
            "05-26-95  10:57AM               143712 $LDR$",
            "12-05-96  12:03AM       <DIR>          a b",
            "12-05-2026  12:03PM                   0 z",
        ],
        [
            (F, "$LDR$", 143712, "1995-05-26 10:57"),
            (D, "a b", None, "1996-12-05 00:03"),
            (F, "z", 0, "2026-12-05 12:03"),
        ],
    ),
    "Windows CE": (
        "dos",
        ["09-06-06  19:00                   69 desktop.ini", "09-13-10  20:08       <DIR>          Recycled"],
        [(D, "Recycled", None, "2010-09-13 20:08"), (F, "desktop.ini", 69, "2006-09-06 19:00")],
    ),
    "dir in the American order": (
        "dos",
        [
            " Volume in drive C is SYS",
            " Volume Serial Number is 1234-ABCD",
            "",
            " Directory of C:\\pub",
            "",
            " 9/11/2018   9:09 PM  <DIR>         .",
            " 9/11/2018   9:09 PM  <DIR>         ..",
            "10/10/2018  12:58 PM    34,359,738,368  win10.img",
            "       1 File(s)   34,359,738,368 bytes",
            "       2 Dir(s)     22,198,362,112 bytes free",
        ],
        [(F, "win10.img", 34359738368, "2018-10-10 12:58")],
    ),
    "dir with the day first": (
        "dos",
        ["23/09/2018  14:16    <DIR>    bin", "03/10/2018  14:16    12 x"],
        [(D, "bin", None, "2018-09-23 14:16"), (F, "x", 12, "2018-10-03 14:16")],
    ),
    "dir in an order that cannot be known": (
        "dos",
        ["03/10/2018  14:16    12 x"],
        [(F, "x", 12, None)],
    ),
    "dir in German": (
        "dos",
        ["03.10.2018  14:16             1.234.567 x", "03.10.2018  14:16    <DIR>          y"],
        [(F, "x", 1234567, "2018-10-03 14:16"), (D, "y", None, "2018-10-03 14:16")],
    ),
    "dir with the year first": (
        "dos",
        ["2015-07-29  12:11    <DIR>          n", "2015-07-30  12:11                12 x"],
        [(D, "n", None, "2015-07-29 12:11"), (F, "x", 12, "2015-07-30 12:11")],
    ),
    "links on Windows": (
        "dos",
        [
            "05-26-95  10:57AM       <JUNCTION>     Local Settings [C:\\Users\\x\\Local]",
            "05-26-95  10:57AM       <SYMLINKD>     d",
        ],
        [(L, "Local Settings", None, "1995-05-26 10:57"), (L, "d", None, "1995-05-26 10:57")],
    ),
    "OS/2": (
        "os/2",
        [
            "     0           DIR   12-30-97   12:32  jbrekke",
            "587823    RSA    DIR   01-08-97   13:58  OS2KRNL",
            " 33280      A          02-09-2001   13:49  OS2 LDR",
        ],
        [
            (F, "OS2 LDR", 33280, "2001-02-09 13:49"),
            (D, "OS2KRNL", None, "1997-01-08 13:58"),
            (D, "jbrekke", None, "1997-12-30 12:32"),
        ],
    ),
    "EPLF": (
        "eplf",
        [
            "+i8388621.48594,m825718503,r,s280,up644,\tdjb.html",
            "+i8388621.50690,m824255907,/,\t 514",
            "+\tneither",
            "+r,s9223372036854775808,m9223372037,\tbeyond",
        ],
        [
            (D, " 514", None, "1996-02-13 23:58:27"),
            (F, "beyond", None, None),
            (F, "djb.html", 280, "1996-03-01 22:15:03"),
            (S, "neither", None, None),
        ],
    ),
    "OpenVMS": (
        "vms",
        [
            "",
            "Directory USER1:[TEMP]",
            "",
            "1-JUN.LIS;1              9/9           2-JUN-1998 07:32:04  [GROUP,OWNER]  (RWED,RWED,RWED,RE)",
            "1-JUN.LIS;12            18/18          3-JUN-1998 07:32:04  [GROUP,OWNER]  (RWED,RWED,RWED,RE)",
            "1-JUN.LIS;3              9/9           2-JUN-1998 07:33:04  [GROUP,OWNER]  (RWED,RWED,RWED,RE)",
            "DATA.DIR;1               1/9           2-JUN-1998 07:32  [TRANSLATED]     (,RWED,RWED,RE)",
            "UNZIP_AND_ATTACH_FILES.COM;12",
            "                        14/15         24-JUL-2002 14:35:40.12  [TRANSLATED]    (RWE,RWE,RWE,RE)",
            "SHORT.;1                 7            19-nov-2001 21:41:02",
            "",
            "Total of 6 files, 58/60 blocks.",
        ],
        [
            (F, "1-JUN.LIS", "18 blocks", "1998-06-03 07:32:04"),
            (D, "DATA", None, "1998-06-02 07:32"),
            (F, "SHORT.", "7 blocks", "2001-11-19 21:41:02"),
            (F, "UNZIP_AND_ATTACH_FILES.COM", "14 blocks", "2002-07-24 14:35:40"),
        ],
    ),
    "NetWare": (
        "netware",
        [
            "total 0",
            "d [R----F--] supervisor            512       Jan 16 18:53    login",
            "- [RWCEAFMS] rwinston            19968       Mar 12  2005 Executive Summary.doc",
        ],
        [
            (F, "Executive Summary.doc", 19968, "2005-03-12"),
            (D, "login", None, "2026-01-16 18:53"),
        ],
    ),
    "Connect:Enterprise": (
        "connect:enterprise",
        ["-C--E-----FTP B QUA1I1      18128       41 Aug 12 13:56 QUADTEST"],
        [(F, "QUADTEST", 41, "2026-08-12 13:56")],
    ),
    "OS/400 in an order that all rows fit": (
        "os/400",
        [
            "PEP              4019 04/03/18 18:58:16 *STMF      einladung.zip",
            "PEP             36864 04/03/24 14:06:34 *DIR       dir1/",
            "PEP             36864 97/03/24 14:06:34 *SYMLNK    lnk",
            "QPGMR         1634713 04/03/24 15:45:09 *FILE      RPGUNIT.SAVF",
            "QPGMR         1634713 04/03/24 15:45:09 *FILE      PHYSICAL.FILE",
        ],
        [
            (S, "PHYSICAL.FILE", None, "2004-03-24 15:45:09"),
            (F, "RPGUNIT.SAVF", "1634713", "2004-03-24 15:45:09"),
            (D, "dir1", None, "2004-03-24 14:06:34"),
            (F, "einladung.zip", 4019, "2004-03-18 18:58:16"),
            (L, "lnk", None, "1997-03-24 14:06:34"),
        ],
    ),
    "OS/400 in an order that is not of the future": (
        "os/400",
        ["PEP              4019 27/03/18 18:58:16 *STMF      x"],
        [(F, "x", 4019, "2018-03-27 18:58:16")],
    ),
    "OS/400 in an order that cannot be known": (
        "os/400",
        ["MYUSER              3 06/12/11 12:00:00 *STMF      file with space.txt"],
        [(F, "file with space.txt", 3, None)],
    ),
    "OS/400 with paths": (
        "os/400",
        [
            "Z 9069 05/20/15 15:36:52 *STMF /DRV/AUD/A.PDF",
            "Z 9070 05/20/15 15:36:52 *STMF /DRV/AUD/B.PDF",
        ],
        [(F, "A.PDF", 9069, "2015-05-20 15:36:52"), (F, "B.PDF", 9070, "2015-05-20 15:36:52")],
    ),
    "z/OS data sets": (
        "z/os data sets",
        [
            "Volume Unit    Referred Ext Used Recfm Lrecl BlkSz Dsorg Dsname",
            "SAVE00 3390   2004/06/23  1    1  FB     128  6144  PS    INCOMING.RPTBM023",
            "PEX26F 3390   2017/07/03  115807  FB   29600 29600  PS    INCOMING.FIN",
            "NRP004 3390   **NONE**    1   15  NONE     0     0  PO    LIBRARY",
            "Pseudo Directory                                         DEEPER",
        ],
        [
            (D, "DEEPER", None, None),
            (F, "INCOMING.FIN", None, None),
            (F, "INCOMING.RPTBM023", "1 used", None),
            (D, "LIBRARY", None, None),
        ],
    ),
    "z/OS members": (
        "z/os members",
        [
            " Name     VV.MM   Created       Changed      Size  Init   Mod   Id",
            "SAVE03    01.03 2002/09/12 2002/10/11 09:37    11    11     0 KIL001",
            "SAVE04                                                              ",
        ],
        [(F, "SAVE03", "11 records", "2002-10-11 09:37"), (F, "SAVE04", None, None)],
    ),
}


@pytest.mark.parametrize(("form", "lines", "expected"), TABLE.values(), ids=list(TABLE))
def test_a_listing_is_read_in_its_dialect(
    form: str, lines: list[str], expected: list[tuple[Kind, str, int | str | None, str | None]]
) -> None:
    listing = read(*lines)
    assert listing.format == form
    assert rows(listing) == [(k, n, s, at(t) if t else None) for k, n, s, t in expected]
    assert not listing.rejected
    assert listing.zone_known is (
        form in ("eplf", "z/os data sets") or not any(e.mtime for e in listing.entries)
    )


def test_z_os_refuses_what_is_no_file_and_says_why() -> None:
    listing = read(
        "Volume Unit    Referred Ext Used Recfm Lrecl BlkSz Dsorg Dsname",
        "Migrated                                                  OLD.ONE",
        "ARCIVE Not Direct Access Device                           ON.TAPE",
        "TSO004 3390   VSAM                                        A.VSAM",
        "SAVE00 3390   2004/06/23  1    1  FB     128  6144  DA    DIRECT",
        "SAVE00 3390   2004/06/23  1    1  FB     128  6144  PS    'OTHER.QUALIFIER'",
    )
    assert not listing.entries
    assert {r.name: r.reason.rpartition(": ")[2] for r in listing.rejected} == {
        b"OLD.ONE": "Migrated",
        b"ON.TAPE": "ARCIVE Not Direct Access Device",
        b"A.VSAM": "TSO004 3390 VSAM",
        b"DIRECT": "DA",
        b"'OTHER.QUALIFIER'": "a data set of another qualifier",
    }


def test_a_jobs_queue_is_no_directory() -> None:
    with pytest.raises(NotAListing):
        read("IBMUSER1  JOB01906  OUTPUT    3 Spool Files")


def test_blanks_before_a_name_count_where_names_keep_a_column() -> None:
    iis = read(
        "05-26-95  10:57AM                    5 a",
        "05-26-95  10:57AM               143712   b",
        "12-05-96  05:03PM       <DIR>          c",
        "12-05-96  05:03PM       <DIR>           d",
    )
    assert [e.name for e in iis.entries] == [b"  b", b" d", b"a", b"c"]
    loose = read("05-26-95  10:57AM 5 a", "05-26-95  10:57AM 143712 b")
    assert [e.name for e in loose.entries] == [b"a", b"b"]


def test_openvms_modes_come_from_owner_group_and_world() -> None:
    listing = read(
        "A.TXT;1    9/9    2-JUN-1998 07:32:04  [G,O]    (RWED,RWED,RE,)",
        "B.DIR;1    9/9    2-JUN-1998 07:32:04  [G,O]    (RWED,RWE,RE,E)",
    )
    assert [e.mode for e in listing.entries] == [0o640, 0o751]


def test_openvms_names_what_it_may_not_show() -> None:
    listing = read(
        "A.TXT;1    9/9    2-JUN-1998 07:32:04  [G,O]    (RWED,RWED,RE,)",
        "B.DIR;1    No privilege for attempted operation",
        "C.TXT;1    %RMS-E-PRV, insufficient privilege or file protection violation",
    )
    assert [(e.name, e.kind, e.ambiguous) for e in listing.entries] == [
        (b"A.TXT", F, False),
        (b"B", D, True),
        (b"C.TXT", F, True),
    ]


@pytest.mark.parametrize(
    "lines",
    [
        ("Directory D:[A]", "", "A.TXT;1  9/9  2-JUN-1998 07:32:04", "", "Total of 2 files, 9/9 blocks."),
        ("05-26-95  10:57AM  5 a", "       2 File(s)   34 bytes"),
    ],
)
def test_a_listing_that_counts_more_rows_than_it_has_is_not_whole(lines: tuple[str, ...]) -> None:
    with pytest.raises(IncompleteListing, match="where the listing counts 2"):
        read(*lines)


UNIX = "-rw-r--r-- 1 u g 5 Nov 22  2020 x"


@pytest.mark.parametrize("name", [name for name in TABLE if len(TABLE[name][1]) > 1])
@pytest.mark.parametrize("line", [UNIX, "550 Not a plain file.", "<html>", "+", "total 5", "Directory D:[B]"])
def test_a_line_of_another_kind_refuses_the_whole_listing(name: str, line: str) -> None:
    lines = TABLE[name][1]
    for place in range(1, len(lines) + 1):
        if lines[place - 1].endswith(";12"):
            continue  # the row goes on in the next line
        with pytest.raises((NotAListing, IncompleteListing)):
            read(*lines[:place], line, *lines[place:])


@pytest.mark.parametrize(
    "line",
    [
        "13-26-95  10:57AM               143712 x",
        "20-05-97  03:31PM                  681 x",
        "05-26-95  13:57PM               143712 x",
        "05-26-95  24:57               143712 x",
        "05/26-95  10:57               143712 x",
        "05-26-195  10:57              143712 x",
        "05-26-95  10:57   <WHAT>      x",
        "05-26-95  10:57   34,35xx38,368    x",
        "05-26-95  10:57   5",
        "       3 File(s)   34 bytes",
        "     0           dir   05-12-97   16:44  x",
        "                 DIR   12-30-97   12:32  x",
        " 33280      A          1997-02-03  13:49  x",
        "     0           DIR   05-13-97   25:49  x",
        "+r,s5\tno comma",
        "+r,s5, no tab",
        "+r,s5,\t",
        "Directory D:[A]",
        "A.TXT; 1  9/9  2-JUN-1998 07:32:04",
        "A.TXT;1  9/9  2-JUN-98 07:32:04",
        "A.TXT;1  9/9  2-JUX-1998 07:32:04",
        "A.TXT;1  9/9  2-JUN-1998 27:32:04",
        "A.TXT;1  9/9  2-JUN-1998 07:32:04 PM  [G,O]  (RWED,RWED,RE,)",
        "A.TXT;1  9/9  2-JUN-1998 07:32:04  [G-1,O]  (RWED,RWED,RE,)",
        "A.TXT;1  9/9  2-JUN-1998 07:32:04  [G,O]  (RWED2,RWED,RE,)",
        "A.TXT;1",
        "a [-----F--] SCION_SYS                         512 Apr 13 23:52 SYS",
        "d [----AF--]          0                        512 10-04-2001 _ADMIN",
        "PEP              4019 04/03/18 18:58:16 STMF       x",
        "PEP              4019 04/13/38 30:58:16 *STMF      x",
        "PEP              4019 44/43/48 10:58:16 *STMF      x",
        "QPGMR          135168 04/03/18 13:18:19 *FILE",
        "Name      VV.MM   Created       Changed      Size  Init   Mod  Id   more",
        "SAVE03    01.03 2002/09/12 2002/10/11 09:37    11    11     0 KIL001",
        "MigratedP201.$FTXPBI1.$CF2ITB.$AAB0402.I",
        "SAVE00 3390   2004/06/23  1    1  FB     128  6144  PS",
        "total nonsense",
    ],
)
def test_a_line_that_no_dialect_knows_is_no_listing(line: str) -> None:
    with pytest.raises(NotAListing):
        read(line)


def test_eplf_tells_modes_and_names_no_zone_but_utc() -> None:
    assert read("+m1,r,up755,\tx").entries == (Entry(b"x", mtime=Stamp(SECOND, SECOND), mode=0o755),)


@pytest.mark.parametrize("line", [" Directory of C:\\other", "", " Volume in drive D is X"])
def test_a_head_between_rows_is_of_another_directory(line: str) -> None:
    with pytest.raises(NotAListing):
        read("05-26-95  10:57  5 a", line, "05-26-95  10:57  5 b")


def test_dates_in_two_orders_are_of_no_one_listing() -> None:
    for other in ("05/26/1995  10:57  5 b", "26.05.1995  10:57  5 b", "1995-05-26  10:57  5 b"):
        with pytest.raises(NotAListing):
            read("05-26-95  10:57  5 a", other)


def test_minutes_and_seconds_are_told_apart() -> None:
    listing = read("05-26-95  10:57  5 a", "05-26-95  10:57:00  5 b")
    assert [e.mtime.precision for e in listing.entries if e.mtime] == [MINUTE, SECOND]

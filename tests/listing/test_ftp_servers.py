"""What three servers sent for one and the same folder, on 2026-11-22 at 02:26 UTC, in binary mode."""

from __future__ import annotations

from cluster.listing.ftp import read_list, read_mlsd
from cluster.model import DAY, MINUTE, SECOND, Entry, Kind, Listing
from tests.listing.test_ftp_unix import at, ns

NOW = ns("2026-11-22 02:26")

VSFTPD_3_0_3 = b"""\
-rw-r--r--    1 ftp      ftp             5 Nov 22  2020   two
-rw-r--r--    1 ftp      ftp             5 Oct 13 02:26  lead
-rw-r--r--    1 ftp      ftp             1 Nov 22  2020 2020 x
lrwxrwxrwx    1 ftp      ftp            11 Nov 22 02:26 abs -> /etc/passwd
-rw-r--r--    1 ftp      ftp      5368709120 Nov 22  2020 big
-rw-r--r--    1 ftp      ftp             5 Nov 22  2020 cr\rx
drwxrwsr-x    2 ftp      ftp          4096 Nov 22 02:26 dir
-rw-r--r--    1 ftp      ftp             5 Nov 22  2020 end\r
-rw-r--r--    1 ftp      ftp             1 Jan 01  1970 epoch
prw-r--r--    1 ftp      ftp             0 Nov 22 02:26 fifo
-rw-r--r--    1 ftp      ftp             1 May 25 02:26 half
-rw-r--r--    1 ftp      ftp             5 Nov 22  2020 lat\xe9
lrwxrwxrwx    1 ftp      ftp             9 Nov 22 02:26 ln -> plain.txt
drwx------    2 ftp      ftp          4096 Nov 22 02:26 locked
lrwxrwxrwx    1 ftp      ftp             6 Nov 22 02:26 n -> m -> y -> z
-rw-r--r--    1 ftp      ftp             1 Jan 04  1960 neg
-rw-r--r--    1 ftp      ftp             5 Nov 22  2020 nl\0x
-rw-r--r--    2 ftp      ftp         12345 Nov 22 01:26 plain.txt
-rw-r-----    1 ftp      ftp             1 Nov 22  2020 secret
-rw-r--r--    1 ftp      ftp             5 Nov 22  2020 semi; colon
lrwxrwxrwx    1 ftp      ftp             6 Nov 22 02:26 spc -> a b; c
-rwsr-xr-x    1 ftp      ftp             1 Nov 22  2020 suid
-rw-r--r--    1 ftp      ftp             5 Nov 22  2020 trail 
"""  # noqa: W291
PROFTPD_1_3_8 = b"""\
modify=20201122000000;perm=adfr;size=5;type=file;unique=FE00U1;UNIX.mode=0644;UNIX.owner=0;UNIX.ownername=ftp;   two
modify=20261013022642;perm=adfr;size=5;type=file;unique=FE00U2;UNIX.mode=0644;UNIX.owner=0;UNIX.ownername=ftp;  lead
modify=20201122000000;perm=adfr;size=1;type=file;unique=FE00U3;UNIX.mode=0644;UNIX.owner=0;UNIX.ownername=ftp; 2020 x
modify=20261122022642;perm=fle;type=cdir;unique=FE00U4;UNIX.mode=0755;UNIX.owner=0;UNIX.ownername=ftp; .
modify=20261122022642;perm=fle;type=pdir;unique=FE00U4;UNIX.mode=0755;UNIX.owner=0;UNIX.ownername=ftp; ..
modify=20201122000000;perm=adfr;size=5368709120;type=file;unique=FE00U5;UNIX.mode=0644;UNIX.owner=0; big
modify=20201122000000;perm=adfr;size=5;type=file;unique=FE00U6;UNIX.mode=0644;UNIX.owner=0;UNIX.ownername=ftp; cr\rx
modify=20261122022642;perm=fle;type=dir;unique=FE00U7;UNIX.mode=02775;UNIX.owner=0;UNIX.ownername=ftp; dir
modify=20201122000000;perm=adfr;size=5;type=file;unique=FE00U8;UNIX.mode=0644;UNIX.owner=0;UNIX.ownername=ftp; end\r
modify=19700101000000;perm=adfr;size=1;type=file;unique=FE00U9;UNIX.mode=0644;UNIX.owner=0;UNIX.ownername=ftp; epoch
modify=20260525022642;perm=adfr;size=1;type=file;unique=FE00UA;UNIX.mode=0644;UNIX.owner=0;UNIX.ownername=ftp; half
modify=20201122000000;perm=adfr;size=5;type=file;unique=FE00UB;UNIX.mode=0644;UNIX.owner=0;UNIX.ownername=ftp; lat\xe9
modify=20261122022642;perm=adfr;size=9;type=OS.unix=symlink;unique=FE00UC;UNIX.mode=0777;UNIX.owner=0; ln
modify=20261122022642;perm=;type=dir;unique=FE00UD;UNIX.mode=0700;UNIX.owner=0;UNIX.ownername=ftp; locked
modify=19600104000000;perm=adfr;size=1;type=file;unique=FE00UE;UNIX.mode=0644;UNIX.owner=0;UNIX.ownername=ftp; neg
modify=20201122000000;perm=adfr;size=5;type=file;unique=FE00UF;UNIX.mode=0644;UNIX.owner=0;UNIX.ownername=ftp; nl\0x
modify=20261122012642;perm=adfr;size=12345;type=file;unique=FE00UC;UNIX.mode=0644;UNIX.owner=0; plain.txt
modify=20201122000000;perm=dfr;size=1;type=file;unique=FE00UG;UNIX.mode=0640;UNIX.owner=0;UNIX.ownername=ftp; secret
modify=20201122000000;perm=adfr;size=5;type=file;unique=FE00UH;UNIX.mode=0644;UNIX.owner=0; semi; colon
modify=20201122000000;perm=adfr;size=1;type=file;unique=FE00UI;UNIX.mode=04755;UNIX.owner=0;UNIX.ownername=ftp; suid
modify=20201122000000;perm=adfr;size=5;type=file;unique=FE00UJ;UNIX.mode=0644;UNIX.owner=0;UNIX.ownername=ftp; trail 
"""  # noqa: E501, W291
PURE_FTPD_1_0_50 = b"""\
type=file;size=5;modify=20201122000000;UNIX.mode=0644;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e0c3;   two
type=file;size=5;modify=20261013022642;UNIX.mode=0644;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e0b3;  lead
type=file;size=1;modify=20201122000000;UNIX.mode=0644;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e222; 2020 x
type=OS.unix=slink:;size=11;modify=20261122022642;UNIX.mode=0777;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e2e2; abs
type=file;size=5368709120;modify=20201122000000;UNIX.mode=0644;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e172; big
type=cdir;sizd=4096;modify=20261122022642;UNIX.mode=0755;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e088; .
type=pdir;sizd=4096;modify=20261122022642;UNIX.mode=0755;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e088; ..
type=dir;sizd=4096;modify=20261122022642;UNIX.mode=02775;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e262; dir
type=file;size=1;modify=19700101000000;UNIX.mode=0644;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e182; epoch
type=unknown;size=0;modify=20261122022642;UNIX.mode=0644;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e302; fifo
type=file;size=1;modify=20260525022642;UNIX.mode=0644;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e202; half
type=file;size=5;modify=20201122000000;UNIX.mode=0644;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e132; lat\xe9
type=OS.unix=symlink;size=9;modify=20261122022642;UNIX.mode=0777;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e2a1; ln
type=dir;sizd=4096;modify=20261122022642;UNIX.mode=0700;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e281; locked
type=OS.unix=slink:;size=6;modify=20261122022642;UNIX.mode=0777;UNIX.uid=0;UNIX.gid=0;unique=fe2b1; n -> m
type=file;size=1;modify=19600104000000;UNIX.mode=0644;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e192; neg
type=file;size=12345;modify=20261122012642;UNIX.mode=0644;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e094; plain.txt
type=file;size=1;modify=20201122000000;UNIX.mode=0640;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e1e2; secret
type=file;size=5;modify=20201122000000;UNIX.mode=0644;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e0f2; semi; colon
type=OS.unix=slink:;size=6;modify=20261122022642;UNIX.mode=0777;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e2d2; spc
type=file;size=1;modify=20201122000000;UNIX.mode=04755;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e1f2; suid
type=file;size=5;modify=20201122000000;UNIX.mode=0644;UNIX.uid=0;UNIX.gid=0;unique=fe00g21e0d2; trail 
"""  # noqa: W291

PLAIN = (b" lead", b"  two", b"trail ", b"2020 x", b"semi; colon", b"lat\xe9", b"big", b"plain.txt", b"half")
ODD = (b"cr\rx", b"end\r", b"nl\nx")


def sent(text: bytes) -> bytes:
    """As it came: lines end in CR LF, and a NUL above stands for the line feed within a name."""
    return text.replace(b"\n", b"\r\n").replace(b"\0", b"\n")


def named(listing: Listing) -> dict[bytes, Entry]:
    return {e.name: e for e in listing.entries}


def common(entries: dict[bytes, Entry], precision: int) -> None:
    """What all three say of the folder, each as precisely as it does."""
    assert {entries[name].kind for name in PLAIN} == {Kind.FILE}
    assert [entries[name].size for name in PLAIN] == [5, 5, 5, 1, 5, 5, 5 * 2**30, 12345, 1]
    assert entries[b"dir"].kind is entries[b"locked"].kind is Kind.DIRECTORY
    assert [entries[name].mode for name in (b"dir", b"locked", b"secret", b"suid")] == [
        *(0o2775, 0o700, 0o640, 0o4755),
    ]
    day = DAY if precision == MINUTE else precision
    told = {
        b"half": (at("2026-05-25 02:26:42"), precision),
        b" lead": (at("2026-10-13 02:26:42"), precision),
        b"  two": (at("2020-11-22 00:00:00"), day),
        b"epoch": (at("1970-01-01 00:00:00"), day),
        b"neg": (at("1960-01-04 00:00:00"), day),
    }
    for name, (stamp, width) in told.items():
        mtime = entries[name].mtime
        assert mtime and mtime.precision == width and mtime.agrees(stamp)


def test_vsftpd() -> None:
    listing = read_list(sent(VSFTPD_3_0_3), now=NOW)
    entries = named(listing)
    common(entries, MINUTE)
    assert set(ODD) <= set(entries)
    assert {n: e.target for n, e in entries.items() if e.kind is Kind.SYMLINK} == {
        b"abs": b"/etc/passwd",
        b"ln": b"plain.txt",
        b"spc": b"a b; c",
    }
    assert entries[b"fifo"].kind is Kind.SPECIAL
    assert [r.name for r in listing.rejected] == [b"n -> m -> y -> z"]
    assert not listing.zone_known


def test_proftpd() -> None:
    listing = read_mlsd(sent(PROFTPD_1_3_8))
    entries = named(listing)
    common(entries, SECOND)
    assert set(ODD) <= set(entries) and not listing.rejected
    assert (entries[b"ln"].kind, entries[b"ln"].target) == (Kind.SYMLINK, None)
    assert listing.own and listing.own.mode == 0o755


def test_pure_ftpd() -> None:
    listing = read_mlsd(sent(PURE_FTPD_1_0_50))
    entries = named(listing)
    common(entries, SECOND)
    assert not listing.rejected and not any(e.ambiguous for e in listing.entries)
    assert sorted(n for n, e in entries.items() if e.kind is Kind.SYMLINK) == [
        b"abs",
        b"ln",
        b"n -> m",
        b"spc",
    ]
    assert entries[b"fifo"].kind is Kind.SPECIAL


def test_one_folder_shown_by_two_servers_is_the_same_to_us() -> None:
    """HAZARDS 51, 90: at the coarser precision of the two."""
    by_list, by_mlsd = named(read_list(sent(VSFTPD_3_0_3), now=NOW)), named(read_mlsd(sent(PROFTPD_1_3_8)))
    for name in set(by_list) & set(by_mlsd):
        one, other = by_list[name], by_mlsd[name]
        assert (one.kind, one.size, one.mode) == (other.kind, other.size, other.mode)
        assert one.mtime and other.mtime and one.mtime.agrees(other.mtime)

"""Listings and single files through the real rsync: what comes back, how many children it takes."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from cluster.errors import Changed, IncompleteListing, OriginError, Refused, Unreachable, Vanished
from cluster.model import SECOND, Entry, Kind, Limits, Listing, OriginSpec, join
from cluster.origin.base import Want
from cluster.origin.rsync import RsyncOrigin
from cluster.origin.rsync_subtrees import Subtrees
from tests.origin.test_http_guard import certificate
from tests.servers import Server, program, rsyncd

NAMES = (b"nl\nx", b"lat-\xe9", b"back\\slash", b"lit\\#012", b" lead", b"trail ", b"a -> b", "ünï".encode(),
         b"esc\x1b[31m", b"cr\rx", b"tab\tx", b"-dash", b"sp*q?[x]", b"#hash", b";semi", b"del\x7f",
         b"a => b", b"sent 1 bytes  received 2 bytes  3")  # fmt: skip
THEN = 1_700_000_000 * SECOND + 123_456_789


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def server(root: Path) -> Iterator[Server]:
    with rsyncd(root) as running:
        yield running


def write(root: Path, path: bytes, body: bytes = b"body") -> Path:
    place = root / os.fsdecode(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(body)
    os.utime(place, ns=(THEN, THEN))
    return place


@asynccontextmanager
async def opened(url: str, limits: Limits | None = None, **spec: object) -> AsyncIterator[RsyncOrigin]:
    origin = RsyncOrigin(OriginSpec(url, **spec), limits or Limits())  # type: ignore[arg-type]
    try:
        yield origin
    finally:
        await origin.close()


async def everything(origin: RsyncOrigin, directory: bytes = b"") -> dict[bytes, Listing]:
    listing = await origin.listing(directory)
    found = {directory: listing}
    for entry in listing.entries:
        if entry.kind is Kind.DIRECTORY:
            found |= await everything(origin, join(directory, entry.name))
    return found


def by_name(listing: Listing) -> dict[bytes, Entry]:
    return {entry.name: entry for entry in listing.entries}


def some_tree(root: Path) -> int:
    """How many directories it has."""
    for path in (b"top", b"a/1", b"a/2", b"a/b/1", b"a/b/c/1", b"d/1", b"e f/1", b"e f/g*/1", b"z/1"):
        write(root, path)
    (root / "empty").mkdir()
    return 9


# -- what is told


async def test_names_are_the_bytes_that_they_are(root: Path, server: Server) -> None:
    for name in NAMES:
        write(root, name)
        write(root, join(name + b".d", name))
        os.symlink(name, os.path.join(os.fsencode(root), name + b".l"))
    async with opened(server.url) as origin:
        listings = await everything(origin)
        assert set(by_name(listings[b""])) == {n + end for n in NAMES for end in (b"", b".d", b".l")}
        for name in NAMES:
            assert by_name(listings[b""])[name + b".l"].target == name
            assert list(by_name(listings[name + b".d"])) == [name]
            assert list(by_name(await origin.listing(name + b".d"))) == [name]
            async with origin.read(join(name + b".d", name), Want(size=4)) as body:
                assert b"".join([chunk async for chunk in body.chunks()]) == b"body"


async def test_kinds_modes_owners_times_and_sizes(root: Path, server: Server) -> None:
    write(root, b"file", b"x" * 4321).chmod(0o640)
    (root / "sub").mkdir(mode=0o750)
    (root / "sub").chmod(0o1750)
    os.mkfifo(root / "fifo")
    os.symlink("/etc/passwd", root / "link")
    async with opened(server.url) as origin:
        listing = await origin.listing(b"")
    found = by_name(listing)
    file = found[b"file"]
    assert (file.kind, file.size, file.mode) == (Kind.FILE, 4321, 0o640)
    assert (file.uid, file.gid) == (os.geteuid(), os.getegid())
    assert file.mtime is not None
    assert (file.mtime.ns, file.mtime.precision) == (THEN // SECOND * SECOND, SECOND)
    assert (found[b"sub"].kind, found[b"sub"].mode) == (Kind.DIRECTORY, 0o1750)
    assert found[b"fifo"].kind is Kind.SPECIAL
    assert (found[b"link"].kind, found[b"link"].target) == (Kind.SYMLINK, b"/etc/passwd")
    assert listing.own is not None
    assert listing.own.mode == stat.S_IMODE(root.stat().st_mode)


async def test_a_body_comes_with_its_time_to_the_nanosecond(root: Path, server: Server) -> None:
    write(root, b"file")
    async with opened(server.url) as origin, origin.read(b"file", Want(size=4)) as body:
        assert body.facts.mtime is not None
        assert body.facts.mtime.ns == THEN


async def test_names_of_one_file_are_told_where_the_whole_tree_was_listed(root: Path, server: Server) -> None:
    write(root, b"pool/one")
    write(root, b"pool/alone")
    os.link(root / "pool/one", root / "two")
    os.link(root / "pool/one", root / "pool/three")
    async with opened(server.url) as origin:
        listings = await everything(origin)
        pool = by_name(listings[b"pool"])
        links = {pool[b"one"].link, pool[b"three"].link, by_name(listings[b""])[b"two"].link}
        assert len(links) == 1
        assert links != {None}
        assert pool[b"one"].links == 3
        assert pool[b"alone"].link is None
        again = by_name(await origin.listing(b"pool"))
        assert again[b"one"].link is None  # nothing is said of links by a directory alone


# -- how it is asked


async def test_one_child_lists_a_whole_tree(root: Path, server: Server) -> None:
    directories = some_tree(root)
    async with opened(server.url) as origin:
        assert len(await everything(origin)) == directories
        assert origin.traffic.requests == 1
        assert origin.traffic.listings > 0


async def test_who_asks_again_is_told_what_is_there_by_then(root: Path, server: Server) -> None:
    some_tree(root)
    async with opened(server.url) as origin:
        await everything(origin)
        write(root, b"a/new")
        assert b"new" in by_name(await origin.listing(b"a"))
        write(root, b"newer")
        assert b"newer" in by_name(await origin.listing(b""))


async def test_how_long_ago_the_origin_was_asked_is_told(root: Path, server: Server) -> None:
    some_tree(root)
    now = 1000.0
    async with opened(server.url) as origin:
        origin._subtrees._monotonic = lambda: now
        assert (await origin.listing(b"")).age == 0.0
        now += 60.0
        assert (await origin.listing(b"a")).age == 60.0
        now += 4000.0
        assert (await origin.listing(b"d")).age == 0.0  # too long ago: it was asked for again


async def test_a_known_listing_comes_back_as_the_same(root: Path, server: Server) -> None:
    some_tree(root)
    async with opened(server.url) as origin:
        known = {path: listing.token for path, listing in (await everything(origin)).items()}
    before = (root / "a/b").stat()
    write(root, b"a/b/new")
    os.utime(root / "a/b", ns=(before.st_atime_ns, before.st_mtime_ns))  # which is told above it as well
    async with opened(server.url) as origin:
        for path, token in known.items():
            assert (await origin.listing(path, token)).same is (path != b"a/b")


@pytest.mark.parametrize("subtree", [1, 2, 3, 5, 8])
async def test_a_tree_listed_in_pieces_is_the_tree(root: Path, server: Server, subtree: int) -> None:
    some_tree(root)
    async with opened(server.url) as origin:
        whole = {path: by_name(listing) for path, listing in (await everything(origin)).items()}
    async with opened(server.url) as origin:
        origin._subtrees._subtree = subtree
        assert {p: by_name(listing) for p, listing in (await everything(origin)).items()} == whole
        assert origin.traffic.requests > 1


async def test_several_who_ask_at_once_share_a_child(root: Path, server: Server) -> None:
    some_tree(root)
    async with opened(server.url) as origin:
        paths = (b"", b"a", b"a/b", b"d", b"e f")
        listings = await asyncio.gather(*(origin.listing(path) for path in paths))
        assert [bool(listing.entries) for listing in listings] == [True] * len(paths)
        assert origin.traffic.requests == 1


async def test_a_walk_that_goes_nowhere_lists_one_directory(root: Path, server: Server) -> None:
    some_tree(root)
    async with opened(server.url, Limits(depth=0)) as origin:
        assert set(by_name(await origin.listing(b""))) == {b"top", b"a", b"d", b"e f", b"z", b"empty"}
        assert not origin._subtrees._spool.child_of(b"a")


async def test_what_is_below_a_directory_asked_for_first_comes_together(root: Path, server: Server) -> None:
    some_tree(root)
    async with opened(server.url) as origin:
        assert len(await everything(origin, b"a")) == 3
        assert origin.traffic.requests == 2  # itself, then all below


async def test_a_root_that_is_a_link_is_what_it_leads_to(root: Path, server: Server) -> None:
    some_tree(root)
    os.symlink("a", root / "current")
    async with opened(server.url + "current/") as origin:
        assert set(await everything(origin)) == {b"", b"b", b"b/c"}


async def test_a_file_below_the_module_is_that_one_and_not_its_namesake(root: Path, server: Server) -> None:
    write(root, b"file", b"the module's own")
    write(root, b"debian/file", b"of that mirror!!")
    async with opened(server.url + "debian/") as origin:
        assert list(by_name(await origin.listing(b""))) == [b"file"]
        async with origin.read(b"file", Want(size=16)) as body:
            assert b"".join([chunk async for chunk in body.chunks()]) == b"of that mirror!!"


async def test_a_directory_that_went_is_gone_and_a_file_is_none(root: Path, server: Server) -> None:
    some_tree(root)
    async with opened(server.url + "a/") as origin:
        for path in (b"gone", b"b/gone"):
            with pytest.raises(Vanished):
                await origin.listing(path)
        with pytest.raises(Changed):
            await origin.listing(b"1")


# -- what goes wrong


async def test_a_directory_that_cannot_be_read_costs_that_one_alone() -> None:
    with tempfile.TemporaryDirectory(prefix="sideways-hidden-") as folder:
        root = Path(folder)
        some_tree(root)
        root.chmod(0o755)
        (root / "a/b").chmod(0)
        nobody = "uid = 65534\ngid = 65534" if os.geteuid() == 0 else ""
        with rsyncd(root, extra=nobody) as server:
            async with opened(server.url) as origin:
                for path in (b"", b"a", b"d", b"e f", b"e f/g*", b"z"):
                    assert (await origin.listing(path)).entries
                with pytest.raises(Refused):
                    await origin.listing(b"a/b")
                assert origin.traffic.requests < 8
        (root / "a/b").chmod(0o755)


async def test_without_a_server_nothing_is_proven(root: Path, server: Server) -> None:
    async with opened(server.url) as origin:
        server.stop()
        with pytest.raises(Unreachable):
            await origin.listing(b"")


async def test_a_module_that_does_not_exist_is_no_empty_one(server: Server) -> None:
    async with opened(server.url.replace("/m/", "/other/")) as origin:
        with pytest.raises(Refused, match="Unknown module"):
            await origin.listing(b"")


async def test_a_root_that_does_not_exist_has_not_vanished(server: Server) -> None:
    async with opened(server.url + "nothing/") as origin:
        with pytest.raises(Refused):
            await origin.listing(b"")


async def test_a_name_that_leads_to_a_private_address_is_refused(root: Path, server: Server) -> None:
    url = server.url.replace("127.0.0.1", "localhost")
    async with opened(url) as origin:
        with pytest.raises(Refused, match="not a public address"):
            await origin.listing(b"")
    async with opened(url, private=True, family="ipv4") as origin:
        assert (await origin.listing(b"")).entries == ()


async def test_a_file_that_changes_while_it_is_read_is_not_given_out(
    root: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, b"file", b"one")
    async with opened(server.url) as origin:
        reading = origin.read(b"file", Want(size=3))
        receive = reading._receive

        async def changing(size: int) -> bool:
            done = await receive(size)
            write(root, b"file", b"longer")
            return done

        monkeypatch.setattr(reading, "_receive", changing)
        with pytest.raises(Changed):
            await reading.__aenter__()
        assert not reading._folder


@pytest.mark.parametrize("there", [True, False], ids=["a folder of ours", "none yet"])
async def test_a_file_arrives_in_the_folder_that_is_for_it(
    root: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    write(root, b"d/file")
    ours, systems = tmp_path / "ours", tmp_path / "system"
    systems.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(systems))
    if there:
        ours.mkdir()
    origin = RsyncOrigin(OriginSpec(server.url), Limits(), str(ours))
    async with origin.read(b"d/file", Want(size=4)) as body:
        (copy,) = (ours if there else systems).rglob("file")
        assert b"".join([chunk async for chunk in body.chunks()]) == copy.read_bytes() == b"body"
        assert copy.parent.stat().st_mode & 0o777 == 0o700
    assert [*ours.glob("*"), *systems.iterdir()] == []
    await origin.close()


async def test_a_file_whose_place_here_is_taken_away_is_an_error_of_that_read(
    root: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, b"file", b"one")
    async with opened(server.url) as origin:
        reading = origin.read(b"file", Want(size=3))
        receive = reading._receive

        async def swept(size: int) -> bool:
            shutil.rmtree(reading._folder)
            return await receive(size)

        monkeypatch.setattr(reading, "_receive", swept)
        with pytest.raises(OriginError):
            await reading.__aenter__()
        monkeypatch.setattr(reading, "_receive", receive)
        monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: str(root / "not" / "there"))
        with pytest.raises(Unreachable, match="its private copy: No such file or directory"):
            await reading.__aenter__()


async def test_a_link_is_not_read_as_a_file(root: Path, server: Server) -> None:
    write(root, b"file")
    os.symlink("file", root / "link")
    async with opened(server.url) as origin:
        with pytest.raises(Changed):
            await origin.read(b"link", Want()).__aenter__()


# -- another rsync in its place


FAKE = """#!{python}
import os, sys, time
if "--version" in sys.argv:
    print("rsync  version {version}  protocol version 32")
    sys.exit(0)
sys.stdout.write(''.join('=' + row + '\\n' for row in {rows!r}))
sys.stdout.write({end!r})
sys.stdout.flush()
sys.stderr.write({said!r})
sys.stderr.flush()
if {code} < 0:
    os.kill(os.getpid(), -({code}))
sys.exit({code})
"""
ROWS = [
    "./" + "//cd+++++++++ rwxr-xr-x 1 2023/11/14-22:13:20 0 0",
    "a//>f+++++++++ rw-r--r-- 1 2023/11/14-22:13:20 0 0",
]
END = "\nsent 1 bytes  received 20 bytes  42.00 bytes/sec\n"


def instead(folder: Path, monkeypatch: pytest.MonkeyPatch, **facts: object) -> None:
    """A program that prints the rows of a directory with one file, and ends as it is told to."""
    told = {"version": "3.5.0", "rows": ROWS, "end": END, "said": "", "code": 0, "python": sys.executable}
    made = folder / "bin"
    made.mkdir()
    (made / "rsync").write_text(FAKE.format(**{**told, **facts}))
    (made / "rsync").chmod(0o755)
    monkeypatch.setenv("PATH", f"{made}:{os.environ['PATH']}")


async def test_a_listing_with_a_good_end_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(tmp_path, monkeypatch)
    async with opened("rsync://127.0.0.1:9/m/") as origin:
        assert list(by_name(await origin.listing(b""))) == [b"a"]
        assert origin.traffic.listings == 20


@pytest.mark.parametrize(
    ("code", "said", "error"),
    [
        (23, 'rsync: [sender] opendir "/x" (in m) failed: Input/output error (5)\n', IncompleteListing),
        (24, 'file has vanished: "/x" (in m)\n', IncompleteListing),
        (24, "", IncompleteListing),
        (5, "@ERROR: max connections (1) reached -- try again later\n", Unreachable),
        (5, "@ERROR: auth failed on module m\n", Refused),
        (5, "@ERROR: Unknown module 'm'\n", Refused),
        (5, "a banner that means nothing\n", Unreachable),
        (10, "rsync: connection refused\n", Unreachable),
        (12, "rsync: connection unexpectedly closed (0 bytes received so far)\n", Unreachable),
        (
            30,
            "rsync error: timeout in data send/receive (code 30) at io.c(1)\n",
            Unreachable,
        ),
        (4, "rsync: The server is configured to refuse --hard-links (-H)\n", Refused),
        (1, "rsync: --nonsense: unknown option\n", Refused),
        (-11, "", Unreachable),
    ],
)
async def test_a_listing_with_a_bad_end_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str, error: type[OriginError]
) -> None:
    instead(tmp_path, monkeypatch, code=code, said=said)
    async with opened("rsync://127.0.0.1:9/m/") as origin:
        with pytest.raises(error) as raised:
            await origin.listing(b"")
        assert type(raised.value) is error
        assert (raised.value.retry_after is not None) is ("max connections" in said)


async def test_a_listing_without_its_end_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(tmp_path, monkeypatch, end="")
    async with opened("rsync://127.0.0.1:9/m/") as origin:
        with pytest.raises(IncompleteListing):
            await origin.listing(b"")


@pytest.mark.parametrize("version", ["3.4.2", "3.2.7", "2.6.9", "nonsense"])
async def test_an_rsync_that_is_not_safe_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    instead(tmp_path, monkeypatch, version=version)
    async with opened("rsync://127.0.0.1:9/m/") as origin:
        with pytest.raises(Refused, match=r"older than 3\.4\.3"):
            await origin.listing(b"")


async def test_what_a_server_says_is_one_line_without_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(tmp_path, monkeypatch, code=5, said="@ERROR: \x1b[31m<b>" + "x" * 5000 + "\nand more\n")
    async with opened("rsync://127.0.0.1:9/m/") as origin:
        with pytest.raises(Unreachable) as raised:
            await origin.listing(b"")
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 400


# -- who we are


def protected(folder: Path, password: str) -> str:
    secrets = folder / "secrets"
    secrets.write_text(f"kent:{password}\n")
    secrets.chmod(0o600)
    return f"auth users = kent\nsecrets file = {secrets}"


def secret(folder: Path, text: str, mode: int = 0o600) -> str:
    file = folder / "credentials"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


async def test_a_password_is_sent_and_never_an_argument(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, b"file")
    real = program("rsync")
    made = tmp_path / "bin"
    made.mkdir()
    (made / "rsync").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\nexec {real} "$@"\n')
    (made / "rsync").chmod(0o755)
    with rsyncd(root, extra=protected(tmp_path, "horse:staple")) as server:
        monkeypatch.setenv("PATH", f"{made}:{os.environ['PATH']}")
        file = secret(tmp_path, "kent:horse:staple\n")
        async with opened(server.url, credentials=file) as origin:
            assert list(by_name(await origin.listing(b""))) == [b"file"]
            async with origin.read(b"file", Want(size=4)) as body:
                assert [chunk async for chunk in body.chunks()] == [b"body"]
    arguments = (tmp_path / "arguments").read_text()
    assert "kent@" in arguments
    assert "staple" not in arguments


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("kent:wrong", 0o600, "auth failed"),
        ("kent:horse", 0o644, "open to others"),
        ("kent", 0o600, "must have one line, user:password"),
        ("a:b\nc:d\n", 0o600, "must have one line, user:password"),
        ("--evil:x", 0o600, "auth failed|user:password"),
    ],
)
async def test_credentials_that_do_not_work_are_said_without_them(
    root: Path, tmp_path: Path, text: str, mode: int, message: str
) -> None:
    with rsyncd(root, extra=protected(tmp_path, "horse")) as server:
        async with opened(server.url, credentials=secret(tmp_path, text, mode)) as origin:
            with pytest.raises(Refused, match=message) as raised:
                await origin.listing(b"")
    assert "wrong" not in str(raised.value)


async def test_a_server_that_wants_a_password_says_so_in_one_plain_line(root: Path, tmp_path: Path) -> None:
    with rsyncd(root, extra=protected(tmp_path, "horse")) as server:
        async with opened(server.url) as origin:
            with pytest.raises(Refused, match=r"^/: @ERROR: auth failed on module m \(rsync exit 5\)$"):
                await origin.listing(b"")


SSH = """#!/bin/sh
echo "$@" >> {log}
while [ "${{1#-}}" != "$1" ]; do
  case "$1" in -l) shift 2;; *) shift;; esac
done
shift
exec "$@"
"""


async def test_by_ssh_without_a_question_and_with_the_host_under_its_name(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_tree(root)
    made = tmp_path / "bin"
    made.mkdir()
    (made / "ssh").write_text(SSH.format(log=tmp_path / "arguments"))
    (made / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{made}:{os.environ['PATH']}")
    url = f"rsync+ssh://mirror@localhost:2222{root}/a/"
    key = secret(tmp_path, "key")
    async with opened(url, private=True, family="ipv4", credentials=key, ca="/k/h") as origin:
        assert set(await everything(origin)) == {b"", b"b", b"b/c"}
        assert "mirror" not in origin.url
    arguments = (tmp_path / "arguments").read_text()
    for word in ("BatchMode=yes", "StrictHostKeyChecking=yes", "HostKeyAlias=[localhost]:2222", "Port=2222",
                 f"IdentityFile={tmp_path}/credentials", "UserKnownHostsFile=/k/h", "-l mirror"):  # fmt: skip
        assert word in arguments


@asynccontextmanager
async def behind_tls(server: Server, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port where the daemon is reached over TLS."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(2**16):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(copy(reader, ours), copy(theirs, writer))

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def test_over_tls_the_certificate_and_its_name_are_verified(
    root: Path, server: Server, tmp_path: Path
) -> None:
    some_tree(root)
    for folder in ("own", "other", "elsewhere"):
        (tmp_path / folder).mkdir()
    own, context = certificate(tmp_path / "own", "localhost")
    other, _ = certificate(tmp_path / "other", "localhost")
    elsewhere, misnamed = certificate(tmp_path / "elsewhere", "mirror.example")
    for shown, ca, good in ((context, own, True), (context, other, False), (misnamed, elsewhere, False)):
        async with behind_tls(server, shown) as port:
            url = f"rsyncs://localhost:{port}/m/"
            async with opened(url, private=True, family="ipv4", ca=ca) as origin:
                if good:
                    assert len(await everything(origin)) == 9
                    async with origin.read(b"a/1", Want(size=4)) as body:
                        assert [chunk async for chunk in body.chunks()] == [b"body"]
                    with pytest.raises(Vanished):  # though openssl has something to say of every connection
                        async with origin.read(b"a/gone", Want(size=4)):
                            pass
                else:
                    with pytest.raises((Refused, Unreachable)):
                        await origin.listing(b"")


async def test_over_tls_a_port_where_nobody_listens_is_said_in_words() -> None:
    with socket.socket() as taken:  # bound, never listening
        taken.bind(("127.0.0.1", 0))
        url = f"rsyncs://127.0.0.1:{taken.getsockname()[1]}/m/"
        async with opened(url) as origin:
            with pytest.raises(Unreachable, match="cannot connect: Connection refused"):
                await origin.listing(b"")


async def test_children_end_with_the_origin(
    root: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_tree(root)
    begun = asyncio.Event()
    take = Subtrees._list

    async def told(self: Subtrees, child: object) -> None:
        begun.set()
        await take(self, child)  # type: ignore[arg-type]

    monkeypatch.setattr(Subtrees, "_list", told)
    async with opened(server.url) as origin:
        waiting = asyncio.create_task(origin.listing(b""))
        await begun.wait()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not origin._subtrees._running

"""A tree that is too large to be fetched for a measurement: an origin that computes its listings, and sites
whose records and folders are filled as passes would have left them.

As a program it is the origin: `python -m tests.bench.vast PORT FILES CHANGED`. Every leaf directory has 100
files; in CHANGED of them, spread over the tree, the first file is of a later hour. `GET /-/asked` tells how
many listings have been asked for since the last such question.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from cluster.config.load import load
from cluster.engine.passes import _rules as rules_of
from cluster.model import Attributes, Held, Kind, Mirror, Row, Site, Stamp, join
from cluster.plan.compare import mode_for
from cluster.store import agreement, rows, schema
from cluster.store.mirror import MirrorStore
from tests.bench.measure import Unusable
from tests.bench.sites import MIRROR, Place
from tests.servers import free_port

EACH = 100  # files of one leaf directory
SIZE = 1000  # bytes of a file
LINKS = 50_000  # names of one inode: ext4 allows 65 000
BATCH = 500  # directories written together
MINUTE = 60 * 10**9
BEFORE, LATER = (time.strftime("%d-%b-%Y %H:%M", time.gmtime(at)) for at in (1_700_000_000, 1_700_003_600))
AT = 1_700_000_000 // 60 * MINUTE  # ns; what the listings show

_ROW = '<a href="{0}">{0}</a>{1} {2} {3:>19}\r\n'
_PAGE = "<html>\r\n<head><title>Index of /{0}</title></head>\r\n<body>\r\n<h1>Index of /{0}</h1><hr><pre>"
_END = "</pre><hr></body>\r\n</html>\r\n"


def _row(name: str, at: str, size: str) -> str:
    return _ROW.format(name, " " * max(0, 50 - len(name)), at, size)


@dataclass(frozen=True, slots=True)
class Vast:
    """The tree: `files` names in leaf directories, three levels deep, with as many children at each."""

    files: int
    changed: int = 0

    @property
    def leaves(self) -> int:
        return max(1, self.files // EACH)

    @property
    def fan(self) -> int:
        return max(2, round(self.leaves ** (1 / 3) + 0.499))

    def leaf(self, number: int) -> bytes:
        fan = self.fan
        return b"%03d/%03d/%03d" % (number // fan**2, number // fan % fan, number % fan)

    def late(self) -> set[bytes]:
        """The leaves that have a changed file."""
        return {self.leaf(i * self.leaves // self.changed) for i in range(self.changed)}

    def below(self) -> dict[bytes, list[bytes]]:
        """Subdirectories, of every directory that is no leaf; sorted."""
        found: dict[bytes, dict[bytes, None]] = {b"": {}}
        for number in range(self.leaves):
            above = b""
            for part in self.leaf(number).split(b"/")[:-1]:
                found[above][part] = None
                above = join(above, part)
                found.setdefault(above, {})
            found[above][self.leaf(number).rpartition(b"/")[2]] = None
        return {path: list(names) for path, names in found.items()}

    def page(self, path: bytes, below: dict[bytes, list[bytes]], *, late: bool = False) -> bytes:
        """As nginx writes it."""
        names = below.get(path)
        text = (
            _page_of_files(late)
            if names is None
            else "".join(_row(f"{n.decode()}/", BEFORE, "-") for n in names)
        )
        title = f"{path.decode()}/" if path else ""
        return f'{_PAGE.format(title)}<a href="../">../</a>\r\n{text}{_END}'.encode()


_FILES: dict[bool, str] = {}


def _page_of_files(late: bool) -> str:
    if late not in _FILES:
        ats = [LATER if late and i == 0 else BEFORE for i in range(EACH)]
        _FILES[late] = "".join(_row(f"file{i:02d}.bin", at, str(SIZE)) for i, at in enumerate(ats))
    return _FILES[late]


# -- the origin


class _Origin(asyncio.Protocol):
    asked = 0

    def __init__(self, tree: Vast, below: dict[bytes, list[bytes]], late: set[bytes]) -> None:
        self._tree, self._below, self._late = tree, below, late
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head, self._read = self._read[:end], self._read[end + 4 :]
            method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
            self._answer(method == b"HEAD", target.lstrip(b"/"))

    def _answer(self, head: bool, target: bytes) -> None:
        kind, at = b"text/html", LATER
        if target == b"-/asked":
            body, _Origin.asked = str(_Origin.asked).encode(), 0
        elif not target or target.endswith(b"/"):
            path = target.rstrip(b"/")
            body = self._tree.page(path, self._below, late=path in self._late)
            _Origin.asked += 1
        else:
            late = target.endswith(b"file00.bin") and target.rpartition(b"/")[0] in self._late
            body, kind, at = bytes(SIZE), b"application/octet-stream", LATER if late else BEFORE
        moment = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.strptime(at, "%d-%b-%Y %H:%M"))
        self._transport.write(  # type: ignore[attr-defined]  # of a TCP connection
            b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\nDate: %b\r\n%b\r\n"
            % (
                kind,
                len(body),
                time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode(),
                b"" if kind == b"text/html" else b"Last-Modified: %b\r\n" % moment.encode(),
            )
            + (b"" if head else body)
        )


async def _serve(port: int, tree: Vast) -> None:
    below, late = tree.below(), tree.late() if tree.changed else set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Origin(tree, below, late), "127.0.0.1", port)
    await server.serve_forever()


@dataclass(slots=True)
class Listed:
    """The origin under way."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def asked(self) -> int:
        """Listings since the last question."""
        with urllib.request.urlopen(f"{self.url}-/asked", timeout=30) as answer:
            return int(answer.read())


@contextmanager
def origin(tree: Vast, port: int | None = None) -> Iterator[Listed]:
    """The origin of a tree; ends with the block, or with this program."""
    port = port or free_port()
    command = [sys.executable, "-m", "tests.bench.vast", str(port), str(tree.files), str(tree.changed)]
    process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL)
    try:
        listed = Listed(port, process)
        for _ in range(600):
            try:
                listed.asked()
                break
            except OSError:
                if process.poll() is not None:
                    break
                time.sleep(0.1)
        else:
            raise Unusable("the origin of the vast tree does not answer")
        yield listed
    finally:
        process.kill()
        process.wait()


# -- a site that has it all


def _place(place: Place) -> tuple[Mirror, Site]:
    cluster = load(str(place.configuration))
    return cluster.mirrors[MIRROR], cluster.sites[place.name]


def fill(place: Place, tree: Vast, url: str) -> None:
    """The records that passes over the whole tree would have left, and its folders. Files are hard links to
    a few inodes."""
    mirror, site = _place(place)
    asyncio.run(_walked(mirror, site, url))
    inodes = _linked(place, tree)
    below, rules = tree.below(), rules_of(mirror)
    stamp = Stamp(AT, MINUTE)
    with closing(schema.connect(str(place.folder / "state" / f"{MIRROR}.db"))) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        ids = rows.Ids(connection)
        for path, names in below.items():
            with schema.transaction(connection):
                made = [
                    Held(name, Kind.DIRECTORY, mtime=stamp, row=Row(None, None, stamp), mode=0o755)
                    for name in names
                ]
                _insert(connection, ids.of(path), [rows.pack(held) for held in made])
                for name in names:
                    ids.of(join(path, name))
                agreement.put(connection, {path: _token(tree.page(path, below)) + rules})
        packed: dict[int, list[rows.Packed]] = {}
        for first in range(0, tree.leaves, BATCH):
            with schema.transaction(connection):
                tokens = {}
                for number in range(first, min(first + BATCH, tree.leaves)):
                    path, inode = tree.leaf(number), inodes[number * EACH // LINKS]
                    if inode not in packed:
                        packed = {inode: [rows.pack(_file(i, inode)) for i in range(EACH)]}
                    _insert(connection, ids.of(path), packed[inode])
                    tokens[path] = _token(tree.page(path, below)) + rules
                agreement.put(connection, tokens)
    asyncio.run(_summed(mirror, site))


def _file(number: int, inode: int) -> Held:
    stamp = Stamp(AT, MINUTE)
    return Held(
        b"file%02d.bin" % number,
        Kind.FILE,
        SIZE,
        hashlib.sha256(bytes(SIZE)).digest(),
        Stamp(AT, 10**9),
        Row(SIZE, None, stamp),
        mode_for(Kind.FILE, None, Attributes()),
        verified="origin",
        copied=AT // 10**9,
        disk_mtime=AT,
        inode=inode,
    )


def _insert(connection: sqlite3.Connection, directory: int, packed: list[rows.Packed]) -> None:
    connection.executemany(
        "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [(directory, *one) for one in packed]
    )


def _token(page: bytes) -> bytes:
    return hashlib.blake2b(page, digest_size=16).digest()


async def _walked(mirror: Mirror, site: Site, url: str) -> None:
    """The records exist, and tell of one complete pass."""
    now = int(time.time())
    store = await MirrorStore.open(mirror, site, now)
    try:
        record = await store.pass_begin(now, "", url)
        await store.pass_end(record, "complete", {}, now)
    finally:
        await store.close()


async def _summed(mirror: Mirror, site: Site) -> None:
    store = await MirrorStore.open(mirror, site, int(time.time()))
    try:
        await store.scrub_digests()
    finally:
        await store.close()


def _linked(place: Place, tree: Vast, only: set[bytes] | None = None) -> list[int]:
    """Make the folders and the files in them, or those of `only` these leaves; the inodes, in order."""
    kept, root = place.folder.parent / "inodes", place.copy
    kept.mkdir(exist_ok=True)
    inodes = []
    for number in range((tree.leaves * EACH - 1) // LINKS + 1):
        body = kept / str(number)
        if not body.exists():
            body.write_bytes(bytes(SIZE))
            body.chmod(0o644)
            os.utime(body, ns=(AT, AT))
        inodes.append(body.stat().st_ino)
    above = {b""}
    for number in range(tree.leaves):
        path = tree.leaf(number)
        if only is not None and path not in only:
            continue
        folder = root / path.decode()
        folder.mkdir(parents=True, exist_ok=True)
        opened = os.open(folder, os.O_RDONLY)
        try:
            source = str(kept / str(number * EACH // LINKS))
            for i in range(EACH):
                os.link(source, f"file{i:02d}.bin", dst_dir_fd=opened)
            os.utime(opened, ns=(AT, AT))
        finally:
            os.close(opened)
        above.update(path[:at] for at in range(len(path)) if path[at : at + 1] == b"/")
    for path in sorted(above, reverse=True):
        os.utime(root / path.decode(), ns=(AT, AT))
    return inodes


def copy_records(source: Place, target: Place, tree: Vast, touched: set[bytes]) -> None:
    """A second site with the same records; of the tree itself only the leaves that it will look at."""
    mirror, site = _place(target)
    asyncio.run(_walked(mirror, site, "http://127.0.0.1/"))
    _linked(target, tree, touched)
    for suffix in ("-wal", "-shm"):
        (target.folder / "state" / f"{MIRROR}.db{suffix}").unlink(missing_ok=True)
    shutil.copyfile(source.folder / "state" / f"{MIRROR}.db", target.folder / "state" / f"{MIRROR}.db")


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Vast(int(sys.argv[2]), int(sys.argv[3]))))

"""One tree behind six servers: every copy is the tree as far as the protocol tells it, nothing comes twice,
and a change costs what it changed. `docs/design/origins.md` has the table of what each tells."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from tests.cluster_of import AT_ONCE, ClusterOf
from tests.origin.ftp_servers import open_to_all
from tests.scenarios.test_cluster import sites
from tests.servers import Server, apache, nginx, proftpd, rsyncd, vsftpd

AT = 1_650_000_000
LATER = AT + 40 * 86_400
SECOND = 10**9
FULL = b"full.iso"  # of 3 MiB: it comes by another way than small files
NAMES = [
    b"plain", b"with  two blanks", b" blank before", b"100% of it", b"%41", b"a#b", b"what?", b"a=b&c=d",
    b"a&amp;b", b"<tag>", b'"quoted"', b"it's", "größe-日本.txt".encode(), b"latin-\xe9", b"-dash", b"--help",
    b"a:b", b"semi;colon", b"a+b~c@d,e", b"[bracket]", b"{brace}*", b"back\\slash", b"index.html", b"l" * 255,
    b"dollar$(id)", b"tilde~", b"1 -> 2",
]  # fmt: skip
DOTTED = [b".hidden", b".dotted/deeper"]


def place(root: Path, name: bytes) -> Path:
    return Path(os.fsdecode(os.fsencode(root) + b"/" + name))


def write(path: Path, body: bytes, *, at: float) -> None:
    """A file, whatever was there before; nobody looks meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    os.utime(path, (at, at))


def tree(root: Path) -> None:
    """Files of all names in two folders, of two modes, with links, nothing, and an empty folder."""
    for number, name in enumerate([*NAMES, *DOTTED]):
        for folder in (b"", b"deep er/\xc3\xa9/"):
            write(place(root, folder + name), b"%d of %s" % (number, name), at=AT + number * 60 + 0.25)
    write(place(root, FULL), bytes(range(256)) * 12_288, at=AT)
    write(root / "nothing", b"", at=AT)
    write(root / "run", b"#!/bin/sh\n", at=AT)
    (root / "run").chmod(0o755)
    (root / "empty").mkdir()
    (root / "links").mkdir()
    for name, target in {"file": "../plain", "folder": "../deep er", "to": "../run"}.items():
        (root / "links" / name).symlink_to(target)
    age(root)


def age(root: Path) -> None:
    for found in sorted(root.rglob("*"), reverse=True):
        if found.is_dir() and not found.is_symlink():
            os.utime(found, (AT, AT))
    os.utime(root, (AT, AT))


@dataclass(frozen=True)
class Told:
    """What of a tree comes through a protocol."""

    precise: int = SECOND  # to how many ns times of files are told
    links: bool = True  # else they look like what they lead to
    modes: bool = True
    dotted: bool = True  # names that begin with a dot
    folders: bool = True  # times of directories to the second
    dangling: str = "told"  # a link to nothing; else "hidden", or told and "failed"


Shape = dict[bytes, tuple[Any, ...]]


def shape(root: Path, told: Told, below: bytes = b"") -> Shape:
    """What a copy holds as far as it is told."""
    found: Shape = {}
    for name in os.listdir(place(root, below) if below else os.fsencode(root)):
        name = os.fsencode(name)
        if name.startswith(b".") and not told.dotted:
            continue
        path = below + b"/" + name if below else name
        here = place(root, path)
        if told.links and here.is_symlink():
            found[path] = ("link", os.readlink(here))
            continue
        looked = here.stat()
        mode = (stat.S_IMODE(looked.st_mode),) if told.modes else ()
        if stat.S_ISDIR(looked.st_mode):
            found[path] = ("folder", *mode, looked.st_mtime_ns // SECOND if told.folders else None)
            found |= shape(root, told, path)
        else:
            found[path] = ("file", *mode, looked.st_mtime_ns // told.precise, here.read_bytes())
    return found


@dataclass
class Origin:
    """A way to the tree. `bodies` are the files whose bytes it sent so far, by its log; None without one."""

    url: str
    told: Told
    bodies: Callable[[], list[bytes]] | None

    def sent(self, count: int) -> list[bytes] | None:
        """The same in order of names, when there are `count`: servers write their logs after they answer."""
        if self.bodies is None:
            return None
        deadline = time.monotonic() + 60
        while len(self.bodies()) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return sorted(self.bodies())


def unescaped(text: str) -> bytes:
    """What Apache logs of a path: decoded, unprintable bytes as \\xNN. nginx logs it as it was asked for."""
    return text.encode().decode("unicode_escape").encode("latin-1")


def http(server: Server, told: Told) -> Origin:
    def bodies() -> list[bytes]:
        asked = (r.target for r in server.requests() if r.method == "GET" and not r.target.endswith("/"))
        return [unquote_to_bytes(unescaped(target.lstrip("/"))) for target in asked]

    return Origin(server.url, told, bodies)


def logged(path: Path, pattern: bytes) -> Callable[[], list[bytes]]:
    return lambda: re.findall(pattern, path.read_bytes()) if path.exists() else []


@contextmanager
def behind_nginx(root: Path) -> Iterator[Origin]:
    told = Told(links=False, modes=False, dotted=False, folders=False, dangling="failed")
    with nginx(root, extra="index .none;") as server:
        yield http(server, told)


@contextmanager
def behind_apache(root: Path) -> Iterator[Origin]:
    with apache(root, extra="DirectoryIndex disabled") as server:
        yield http(server, Told(links=False, modes=False, folders=False, dangling="hidden"))


@contextmanager
def behind_vsftpd(root: Path) -> Iterator[Origin]:
    with vsftpd(root) as server:
        bodies = logged(server.folder / "commands", rb'"RETR /?([^"]*)"')
        yield Origin(server.url, Told(folders=False), bodies)


@contextmanager
def behind_proftpd(root: Path) -> Iterator[Origin]:
    log = root.parent / "retrieved"
    with proftpd(root, extra=f'LogFormat body "%r"\nExtendedLog {log} READ body') as server:
        yield Origin(server.url, Told(dangling="hidden"), logged(log, rb"RETR /?([^\r\n]*)"))


@contextmanager
def behind_rsyncd(root: Path) -> Iterator[Origin]:
    with rsyncd(root, extra='transfer logging = yes\nlog format = body %f"') as server:
        bodies = logged(server.folder / "rsyncd.log", rb'body (?:tree/)?(.*)"')
        yield Origin(server.url, Told(precise=1), bodies)


@contextmanager
def behind_nothing(root: Path) -> Iterator[Origin]:
    yield Origin(root.as_uri() + "/", Told(precise=1), None)


WAYS = {
    "nginx": behind_nginx, "apache": behind_apache, "vsftpd": behind_vsftpd, "proftpd": behind_proftpd,
    "rsyncd": behind_rsyncd, "local": behind_nothing,
}  # fmt: skip


@dataclass
class Mirrored:
    """A site, and one mirror of the tree. `a_pass` is `sideways pass` as an operator runs it."""

    cluster: ClusterOf
    root: Path

    @property
    def public(self) -> Path:
        return self.cluster.public("kent", "m")

    def a_pass(self) -> dict[str, Any]:
        self.note()
        command = [sys.executable, "-m", "cluster", "-C", str(self.cluster.root), "pass", "--site", "kent"]
        done = subprocess.run([*command, "--json", "m"], capture_output=True, check=False)
        said = done.stderr.decode("utf-8", "replace")
        assert done.stdout and "Traceback" not in said, said
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def note(self) -> None:
        """What the origin has now; behind links also, since over HTTP these are what they lead to."""
        ledger = self.cluster.ledger
        ledger.tree(self.root)
        for folder, below, names in os.walk(self.root / "links", followlinks=True):
            here = Path(folder).relative_to(self.root)
            ledger.folders.update(os.fsencode(here / name) for name in below)
            for name in names:
                if (self.root / here / name).exists():
                    ledger.file(os.fsencode(here / name), (self.root / here / name).read_bytes())


@pytest.fixture
def mirrored() -> Iterator[Mirrored]:
    with open_to_all() as top, sites(top, "kent") as cluster:
        (top / "tree").mkdir()
        tree(top / "tree")
        cluster.make_keys()
        yield Mirrored(cluster, top / "tree")


def change(root: Path) -> None:
    """One change of each kind."""
    write(root / "new", b"news", at=LATER)
    write(root / "plain", (root / "plain").read_bytes()[::-1], at=LATER)
    (root / "100% of it").rename(root / "renamed")
    (root / "it's").unlink()
    (root / "nothing").chmod(0o755)
    (root / "another").mkdir()
    (root / "links" / "to").unlink()
    (root / "links" / "to").symlink_to("../semi;colon")
    age(root)


@pytest.mark.parametrize("name", WAYS)
async def test_a_tree_comes_as_far_as_it_is_told_and_only_what_changed_comes_again(
    mirrored: Mirrored, name: str
) -> None:
    root = mirrored.root
    with WAYS[name](root) as origin:
        mirrored.cluster.mirror("m", origin.url, extra=AT_ONCE)
        first = mirrored.a_pass()
        assert (first["outcome"], first["files"]["skipped"]) == ("complete", 0), first
        assert shape(mirrored.public, origin.told) == shape(root, origin.told)
        asked = origin.sent(first["files"]["origin"])
        assert asked is None or len(asked) == len(set(asked)) == first["files"]["origin"]

        again = mirrored.a_pass()
        assert (again["outcome"], again["bytes"]["origin"]) == ("complete", 0), again
        assert again["files"]["unchanged"] == first["files"]["origin"], again
        assert origin.sent(first["files"]["origin"]) == asked

        change(root)
        third = mirrored.a_pass()
        assert (third["outcome"], third["files"]["deleted"]) == ("complete", 2), third
        assert shape(mirrored.public, origin.told) == shape(root, origin.told)
        changed = [b"new", b"plain", b"renamed"]
        if not origin.told.links:
            changed += [b"links/file", b"links/to"]  # with what they lead to
        assert third["files"]["origin"] == len(changed), third
        sent = origin.sent(len(asked or ()) + len(changed))
        assert sent is None or sent == sorted([*(asked or ()), *changed])
        await mirrored.cluster.check("m")


@pytest.mark.parametrize("name", WAYS)
async def test_a_link_to_nothing_is_made_where_it_is_told_and_stops_nothing(
    mirrored: Mirrored, name: str
) -> None:
    """nginx lists it as a file and answers 404: that is a failure of this file, and said."""
    root = mirrored.root
    (root / "links" / "dangling").symlink_to("../gone")
    (root / "links" / "outside").symlink_to("../../elsewhere")
    with WAYS[name](root) as origin:
        mirrored.cluster.mirror("m", origin.url, extra=AT_ONCE)
        first = mirrored.a_pass()
        failed = origin.told.dangling == "failed"
        assert first["outcome"] == ("incomplete" if failed else "complete"), first
        assert not failed or all("404" in error for error in first["errors"]), first
        here = set(os.listdir(mirrored.public / "links"))
        assert here == {"file", "folder", "to"} | ({"dangling"} if origin.told.dangling == "told" else set())
        assert (mirrored.public / "plain").exists()
        await mirrored.cluster.check("m")


async def test_one_mirror_goes_from_origin_to_origin_without_a_body_and_loses_nothing(
    mirrored: Mirrored,
) -> None:
    """Each in its turn is the only origin, under the usual rules of deletion. A body comes for a name that
    none before told of: nginx keeps those to itself that begin with a dot, and they wait when it has its
    turn again."""
    known: set[bytes] = set()
    way = ["nginx", "rsyncd", "vsftpd", "proftpd", "local", "apache", "nginx"]
    for name in way if os.geteuid() == 0 else [name for name in way if name != "proftpd"]:
        with WAYS[name](mirrored.root) as origin:
            mirrored.cluster.mirror("m", origin.url, extra="")
            result = mirrored.a_pass()
            assert result["outcome"] == "complete", (name, result["errors"], result["notes"])
            told = shape(mirrored.root, origin.told)
            new = {path for path in told.keys() - known if told[path][0] == "file"}
            assert result["files"]["origin"] == len(new), (name, result)
            assert origin.sent(len(new)) in (None, sorted(new)), name
            assert result["files"]["deleted"] == result["files"]["held"] == 0, (name, result)
            known |= told.keys()
            assert all(os.path.lexists(place(mirrored.public, path)) for path in known), name
    hidden = {path for path in known if b"/." in b"/" + path and place(mirrored.root, path).is_file()}
    assert result["files"]["waiting"] == len(hidden)
    await mirrored.cluster.check("m")

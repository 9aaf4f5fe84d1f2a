"""Table 9: what the new version of a file costs a site that has the older one, beside rsync and zsync."""

from __future__ import annotations

import filecmp
import io
import os
import random
import re
import subprocess
import sysconfig
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import servers
from tests.bench import sites
from tests.bench.measure import Bench, Unusable, asked, timed
from tests.bench.table import Table, Verdict
from tests.bench.together import TWO
from tests.bench.trees import BLOCK, NEWEST
from tests.servers import program

EDITS = 200  # of an image: half of them replace some bytes, the others insert or delete some
EDIT = 300  # bytes, at most
CHANGED = 0.1  # share of the files of a source archive in which a release changes some lines
ARCHIVE_SHARE = 0.10  # of a source archive that its next release may cost
MODES = ("rsync", "rsync -z")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two versions of one thing. `name` is what the newer one is called; the older one has the same name, or
    stays beside it."""

    what: str
    old_name: str
    name: str
    old: Path
    new: Path


def newer(bench: Bench, table: Table) -> None:
    """Table 9."""
    table.head = ("what", "bytes", "by", "bytes on the way", "share", "seconds")
    table.about = (
        f"Image: `image-1.iso` of T3 with {EDITS} edits of up to {EDIT} bytes, half of them insertions and "
        "deletions. Archive: the modules of Python's library as a tar file, and its next release: "
        f"{CHANGED:.0%} of the files edited, every time another. Ours is a pass of a site that has the older "
        'one and whose sibling has the newer one, `<sideways delta="always"/>`: bytes are sums and pieces, '
        "before TLS. rsync's are what it says it sent and received between two folders, without `-W`. With "
        "`.zsync`, ours and zsync are a lone site and its program over nginx, the control file included; "
        "ours fetches that file for its own copy as well."
    )
    folder = bench.fresh("pairs")
    for pair in (_image(bench, folder), _archive(bench.scale, folder)):
        size, ours = pair.new.stat().st_size, _sideways(bench, pair)
        costs = {"ours": ours, **{mode: _rsync(bench, pair, mode) for mode in MODES}}
        if pair.old_name == pair.name:
            costs["ours, .zsync"], costs["zsync"] = _zsync(bench, pair)
        for by, (travelled, seconds) in costs.items():
            row = (pair.what, str(size), by, str(travelled), f"{travelled / size:.2%}", f"{seconds:.1f}")
            table.rows.append(row)
        if pair.old_name == pair.name:
            table.verdicts.append(Verdict(f"{pair.what}: bytes beside rsync's", ours[0], costs["rsync"][0]))
        else:
            table.verdicts.append(Verdict(f"{pair.what}: share of its size", ours[0] / size, ARCHIVE_SHARE))


# -- the pairs


def _image(bench: Bench, folder: Path) -> Pair:
    old = bench.tree("T3").root / "image-1.iso"
    new = folder / "image-new.iso"
    chance = random.Random(9)
    size = old.stat().st_size
    with old.open("rb") as source, new.open("wb") as out:
        for number, place in enumerate(sorted(chance.sample(range(size - EDIT), EDITS))):
            _copied(source, out, max(0, place - source.tell()))
            length = chance.randint(1, EDIT)
            if number % 4 != 0:  # replaced or deleted
                source.seek(length, os.SEEK_CUR)
            if number % 4 != 1:  # replaced or inserted
                out.write(chance.randbytes(length))
        _copied(source, out, size - source.tell())
    return Pair("image", "image.iso", "image.iso", old, new)


def _copied(source: io.BufferedIOBase, out: io.BufferedIOBase, size: int) -> None:
    while size > 0 and (piece := source.read(min(BLOCK, size))):
        out.write(piece)
        size -= len(piece)


def _archive(scale: float, folder: Path) -> Pair:
    chance = random.Random(10)
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in root.rglob("*.py") if "site-packages" not in path.parts)
    files = files[: max(100, round(min(1.0, scale) * len(files)))]
    bodies = {str(path.relative_to(root)): path.read_bytes() for path in files}
    old = _tar(folder / "library-1.0.tar", "library-1.0", bodies, NEWEST - 10**7)
    for name in chance.sample(sorted(bodies), round(CHANGED * len(bodies))):
        lines = bodies[name].split(b"\n")
        for _ in range(chance.randint(1, 8)):
            place = chance.randrange(len(lines))
            lines[place : place + chance.randint(0, 2)] = [b"    changed = %d" % chance.randrange(10**6)]
        bodies[name] = b"\n".join(lines)
    return Pair(
        "archive", old.name, "library-1.1.tar", old, _tar(folder / "n.tar", "library-1.1", bodies, NEWEST)
    )


def _tar(file: Path, top: str, bodies: dict[str, bytes], at: int) -> Path:
    with tarfile.open(file, "w") as tar:
        for number, (name, body) in enumerate(sorted(bodies.items())):
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mtime = len(body), at + number
            tar.addfile(member, io.BytesIO(body))
    return file


# -- the contestants


def _published(origin: Path, source: Path, name: str, at: int) -> None:
    subprocess.run(["cp", "--reflink=auto", str(source), str(origin / name)], check=True)
    os.utime(origin / name, (at, at))


def _sideways(bench: Bench, pair: Pair) -> tuple[int, float]:
    """Bytes that came from the sibling, and seconds of the pass."""
    origin = bench.fresh("origin")
    _published(origin, pair.old, pair.old_name, NEWEST - 10**6)
    with servers.nginx(origin) as nginx:
        extra = '<sideways delta="always"/>'
        places = sites.cluster(bench.fresh("together"), nginx.url, TWO, extra=extra)
        with sites.daemons(places):
            for place in places:
                sites.require_complete(timed(place.name, place.one_pass()))
            _published(origin, pair.new, pair.name, NEWEST)
            sites.require_complete(timed("the first", places[0].one_pass()))
            run = timed("ours", places[1].one_pass())
        told = sites.require_complete(run)
        _require(places[1].copy / pair.name, pair.new)
        if told["bytes"]["origin"]:
            raise Unusable("ours: the origin was asked for the file as well")
    bench.fresh("together")
    return told["bytes"]["sideways"], run.wall


def _rsync(bench: Bench, pair: Pair, mode: str) -> tuple[int, float]:
    folder = bench.fresh("rsync")
    subprocess.run(["cp", str(pair.old), str(folder / "copy")], check=True)
    words = [program("rsync"), "--no-whole-file", "--ignore-times", "--stats", *mode.split()[1:]]
    run = timed(mode, [*words, str(pair.new), str(folder / "copy")])
    _require(folder / "copy", pair.new)
    found = re.findall(r"^Total bytes (?:sent|received): ([0-9,]+)", run.out, re.MULTILINE)
    return sum(int(number.replace(",", "")) for number in found), run.wall


def _zsync(bench: Bench, pair: Pair) -> Iterator[tuple[int, float]]:
    """What the origin sent to ours, then to zsync."""
    origin = bench.fresh("origin")

    def publish(source: Path, at: int) -> None:
        _published(origin, source, pair.name, at)
        command = [program("zsyncmake"), "-u", pair.name, "-o", f"{pair.name}.zsync", pair.name]
        subprocess.run(command, cwd=origin, check=True, capture_output=True)

    publish(pair.old, NEWEST - 10**6)
    with servers.nginx(origin) as nginx:
        (place,) = sites.cluster(bench.fresh("ours"), nginx.url, ["forward"], together=False)
        sites.require_complete(timed("ours", place.one_pass()))
        publish(pair.new, NEWEST)
        nginx.forget()
        run = timed("ours", place.one_pass())
        sites.require_complete(run)
        _require(place.copy / pair.name, pair.new)
        yield asked(nginx).file_bytes, run.wall
        folder = bench.fresh("zsync")
        place_of = f"{nginx.url}{pair.name}.zsync"
        words = [program("zsync"), "-q", "-i", str(pair.old), "-o", str(folder / "copy"), place_of]
        run = timed("zsync", words)
        _require(folder / "copy", pair.new)
        yield asked(nginx).file_bytes, run.wall


def _require(found: Path, wanted: Path) -> None:
    if not found.exists() or not filecmp.cmp(found, wanted, shallow=False):
        raise Unusable(f"{found}: not the new version")

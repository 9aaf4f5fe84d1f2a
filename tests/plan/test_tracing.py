"""What a site's trace file says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.model import Held, Kind, Mirror, OriginSpec, Site, Stamp, Told, Trace
from cluster.plan.tracing import Passed, architectures, file_name, hierarchy, names, serial_of, trace

SITE = Site(
    "kent",
    "/d",
    "/s",
    title="University of Kent",
    contact="m@kent.example",
    public_url="https://mirror.kent.example",
    sponsor="Kent",
    country="GB",
    location="Canterbury",
    throughput="10Gb",
)
MIRROR = Mirror("debian", "/debian", (OriginSpec("https://o.example/d/"),), trace=Trace(Told.FULL))
PASSED = Passed(
    1_795_314_963.4, 100.0, "https://o.example/d/", 123_400, "sync:all", "2026112201", ("amd64", "source")
)

FULL = """\
Sun Nov 22 02:36:03 UTC 2026
Date: Sun, 22 Nov 2026 02:36:03 +0000
Date-Started: Sun, 22 Nov 2026 02:34:23 +0000
Archive serial: 2026112201
Creator: Sideways 1
Running on host: mirror.kent.example
Maintainer: University of Kent <m@kent.example>
Sponsor: Kent
Country: GB
Location: Canterbury
Throughput: 10Gb
Architectures: amd64 source
Upstream-mirror: o.example
Trigger: sync:all
Total bytes received: 123400
Total time: 100
Average rate: 1234 B/s
"""


def test_a_full_trace_has_debians_fields_in_debians_order() -> None:
    assert trace(MIRROR, SITE, PASSED, "Sideways 1").decode() == FULL


@pytest.mark.parametrize(("level", "lines"), [(Told.DATE, 2), (Told.TERSE, 13), (Told.FULL, 17)])
def test_a_shorter_trace_is_the_beginning_of_a_longer_one(level: Told, lines: int) -> None:
    text = trace(replace(MIRROR, trace=Trace(level)), SITE, PASSED, "Sideways 1").decode()
    assert text == "".join(FULL.splitlines(keepends=True)[:lines])


def test_what_nobody_told_is_left_out() -> None:
    bare = trace(MIRROR, Site("kent", "/d", "/s"), Passed(0.0, 0.5, "file:///srv/x/", 9), "c").decode()
    assert [line.partition(":")[0] for line in bare.splitlines()[1:]] == [
        "Date", "Date-Started", "Creator", "Running on host", "Total bytes received", "Total time",
    ]  # fmt: skip
    assert "/srv/x" not in bare


def test_a_day_of_one_digit_is_padded_as_by_date() -> None:
    text = trace(MIRROR, SITE, replace(PASSED, ended=1_793_500_000.0), "c").decode()
    assert text.startswith("Sun Nov  1 ")


def test_the_file_is_called_as_the_site_is_known() -> None:
    assert file_name(MIRROR, SITE) == b"mirror.kent.example"
    assert file_name(MIRROR, Site("kent", "/d", "/s")) == b"kent"
    assert file_name(replace(MIRROR, trace=Trace(Told.FULL, "ftp.uk")), SITE) == b"ftp.uk"


@pytest.mark.parametrize(
    ("master", "serial"),
    [
        (b"Sun Nov 22\nArchive serial: 2026112201\nCreator: x\n", "2026112201"),
        (b"archive SERIAL:  7 \n", "7"),
        (b"Sun Nov 22\n", ""),
        (b"Archive serial: <b>\n", ""),
        (b"X-Archive serial: 7\n", ""),
    ],
)
def test_the_serial_is_the_archives_own(master: bytes, serial: str) -> None:
    assert serial_of(master) == serial


def test_architectures_are_those_that_have_indexes() -> None:
    main = b"dists/stable/main/"
    told = [
        main + b"binary-amd64",
        b"dists/sid/main/binary-amd64",
        b"dists/bookworm/updates/main/binary-arm64",
    ]
    told += [main + b"source", main + b"debian-installer/binary-kfreebsd-i386"]
    others = [
        main + b"i18n",
        main + b"Contents-source",
        b"pool/main/binary-x",
        main + b"binary-",
        main + b"binary-\xe9",
    ]
    assert architectures([*told, *others]) == ("amd64", "arm64", "kfreebsd-i386", "source")


def test_the_hierarchy_names_each_mirror_once() -> None:
    above = b"a a a.example unknown\n\nmirror.kent.example old old old\n"
    line = b"mirror.kent.example mirror.kent.example mirror.kent.example o.example\n"
    assert hierarchy(above, MIRROR, SITE, PASSED) == b"a a a.example unknown\n" + line
    assert hierarchy(b"", MIRROR, SITE, PASSED) == line


def test_trace_files_are_listed_by_age_and_ours_last() -> None:
    files = [
        Held(name, Kind.FILE, 1, mtime=Stamp(ns))
        for name, ns in ((b"b", 1), (b"a", 2), (b"_x", 0), (b"own", 0))
    ]
    assert names([*files, Held(b"folder", Kind.DIRECTORY, 0)], b"own") == b"b\na\nown\n"

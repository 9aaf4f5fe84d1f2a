"""HTTP origins that behave: real nginx and Apache, their clocks, and headers as values."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import Changed, OriginError
from cluster.model import MINUTE, SECOND, Entry, Kind, Limits, Listing, OriginSpec, Stamp
from cluster.origin import http_headers as headers
from cluster.origin.base import Want
from cluster.origin.http import HttpOrigin
from cluster.origin.http_zone import ServerZone
from tests.origin.conformance import received
from tests.origin.hostile import Hostile, ok

Start = Callable[..., Any]


# -- real servers -------------------------------------------------------------------------------


async def test_connections_are_kept_and_shared(tmp_path: Path, start_nginx: Start) -> None:
    for n in range(200):
        (tmp_path / f"{n}.txt").write_bytes(b"%d" % n * 100)
    server = start_nginx(tmp_path, extra="add_header X-Connection $connection;")
    origin = HttpOrigin(OriginSpec(server.url), Limits(connections=4))
    seen = set()

    async def one(n: int) -> None:
        path = b"%d.txt" % n
        async with origin.read(path, Want()) as body:
            seen.add(body._answer.headers["X-Connection"])  # type: ignore[attr-defined]
            assert b"".join([p async for p in body.chunks()]) == b"%d" % n * 100

    await asyncio.gather(*(one(n) for n in range(200)))
    await origin.close()
    assert len(seen) <= 4
    assert origin.traffic.requests == 200
    assert origin.traffic.bytes == sum(len(str(n)) * 100 for n in range(200))


async def test_a_body_given_up_half_way_leaves_nothing_behind(tmp_path: Path, start_nginx: Start) -> None:
    (tmp_path / "large").write_bytes(os.urandom(4 * 2**20))
    origin = HttpOrigin(OriginSpec(start_nginx(tmp_path).url), Limits(connections=1))
    kept = []
    for _ in range(5):
        async with origin.read(b"large", Want()) as body:
            kept.append(body)
            async for _piece in body.chunks():
                break
    async with asyncio.timeout(5):
        assert len(await received(origin, b"large")) == 4 * 2**20
    await origin.close()


@pytest.mark.parametrize("kind", ["nginx", "apache"])
async def test_a_server_sends_no_part_of_another_version(
    tmp_path: Path, start_nginx: Start, start_apache: Start, kind: str
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "large").write_bytes(os.urandom(4 * 2**20))
    os.utime(tmp_path / "large", (1_600_000_000, 1_600_000_000))
    server = start_nginx(tmp_path) if kind == "nginx" else start_apache(tmp_path)
    origin = HttpOrigin(OriginSpec(server.url), Limits())
    facts = await origin.facts(b"large")
    want = Want(size=facts.size, start=2**20, stop=3 * 2**20, etag=facts.etag)
    assert await received(origin, b"large", want) == (tmp_path / "large").read_bytes()[2**20 : 3 * 2**20]
    os.utime(tmp_path / "large", (1_700_000_000, 1_700_000_000))
    with pytest.raises(Changed):
        await received(origin, b"large", want)
    await origin.close()
    server.stop()  # whatever it logs is in its log
    assert [r.sent for r in server.requests() if r.method == "GET" and r.status != 412] == [2 * 2**20]


@pytest.mark.parametrize("kind", ["nginx html", "nginx json", "apache"])
async def test_listed_rows_agree_with_what_is_fetched(
    tmp_path: Path, start_nginx: Start, start_apache: Start, kind: str
) -> None:
    tmp_path.chmod(0o755)
    for n, at in enumerate((1_700_000_000, 1_751_000_000, 1_000_000_001)):  # winter, summer, long ago
        (tmp_path / f"f{n}").write_bytes(b"x" * 3000 * (n + 1))
        os.utime(tmp_path / f"f{n}", (at, at))
    if kind == "apache":
        server = start_apache(tmp_path)
    else:
        server = start_nginx(tmp_path, autoindex_format=kind.split()[1])
    origin = HttpOrigin(OriginSpec(server.url), Limits())
    listing = await origin.listing(b"")
    assert listing.zone_known
    for entry in listing.entries:
        facts = await origin.facts(entry.name)
        assert facts.mtime is not None
        assert entry.mtime is not None
        assert entry.mtime.agrees(facts.mtime)
        assert entry.size in (facts.size, None)
    assert origin.properties.exact_sizes == kind.startswith("nginx")
    await origin.close()


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin"])
@pytest.mark.parametrize("configured", [True, False])
async def test_apache_in_another_zone_is_understood(
    tmp_path: Path, start_apache: Start, monkeypatch: pytest.MonkeyPatch, zone: str, configured: bool
) -> None:
    monkeypatch.setenv("TZ", zone)
    tmp_path.chmod(0o755)
    for n, at in enumerate((1_700_000_000, 1_751_000_000, 1_770_000_000)):
        for folder in (tmp_path, tmp_path / "d", tmp_path / "e"):
            folder.mkdir(exist_ok=True)
            (folder / f"f{n}").write_bytes(b"x")
            os.utime(folder / f"f{n}", (at, at))
    server = start_apache(tmp_path)
    origin = HttpOrigin(OriginSpec(server.url, timezone=zone if configured else None), Limits())
    for directory in (b"", b"d", b"e"):
        for entry in (await origin.listing(directory)).entries:
            if entry.kind is Kind.FILE:
                facts = await origin.facts(directory + b"/" + entry.name if directory else entry.name)
                assert entry.mtime is not None
                assert facts.mtime is not None
                assert entry.mtime.agrees(facts.mtime)
    learning = origin.traffic.requests - 3 - 9  # listings, and our own questions
    assert learning == (0 if configured else 2)  # one for each season, not for each directory
    await origin.close()


# -- a server's clock -----------------------------------------------------------------------------


def wall(*times: str) -> Listing:
    """A listing of files named by what its clock shows."""
    rows = [Entry(t.encode(), size=1, mtime=Stamp(int(_utc(t).timestamp()) * SECOND, MINUTE)) for t in times]
    return Listing(tuple(sorted(rows, key=lambda e: e.name)), zone_known=False)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Clock:
    """Last-Modified of those files at a server that is off by `hours`, or by season where two are given."""

    def __init__(self, hours: float, summer: float | None = None) -> None:
        self.hours, self.summer = hours, summer
        self.asked: list[bytes] = []

    async def __call__(self, name: bytes) -> Stamp | None:
        self.asked.append(name)
        at = _utc(name.decode())
        hours = self.summer if self.summer is not None and 4 <= at.month <= 9 else self.hours
        return Stamp(int(at.timestamp() - hours * 3600 + 17) * SECOND, SECOND)


def shown(listing: Listing) -> list[str]:
    return [
        datetime.fromtimestamp(e.mtime.ns // SECOND, UTC).strftime("%m-%d %H:%M")
        for e in listing.entries
        if e.mtime
    ]


NOON = int(_utc("2026-11-21T12:00").timestamp()) * SECOND
HOUR = 3600 * SECOND


async def test_one_offset_for_a_server_that_shifts_by_now() -> None:
    zone, ask = ServerZone(), Clock(9)
    rows = wall("2026-01-05T10:00", "2026-07-05T10:00", "2026-10-05T10:00")
    assert shown(await zone.settled(rows, ask, NOON)) == ["01-05 01:00", "07-05 01:00", "10-05 01:00"]
    assert shown(await zone.settled(wall("2026-02-05T10:00"), ask, NOON)) == ["02-05 01:00"]
    assert len(ask.asked) == 2


async def test_daylight_saving_is_read_from_two_seasons() -> None:
    zone, ask = ServerZone(), Clock(-5, -4)
    rows = wall("2026-01-05T10:00", "2026-07-05T10:00", "2026-10-05T10:00", "2026-11-05T10:00")
    utc = ["01-05 15:00", "07-05 14:00", "10-05 14:00", "11-05 15:00"]
    assert shown(await zone.settled(rows, ask, NOON)) == utc


async def test_a_changed_offset_is_seen_within_the_hour() -> None:
    zone, rows = ServerZone(), wall("2026-10-05T10:00")
    assert shown(await zone.settled(rows, Clock(2), NOON)) == ["10-05 08:00"]
    assert shown(await zone.settled(rows, Clock(1), NOON + HOUR // 2)) == ["10-05 08:00"]
    assert shown(await zone.settled(rows, Clock(1), NOON + HOUR)) == ["10-05 09:00"]


async def test_a_server_that_tells_nothing_leaves_its_clock_unknown_and_is_not_asked_again() -> None:
    zone, asked = ServerZone(), []

    async def nothing(name: bytes) -> None:
        asked.append(name)

    for _ in range(5):
        listing = await zone.settled(wall("2026-10-05T10:00", "2026-10-06T10:00"), nothing, NOON)
        assert not listing.zone_known
    assert len(asked) == 1


async def test_a_configured_zone_is_never_asked_about() -> None:
    zone, ask = ServerZone("Europe/Berlin"), Clock(0)
    rows = wall("2026-01-05T10:00", "2026-07-05T10:00")
    assert shown(await zone.settled(rows, ask, NOON)) == ["01-05 09:00", "07-05 08:00"]
    assert ask.asked == []


async def test_a_zone_that_this_machine_does_not_know_is_one_clear_error() -> None:
    async with Hostile() as server:
        index = (
            b"<html><head><title>Index of /</title></head><body><h1>Index of /</h1><hr><pre>"
            b'<a href="../">../</a>\n<a href="a.txt">a.txt</a>             21-Nov-2026 10:00      12\n'
            b"</pre><hr></body></html>"
        )
        server.answers["/"] = ok(index, "Content-Type: text/html")
        origin = HttpOrigin(OriginSpec(server.url, timezone="Mars/Olympus"), Limits(timeout=2.0))
        with pytest.raises(OriginError, match="Mars/Olympus"):
            await origin.listing(b"")
        await origin.close()


# -- headers as values ----------------------------------------------------------------------------


@given(st.integers(-2_208_988_800, 32_503_680_000))  # 1900 to 2999
def test_every_date_in_the_standard_form_is_read_exactly(at: int) -> None:
    text = format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)
    assert headers.seconds(text) == at


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        ("Sun, 06 Nov 1994 08:49:60 GMT", 784111799),
        ("Sun, 06 Nov 1994 09:49:37 +0100", 784111777),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Foo 1994 08:49:37 GMT", None),
        ("0", None),
        ("", None),
        (None, None),
        ("x" * 10_000, None),
    ],
)
def test_dates(text: str | None, expected: int | None) -> None:
    assert headers.seconds(text) == expected


@given(st.text(max_size=40))
def test_no_text_is_too_strange_for_a_header(text: str) -> None:
    for read in (headers.seconds, headers.strong):
        read(text)
    fields = dict.fromkeys(
        ["Content-Range", "Content-Length", "Retry-After", "Date", "ETag", "Content-Encoding"], text
    )
    headers.facts_of(fields)
    headers.content_range(fields)
    assert 0 <= (headers.retry_after(fields, 0.0) or 0) <= headers.RETRY_CAP


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 0-9/10", (0, 9, 10)),
        ("bytes 5-9/10", (5, 9, 10)),
        ("bytes 5-10/10", None),
        ("bytes 6-5/10", None),
        ("bytes 0-9/*", None),
        ("bytes */10", None),
        ("items 0-9/10", None),
        ("bytes 0-9/10, 20-29/30", None),
        ("bytes -1-9/10", None),
        ("", None),
    ],
)
def test_content_ranges(text: str, expected: tuple[int, int, int] | None) -> None:
    assert headers.content_range({"Content-Range": text}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", 5), ("0", 0), ("-5", None), ("+5", None), ("5, 5", None), ("٥", None), ("9" * 30, None)],
)
def test_lengths(text: str, expected: int | None) -> None:
    assert headers.length({"Content-Length": text}) == expected


@pytest.mark.parametrize(
    ("name", "coding", "own"),
    [
        (b"a.tar.gz", "gzip", True),
        (b"a.tgz", "x-gzip", True),
        (b"a.txt", "gzip", False),
        (b"a.gz", "br", False),
        (b"a.txt", "made-up", False),
    ],
)
def test_65_a_coding_is_the_files_own_by_its_name(name: bytes, coding: str, own: bool) -> None:
    assert headers.own_coding(name, coding) is own

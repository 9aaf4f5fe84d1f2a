"""Mirrored files over HTTP: what arrives, its headers, and what is never sent."""

from __future__ import annotations

import hashlib
import os

import pytest

from cluster.model import Kind
from cluster.web.files import CHUNK
from tests.web.fakes import MTIME, NOW, FakeReader, mirror, serving

DEB = "/debian/pool/a/a_1.deb"
BODY = b"0123456789" * 10
ETAG = f'"{hashlib.sha256(BODY).hexdigest()}"'
MODIFIED = "Mon, 02 Feb 2026 02:40:00 GMT"


async def test_a_file_arrives_as_it_is_with_type_validators_and_no_sniffing(site):
    status, response, body = await site.get(DEB)
    assert (status, body) == (200, BODY)
    assert response.headers["Content-Type"] == "application/vnd.debian.binary-package"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["ETag"] == ETAG
    assert response.headers["Last-Modified"] == MODIFIED
    assert response.headers["Accept-Ranges"] == "bytes"
    assert "Content-Encoding" not in response.headers


async def test_head_tells_the_same_without_the_body_and_the_connection_lives_on(site):
    wire = await site.raw(
        f"HEAD {DEB} HTTP/1.1\r\nHost: x\r\n\r\n"
        f"GET {DEB} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    head, _, rest = wire.partition(b"\r\n\r\n")
    assert b"Content-Length: 100" in head
    assert rest.startswith(b"HTTP/1.1 200")
    assert rest.endswith(BODY)


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({"Range": "bytes=0-4"}, 206, b"01234"),
        ({"Range": "bytes=95-"}, 206, b"56789"),
        ({"Range": "bytes=-3"}, 206, b"789"),
        ({"Range": "bytes=90-1000"}, 206, b"0123456789"),
        ({"Range": "bytes=100-"}, 416, None),
        ({"Range": "bytes=-0"}, 416, None),
        ({"Range": "bytes=200-300, 400-"}, 416, None),
        ({"Range": "bytes=0-1,5-6"}, 200, BODY),
        ({"Range": "bytes=0-1," * 30 + "2-3"}, 200, BODY),
        ({"Range": "bytes=5-1"}, 200, BODY),
        ({"Range": "lines=1-2"}, 200, BODY),
        ({"Range": "bytes=a-b"}, 200, BODY),
        ({"Range": "bytes=0-4", "If-Range": ETAG}, 206, b"01234"),
        ({"Range": "bytes=0-4", "If-Range": '"other"'}, 200, BODY),
        ({"Range": "bytes=0-4", "If-Range": "W/" + ETAG}, 200, BODY),
        ({"Range": "bytes=0-4", "If-Range": MODIFIED}, 206, b"01234"),
        ({"Range": "bytes=0-4", "If-Range": "Tue, 03 Feb 2026 02:40:00 GMT"}, 200, BODY),
        ({"If-None-Match": ETAG}, 304, b""),
        ({"If-None-Match": "W/" + ETAG}, 304, b""),
        ({"If-None-Match": f'"x", {ETAG}'}, 304, b""),
        ({"If-None-Match": "*"}, 304, b""),
        ({"If-None-Match": '"x"', "If-Modified-Since": MODIFIED}, 200, BODY),
        ({"If-Modified-Since": MODIFIED}, 304, b""),
        ({"If-Modified-Since": "Mon, 02 Feb 2026 02:39:59 GMT"}, 200, BODY),
        ({"If-Modified-Since": "yesterday"}, 200, BODY),
        ({"If-Match": '"x"'}, 412, None),
        ({"If-Match": ETAG}, 200, BODY),
        ({"If-Unmodified-Since": "Mon, 02 Feb 2026 02:39:59 GMT"}, 412, None),
    ],
)
async def test_conditions_and_ranges_are_answered_as_rfc_9110_says(site, headers, status, body):
    got, response, content = await site.get(DEB, headers=headers)
    assert got == status
    assert body is None or content == body
    if status == 416:
        assert response.headers["Content-Range"] == "bytes */100"
    if status == 206:
        assert response.headers["Content-Range"].endswith("/100")
        assert int(response.headers["Content-Length"]) == len(body)


async def test_head_knows_no_ranges(site):
    status, response, _ = await site.get(DEB, "HEAD", headers={"Range": "bytes=0-4"})
    assert (status, response.headers["Content-Length"]) == (200, "100")


async def test_a_part_names_exactly_the_bytes_it_holds(site):
    _, response, _ = await site.get(DEB, headers={"Range": "bytes=10-19"})
    assert response.headers["Content-Range"] == "bytes 10-19/100"


async def test_a_large_file_and_a_part_across_its_chunks_arrive_whole(site):
    body = os.urandom(3 * CHUNK + 17)
    site.readers["debian"].add(b"big.iso", body)
    assert (await site.get("/debian/big.iso"))[2] == body
    part = f"bytes={CHUNK - 5}-{2 * CHUNK + 5}"
    status, _, got = await site.get("/debian/big.iso", headers={"Range": part})
    assert (status, got) == (206, body[CHUNK - 5 : 2 * CHUNK + 6])


async def test_a_file_that_shrinks_while_it_is_sent_cuts_the_connection(site, tmp_path):
    """The client must see that something is wrong: a complete answer of the wrong bytes would be worse."""
    reader = site.readers["debian"]
    reader.add(b"big.iso", b"x" * (64 * CHUNK))
    os.truncate(tmp_path / "big.iso", 2 * CHUNK)
    wire = await site.raw(b"GET /debian/big.iso HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = wire.partition(b"\r\n\r\n")
    assert f"Content-Length: {64 * CHUNK}".encode() in head
    assert len(body) <= 2 * CHUNK


async def test_no_descriptor_stays_open(site):
    before = len(os.listdir("/proc/self/fd"))
    for headers in ({}, {"Range": "bytes=0-1"}, {"If-None-Match": ETAG}, {"Range": "bytes=500-"}):
        await site.get(DEB, headers=headers)
    await site.get(DEB, "HEAD")
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # the client's own connection, both ends


async def test_an_empty_file_is_a_file(site):
    site.readers["debian"].add(b"empty", b"")
    status, response, body = await site.get("/debian/empty")
    assert (status, body, response.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("a.tar.gz", "application/gzip"),
        ("a.tar.xz", "application/x-xz"),
        ("a.iso", "application/x-iso9660-image"),
        ("a.asc", "text/plain; charset=utf-8"),
        ("SHA256SUMS", "text/plain; charset=utf-8"),
        ("InRelease", "text/plain; charset=utf-8"),
        ("a.html", "text/html"),
        ("a.unheard", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("noextension", "application/octet-stream"),
        ("A.DEB", "application/vnd.debian.binary-package"),
    ],
)
async def test_the_type_follows_from_the_name(site, name, media):
    site.readers["debian"].add(name.encode(), b"<script>alert(1)</script>")
    _, response, _ = await site.get(f"/debian/{name}")
    assert response.headers["Content-Type"] == media
    assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.xhtml", "x.xml"])
async def test_what_could_run_scripts_is_shown_in_a_sandbox(site, name):
    """HAZARDS 143."""
    site.readers["debian"].add(name.encode(), b"<script>alert(1)</script>")
    _, response, _ = await site.get(f"/debian/{name}")
    assert response.headers["Content-Security-Policy"].startswith("sandbox")
    assert "allow-scripts" not in response.headers["Content-Security-Policy"]


async def test_a_time_in_the_future_is_not_claimed(site):
    from cluster.model import SECOND, Stamp

    site.readers["debian"].add(b"future", b"x", mtime=Stamp(int(NOW + 10**6) * SECOND))
    _, response, _ = await site.get("/debian/future")
    assert response.headers["Last-Modified"] == "Thu, 28 May 2026 20:26:40 GMT"


@pytest.mark.parametrize(
    "path",
    [
        "/debian/../../etc/passwd",
        "/debian/%2e%2e/%2e%2e/etc/passwd",
        "/debian/..%2f..%2fetc/passwd",
        "/debian/pool%2fa%2fa_1.deb",
        "/debian//etc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/debian/README%00",
        "/debian/" + "a" * 4000,
        "/debian/" + "a/" * 100,
        "/debian/.sideways/trash",
        "/debian/unrecorded",
        "/debian../README",
        "/debian%2e%2e/README",
        "/debian/$PATH",
        "/nosuch/README",
        "/-/nosuch",
        "/-/",
        "/debian/README/",
        "/debian/README/x",
    ],
)
async def test_only_committed_names_are_found(site, tmp_path, path):
    """HAZARDS 123, 138, 144."""
    (tmp_path / "unrecorded").write_bytes(b"on disk, not in the records")
    status, response, body = await site.get(path)
    assert status == 404
    assert b"root:" not in body
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")


async def test_what_the_origin_keeps_from_the_world_is_not_served_nor_shown(site):
    """HAZARDS 26."""
    reader = site.readers["debian"]
    reader.add(b"secret.txt", b"hidden", private=True)
    reader.add(b"closed", kind=Kind.DIRECTORY, sha256=None, private=True)
    reader.add(b"closed/inner.txt", b"hidden too")
    reader.link(b"way-in", b"closed/inner.txt")
    for path in ("secret.txt", "closed/", "closed/inner.txt", "way-in"):
        assert (await site.get(f"/debian/{path}"))[0] == 404
    page = await site.text("/debian/")
    assert "secret.txt" not in page
    assert "2 that the origin keeps from the public are not shown" in page
    assert {e["name"] for e in (await site.json("/debian/"))["entries"]} == {"README", "pool", "way-in"}


async def test_a_doubted_copy_is_not_sent(site):
    site.readers["debian"].add(b"odd", b"x", unknown=True)
    status, response, body = await site.get("/debian/odd")
    assert status == 503
    assert "being checked" in body.decode()
    assert response.headers["Retry-After"] == "60"


LINKS = [
    (b"pool/latest", b"a/a_1.deb", "/debian/pool/latest", BODY),
    (b"pool/a/up", b"../../README", "/debian/pool/a/up", b"hello\n"),
    (b"dir", b"pool/a", "/debian/dir/a_1.deb", BODY),
    (b"dir", b"./pool//a/", "/debian/dir/a_1.deb", BODY),
    (b"pool/b", b"../dir2", None, None),
    (b"out", b"../../../etc/passwd", None, None),
    (b"absolute", b"/etc/passwd", None, None),
    (b"absolute", b"/README", None, None),
    (b"loop", b"loop", None, None),
    (b"through-a-file", b"README/x", None, None),
    (b"odd", b"a\0b", None, None),
]


@pytest.mark.parametrize(("path", "target", "url", "body"), LINKS)
async def test_links_are_followed_within_the_mirror_only(site, path, target, url, body):
    site.readers["debian"].link(path, target)
    status, _, got = await site.get(url or "/debian/" + path.decode())
    assert (status, got if url else None) == (200 if url else 404, body)


async def test_a_chain_of_links_has_an_end(site):
    reader = site.readers["debian"]
    for number in range(16):
        reader.link(b"l%d" % number, b"l%d" % (number + 1))
    reader.add(b"l16", b"end")
    assert (await site.get("/debian/l0"))[2] == b"end"
    reader.link(b"l16", b"README")
    assert (await site.get("/debian/l0"))[0] == 404


async def test_a_linked_directory_that_names_its_parent_stays_in_the_mirror(site):
    reader = site.readers["debian"]
    reader.add(b"x/y/f", b"f")
    reader.link(b"x/y/back", b"../..")
    assert (await site.get("/debian/x/y/back/x/y/f"))[2] == b"f"


async def test_names_are_bytes(site):
    for name in (b"caf\xe9.txt", b"a b", b"100%", b"q?x", b"#h", b"semi;colon", "ü".encode(), b"+plus"):
        site.readers["debian"].add(name, b"body of " + name)
    for entry in (await site.json("/debian/"))["entries"]:
        if entry["kind"] == "file":
            status, _, body = await site.get("/debian/" + entry["href"])
            assert status == 200
            assert body == b"hello\n" or body.startswith(b"body of ")


async def test_what_is_no_http_gets_400_and_one_line_in_the_log(site, caplog):
    wire = await site.raw(b"GET /debian/caf\xe9.txt HTTP/1.1\r\nHost: x\r\n\r\n")
    assert wire.startswith(b"HTTP/1.0 400")
    assert b"Traceback" not in wire
    assert all(record.exc_info is None and "\n" not in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
async def test_only_get_and_head_are_understood(site, method):
    status, response, _ = await site.get(DEB, method)
    assert status == 405
    assert response.headers["Allow"] == "GET,HEAD"


@pytest.mark.parametrize(
    "host", [b"evil.example", b"a b", b'"><script>', b"\xff\xfe", b"[::1", b"x:99999", b"", b"a" * 5000]
)
async def test_a_junk_host_changes_nothing(site, host):
    """HAZARDS 144."""
    wire = await site.raw(b"GET /debian HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
    assert wire.split(b" ")[1] in (b"301", b"400")
    if wire.split(b" ")[1] == b"301":
        assert b"\r\nLocation: /debian/\r\n" in wire


async def test_two_mirrors_and_an_alias_do_not_get_in_each_others_way(tmp_path):
    outer, inner = FakeReader(tmp_path / "o"), FakeReader(tmp_path / "i")
    (tmp_path / "o").mkdir()
    (tmp_path / "i").mkdir()
    outer.add(b"f", b"outer")
    inner.add(b"f", b"inner")
    mirrors = (
        mirror("outer", "/pub/linux", aliases=("/linux",)),
        mirror("inner", "/pub/linux/inner"),
    )
    async with serving({"outer": outer, "inner": inner}, *mirrors) as site:
        assert (await site.get("/pub/linux/f"))[2] == b"outer"
        assert (await site.get("/linux/f"))[2] == b"outer"
        assert (await site.get("/pub/linux/inner/f"))[2] == b"inner"
        assert (await site.get("/pub"))[1].headers["Location"] == "/pub/"
        assert "inner" in await site.text("/pub/")


async def test_a_mirror_at_the_root_takes_the_root(tmp_path):
    reader = FakeReader(tmp_path)
    reader.add(b"f", b"at the root")
    async with serving({"all": reader}, mirror("all", "/")) as site:
        assert (await site.get("/f"))[2] == b"at the root"
        assert 'href="f"' in await site.text("/")
        assert (await site.get("/-/health"))[0] == 200
        reader.add(b"-/mine", b"an entry of the origin never stands for a page of ours")
        assert (await site.get("/-/mine"))[0] == 404


async def test_a_mirror_that_is_not_for_http_is_not_served(tmp_path):
    from cluster.model import Serve

    reader = FakeReader(tmp_path)
    reader.add(b"f", b"x")
    async with serving({"debian": reader}, mirror(serve=Serve(http=False))) as site:
        assert (await site.get("/debian/f"))[0] == 404
        assert "not over HTTP" in await site.text("/")


async def test_a_store_that_cannot_be_read_is_said_not_thrown(tmp_path):
    async with serving({}, mirror()) as site:
        status, _, body = await site.get("/debian/f")
        assert status == 503
        assert b"debian: nothing is mirrored yet" in body
        assert b"Traceback" not in body


def test_the_dates_of_these_tests_are_right():
    from cluster.web.conditions import http_date

    assert http_date(MTIME) == MODIFIED

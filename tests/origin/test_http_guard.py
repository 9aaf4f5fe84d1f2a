"""Where an HTTP origin may lead this site: HAZARDS 73, 76, 78, 82. A canary proves that nobody connects."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from cluster.errors import OriginError, Refused, Unreachable
from cluster.model import Limits, OriginSpec
from cluster.origin.base import Want
from cluster.origin.http import HttpOrigin
from cluster.origin.http_guard import literal, public
from cluster.origin.http_session import Patience
from tests.origin.conformance import received
from tests.origin.hostile import Hostile, Request, ok, redirect
from tests.servers import nginx


class Names(AbstractResolver):
    """A resolver with a table. A name that is missing is answered after `delay`, which is too late."""

    def __init__(self, delay: float = 60.0, **addresses: str | list[str]) -> None:
        self.addresses = {name.replace("_", "."): a for name, a in addresses.items()}
        self.delay = delay

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = self.addresses.get(host)
        if found is None:
            await asyncio.sleep(self.delay)
        if found == "":
            raise OSError("SERVFAIL")
        rows = [found] if isinstance(found, str) else found or []
        return [
            ResolveResult(
                hostname=host,
                host=a,
                port=port,
                family=socket.AF_INET6 if ":" in a else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for a in rows
        ]

    async def close(self) -> None:
        pass


@pytest.fixture
async def canary() -> AsyncIterator[Hostile]:
    async with Hostile({"/f": ok(b"secret")}) as server:
        yield server


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.215.14", True),
        ("2a00:1450:4001::1", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("2002:808:808::1", True),
        ("127.0.0.1", False),
        ("127.9.9.9", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("198.18.0.1", False),
        ("203.0.113.9", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::808:808", False),
        ("2002:7f00:1::", False),
        ("2001:0:808:808::", False),
        ("2001:db8::1", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
    ],
)
def test_73_what_counts_as_a_public_address(address: str, expected: bool) -> None:
    parsed = literal(address)
    assert parsed is not None
    assert public(parsed) is expected


LOCAL = [
    "http://127.0.0.1:{port}/f",
    "http://127.0.0.2:{port}/f",
    "http://[::1]:{port}/f",
    "http://[::ffff:127.0.0.1]:{port}/f",
    "http://[64:ff9b::7f00:1]:{port}/f",
    "http://[fe80::1]:{port}/f",
    "http://0.0.0.0:{port}/f",
    "http://0x7f.1:{port}/f",
    "http://2130706433:{port}/f",
    "http://127.1:{port}/f",
    "http://0177.0.0.1:{port}/f",
    "http://localhost:{port}/f",
    "http://LOCALHOST.:{port}/f",
    "http://10.0.0.1:{port}/f",
    "http://169.254.169.254/latest/meta-data/",
    "//127.0.0.1:{port}/f",
    "http://user:password@127.0.0.1:{port}/f",
    "http://127.0.0.1%00.example.org:{port}/f",
    "http://inside.example:{port}/f",
    "http://mixed.example:{port}/f",
]


@pytest.mark.parametrize("location", LOCAL)
@pytest.mark.parametrize("method", ["read", "facts", "listing"])
async def test_73_a_redirect_into_our_own_network_connects_to_nothing(
    canary: Hostile, location: str, method: str
) -> None:
    target = location.format(port=canary.port)
    async with Hostile({"/f": redirect(target), "/f/": redirect(target)}) as server:
        origin = HttpOrigin(OriginSpec(server.url), Limits(timeout=2.0), patience=Patience(connect=1.0))
        if "example" in location:
            names = Names(inside_example="127.0.0.1", mixed_example=["127.0.0.1", "::1"])
            origin = HttpOrigin(
                OriginSpec(server.url), Limits(timeout=2.0), resolver=names, patience=Patience(connect=1.0)
            )
        try:
            with pytest.raises(OriginError) as caught:
                if method == "read":
                    await received(origin, b"f")
                else:
                    await getattr(origin, method)(b"f")
            assert caught.value.permanent or "no address" in str(caught.value)
            assert "password" not in str(caught.value)
        finally:
            await origin.close()
    assert canary.connections == 0


async def test_73_the_same_address_at_another_port_is_another_place(canary: Hostile) -> None:
    async with Hostile({"/f": redirect(f"{canary.url}f"), "/g": redirect("/h"), "/h": ok(b"x")}) as server:
        origin = HttpOrigin(OriginSpec(server.url), Limits(timeout=2.0))
        try:
            assert await received(origin, b"g") == b"x"
            with pytest.raises(Refused, match="not marked private"):
                await received(origin, b"f")
        finally:
            await origin.close()
    assert canary.connections == 0


async def test_73_an_origin_marked_private_may_lead_there(canary: Hostile) -> None:
    async with Hostile({"/f": redirect(f"http://user:p4ss@localhost:{canary.port}/f")}) as server:
        origin = HttpOrigin(OriginSpec(server.url, private=True), Limits(timeout=2.0))
        try:
            assert await received(origin, b"f") == b"secret"
            assert "authorization" not in canary.requests[0].headers  # a redirect sets none either
        finally:
            await origin.close()


@pytest.mark.parametrize("name", ["localhost", "origin.example"])
async def test_73_a_name_that_leads_inside_is_refused(canary: Hostile, name: str) -> None:
    resolver = Names(origin_example="127.0.0.1") if "." in name else None
    url = f"http://{name}:{canary.port}/"
    origin = HttpOrigin(OriginSpec(url), Limits(timeout=2.0), resolver=resolver)
    with pytest.raises(Refused, match="not a public address"):
        await received(origin, b"f")
    await origin.close()
    assert canary.connections == 0
    origin = HttpOrigin(OriginSpec(url, private=True), Limits(timeout=2.0), resolver=resolver)
    assert await received(origin, b"f") == b"secret"
    await origin.close()


async def test_73_the_last_check_is_at_the_socket(canary: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the resolver's answers were not judged, nothing connects."""
    monkeypatch.setattr("cluster.origin.http_guard.Guard.permitted", lambda self, host, found: found)
    names = Names(origin_example="127.0.0.1")
    origin = HttpOrigin(
        OriginSpec(f"http://origin.example:{canary.port}/"), Limits(timeout=2.0), resolver=names
    )
    with pytest.raises(Refused, match="not a public address"):
        await received(origin, b"f")
    await origin.close()
    assert canary.connections == 0


@pytest.mark.parametrize(("delay", "error"), [(60.0, "name servers"), (0.0, "no address")])
async def test_82_names_that_do_not_resolve_are_bounded_by_the_patience(delay: float, error: str) -> None:
    names = Names(delay, fails_example="")
    origin = HttpOrigin(
        OriginSpec("http://gone.example/"), Limits(), resolver=names, patience=Patience(connect=0.2)
    )
    async with asyncio.timeout(2):
        with pytest.raises(Unreachable, match=error):
            await origin.facts(b"f")
    await origin.close()


async def test_82_one_dead_address_of_two_does_not_hold_up_the_other(canary: Hostile) -> None:
    names = Names(two_example=["127.0.0.2", "127.0.0.1"])  # nobody listens at the first
    origin = HttpOrigin(
        OriginSpec(f"http://two.example:{canary.port}/", private=True), Limits(timeout=2.0), resolver=names
    )
    async with asyncio.timeout(3):
        assert await received(origin, b"f") == b"secret"
    await origin.close()


# -- credentials ----------------------------------------------------------------------------------


def secret_file(folder: Path, text: str = "mirror:p4ss:word\n", mode: int = 0o600) -> str:
    file = folder / "secret"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


async def test_76_credentials_reach_the_origin_and_nobody_else(canary: Hostile, tmp_path: Path) -> None:
    seen = "Basic bWlycm9yOnA0c3M6d29yZA=="
    async with Hostile({"/f": redirect(f"{canary.url}f"), "/g": redirect("/h"), "/h": ok(b"x")}) as server:
        spec = OriginSpec(server.url, private=True, credentials=secret_file(tmp_path))
        origin = HttpOrigin(spec, Limits(timeout=2.0))
        assert await received(origin, b"g") == b"x"
        assert await received(origin, b"f") == b"secret"
        await origin.close()
        assert [r.headers.get("authorization") for r in server.requests] == [seen] * 3
        assert "authorization" not in canary.requests[0].headers
        assert "p4ss" not in repr(origin) + repr(origin._session) + origin.url


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("mirror:p4ss", 0o644, "0600"),
        ("p4ss", 0o600, "user:password"),
        ("other mirror:p4ss", 0o600, "user:password"),
    ],
)
async def test_76_a_credentials_file_that_is_not_usable_is_refused(
    canary: Hostile, tmp_path: Path, text: str, mode: int, words: str
) -> None:
    spec = OriginSpec(canary.url, credentials=secret_file(tmp_path, text, mode))
    origin = HttpOrigin(spec, Limits())
    with pytest.raises(Refused, match=words) as caught:
        await origin.facts(b"f")
    assert "p4ss" not in str(caught.value)
    await origin.close()
    origin = HttpOrigin(OriginSpec(canary.url, credentials=str(tmp_path / "absent")), Limits())
    with pytest.raises(Refused, match="absent"):
        await origin.facts(b"f")
    await origin.close()
    assert canary.connections == 0


async def test_a_password_in_the_url_is_neither_shown_nor_used(canary: Hostile) -> None:
    url = canary.url.replace("http://", "http://mirror:p4ss@") + "?x=p4ss#p4ss"
    origin = HttpOrigin(OriginSpec(url), Limits(timeout=2.0))
    assert await received(origin, b"f") == b"secret"
    await origin.close()
    assert origin.url == canary.url
    assert "authorization" not in canary.requests[0].headers


# -- the operator's wishes --------------------------------------------------------------------------


async def test_an_http_proxy_is_used_with_its_own_credentials(tmp_path: Path) -> None:
    async with Hostile({"http://origin.example/d/f": ok(b"by proxy")}) as proxy:
        spec = OriginSpec(
            "http://origin.example/d",
            proxy=proxy.url,
            credentials=secret_file(tmp_path, "proxy campus:p4ss\n"),
        )
        origin = HttpOrigin(spec, Limits(timeout=2.0))
        assert await received(origin, b"f") == b"by proxy"
        await origin.close()
        headers = proxy.requests[0].headers
        assert headers["proxy-authorization"] == "Basic Y2FtcHVzOnA0c3M="
        assert "authorization" not in headers
        assert headers["host"] == "origin.example"


async def test_a_proxy_is_no_way_around_the_rule_for_addresses() -> None:
    async with Hostile({"http://origin.example/f": redirect("http://127.0.0.1:1/")}) as proxy:
        origin = HttpOrigin(OriginSpec("http://origin.example/", proxy=proxy.url), Limits(timeout=2.0))
        with pytest.raises(Refused, match="not a public address"):
            await received(origin, b"f")
        await origin.close()
        assert len(proxy.requests) == 1


async def test_bind_family_and_user_agent_are_as_configured() -> None:
    peers: list[str] = []

    async def who(request: Request, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        writer.write(ok(b"x"))
        await writer.drain()

    async with Hostile({"/f": who}) as server:
        spec = OriginSpec(server.url, bind="127.0.0.3", user_agent="Campus/1")
        origin = HttpOrigin(spec, Limits(timeout=2.0))
        assert await received(origin, b"f") == b"x"
        await origin.close()
        assert peers == ["127.0.0.3"]
        assert server.requests[0].headers["user-agent"] == "Campus/1"
        origin = HttpOrigin(OriginSpec(server.url, family="ipv6"), Limits(timeout=2.0))
        with pytest.raises(Refused, match="not an IPv6 address"):
            await received(origin, b"f")
        await origin.close()
        origin = HttpOrigin(OriginSpec(server.url), Limits(timeout=2.0))
        await received(origin, b"f")
        await origin.close()
        assert server.requests[-1].headers["user-agent"].startswith("Sideways/")


# -- TLS --------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str, *, days: int = 1) -> tuple[str, ssl.SSLContext]:
    """A self-signed certificate for an address or a name: its file, and a server's context with it."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    host = (
        x509.IPAddress(ipaddress.ip_address(name))
        if name[-1:].isdigit() or ":" in name
        else x509.DNSName(name)
    )
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=10))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([host]), False)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}-{days}.pem"
    pem = built.public_bytes(serialization.Encoding.PEM)
    hidden = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(pem)
    both = folder / f"{name}-{days}.both"
    both.write_bytes(pem + hidden)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return str(file), context


async def test_78_a_certificate_of_the_configured_authority_is_accepted(tmp_path: Path) -> None:
    ca, context = certificate(tmp_path, "127.0.0.1")
    async with Hostile({"/f": ok(b"x")}, tls=context) as server:
        origin = HttpOrigin(OriginSpec(server.url, ca=ca), Limits(timeout=2.0))
        assert await received(origin, b"f", Want(size=1)) == b"x"
        await origin.close()


@pytest.mark.parametrize("wrong", ["expired", "host", "self-signed", "old"])
async def test_78_anything_else_fails_closed(tmp_path: Path, wrong: str) -> None:
    ca, context = certificate(
        tmp_path, "127.0.0.9" if wrong == "host" else "127.0.0.1", days=-5 if wrong == "expired" else 1
    )
    if wrong == "old":
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1
    async with Hostile({"/f": ok(b"x")}, tls=context) as server:
        spec = OriginSpec(server.url, ca=None if wrong == "self-signed" else ca)
        origin = HttpOrigin(spec, Limits(timeout=2.0))
        with pytest.raises(OriginError) as caught:
            await received(origin, b"f")
        await origin.close()
        # A server that only speaks TLS 1.0 hangs up, which may hide its alert.
        assert isinstance(caught.value, Refused) or wrong == "old", caught.value
        assert server.requests == []


async def test_78_a_port_that_speaks_no_tls_is_said_to_be_one(tmp_path: Path) -> None:
    with nginx(tmp_path) as server:
        url = server.url.replace("http:", "https:")
        origin = HttpOrigin(OriginSpec(url, private=True), Limits(timeout=30))
        with pytest.raises(OriginError, match="what answers there speaks no TLS"):
            await origin.listing(b"")
        await origin.close()


async def test_78_an_authority_file_that_is_not_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "absent.pem"):
        origin = HttpOrigin(OriginSpec("https://127.0.0.1:1/", ca=str(tmp_path / name)), Limits())
        with pytest.raises(Refused, match="CA file"):
            await origin.facts(b"f")
        await origin.close()


@pytest.mark.parametrize("allowed", [False, True])
async def test_75_from_https_to_http_only_where_the_descriptor_allows(tmp_path: Path, allowed: bool) -> None:
    ca, context = certificate(tmp_path, "127.0.0.1")
    async with (
        Hostile({"/f": ok(b"plain")}) as plain,
        Hostile({"/f": redirect(f"{plain.url}f")}, tls=context) as server,
    ):
        origin = HttpOrigin(
            OriginSpec(server.url, ca=ca, private=True, downgrade=allowed), Limits(timeout=2.0)
        )
        if allowed:
            assert await received(origin, b"f") == b"plain"
        else:
            with pytest.raises(Refused, match="from https to http"):
                await received(origin, b"f")
            assert plain.connections == 0
        await origin.close()


async def test_nothing_is_opened_before_the_first_request() -> None:
    before = len(os.listdir("/proc/self/fd"))
    origin = HttpOrigin(OriginSpec("https://nowhere.example/x", credentials="/nonexistent"), Limits())
    assert len(os.listdir("/proc/self/fd")) == before
    await origin.close()


async def test_a_proxy_tunnels_tls_and_sees_only_its_own_credentials(tmp_path: Path) -> None:
    ca, context = certificate(tmp_path, "127.0.0.1")
    heads: list[str] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        host, port = heads[-1].split(" ")[1].split(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer), return_exceptions=True)

    secrets = secret_file(tmp_path, "mirror:origin-secret\nproxy campus:p4ss\n")
    async with Hostile({"/f": ok(b"tunnelled")}, tls=context) as server:
        proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
        port = proxy.sockets[0].getsockname()[1]
        spec = OriginSpec(server.url, proxy=f"http://127.0.0.1:{port}", ca=ca, credentials=secrets)
        origin = HttpOrigin(spec, Limits(timeout=2.0))
        assert await received(origin, b"f") == b"tunnelled"
        await origin.close()
        proxy.close()
        assert "Basic Y2FtcHVzOnA0c3M=" in heads[0]
        assert "\nAuthorization" not in heads[0]
        assert "proxy-authorization" not in server.requests[0].headers
        assert "authorization" in server.requests[0].headers

"""What an FTP origin makes of servers that hang, lie, break off or lead elsewhere (HAZARDS 33, 34, 84-90)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from cluster.errors import Changed, IncompleteListing, NotAListing, Refused, TooLarge, Unreachable, Vanished
from cluster.model import SECOND, Kind, Limits, OriginSpec
from cluster.origin import ftp_listing, ftp_session
from cluster.origin.base import Pouring, Traffic, Want
from cluster.origin.ftp import FtpOrigin
from cluster.origin.ftp_data import passive
from cluster.origin.ftp_replies import Reply
from cluster.origin.ftp_session import FtpSession
from tests.origin.conformance import received
from tests.origin.ftp_servers import open_to_all, paired
from tests.origin.hostile_ftp import HostileFtp, Session, hang, reset
from tests.origin.test_http_guard import certificate
from tests.servers import vsftpd

BODY = bytes(range(256)) * 1200  # 307 200 bytes: more than what is taken without a question


@asynccontextmanager
async def opened(server: HostileFtp, *, timeout: float = 60.0, **spec: object) -> AsyncIterator[FtpOrigin]:
    origin = FtpOrigin(OriginSpec(**{"url": server.url, **spec}), Limits(timeout=timeout))  # type: ignore[arg-type]
    try:
        yield origin
    finally:
        await origin.close()


# -- silence and nonsense on the control connection -------------------------------------------------


@pytest.mark.parametrize(
    "word", [b"", b"USER", b"PASS", b"TYPE", b"PWD", b"FEAT", b"OPTS", b"CWD", b"EPSV", b"LIST", b"MDTM"]
)
async def test_89_a_server_that_hangs_is_given_up(word: bytes) -> None:
    async with HostileFtp({b"a": b"1"}) as server:
        server.say[word] = hang
        async with opened(server, timeout=0.2) as origin:
            with pytest.raises(Unreachable, match="no answer"):
                await origin.listing(b"")


@pytest.mark.parametrize("word", [b"SIZE", b"MDTM", b"EPSV", b"RETR"])
async def test_89_a_server_that_hangs_before_a_body_is_given_up(word: bytes) -> None:
    async with HostileFtp({b"a": BODY}) as server:
        server.say[word] = hang
        async with opened(server, timeout=0.2) as origin:
            with pytest.raises(Unreachable, match="no answer"):
                await received(origin, b"a", Want(size=len(BODY)))


async def test_a_body_that_stops_flowing_is_given_up() -> None:
    async def half(session: Session, writer: asyncio.StreamWriter) -> bytes:
        writer.write(BODY[:1000])
        await asyncio.Event().wait()
        return b""

    async with HostileFtp({b"a": BODY}) as server:
        server.data[b"RETR"] = half
        async with opened(server, timeout=0.2) as origin:
            with pytest.raises(Unreachable, match=r"silent for 0\.2 s after 1000 bytes|no answer"):
                await received(origin, b"a", Want(size=len(BODY)))


async def test_a_body_whose_end_is_not_confirmed_is_not_believed() -> None:
    async def all_of_it(session: Session, writer: asyncio.StreamWriter) -> bytes:
        writer.write(BODY)
        return b""

    async with HostileFtp({b"a": BODY}) as server:
        server.data[b"RETR"] = all_of_it
        async with opened(server, timeout=0.2) as origin:
            with pytest.raises(Unreachable, match="no answer"):
                await received(origin, b"a", Want(size=len(BODY)))


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not a reply"),
        (b"220 " + b"x" * 2**20, "a line of more than"),
        (b"220-" + b"x" * 2**20 + b"\r\n", "a line of more than"),
        (b"220-hello\r\n" + b"more\r\n" * 5000, "a reply of more than"),
        (b"120 wait\r\n" * 1000, "preliminary"),
        (b"220 Hello.\r\n220 Hello again.\r\n", "220 Hello again"),
        (b"\0" * 100 + b"\r\n", "not a reply"),
    ],
)
async def test_89_what_is_not_a_reply_or_has_no_end_is_given_up(greeting: bytes, words: str) -> None:
    async with HostileFtp({b"a": b"1"}) as server:
        server.say[b""] = greeting
        async with opened(server) as origin:
            with pytest.raises(Unreachable, match=words):
                await origin.listing(b"")


async def test_89_a_banner_of_two_hundred_lines_is_only_long() -> None:
    async with HostileFtp({b"a": b"1"}) as server:
        server.say[b""] = b"220-Welcome\r\n" + b"220-and so on\r\n" * 200 + b"220 Hello.\r\n"
        async with opened(server) as origin:
            assert [e.name for e in (await origin.listing(b"")).entries] == [b"a"]


# -- who is let in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [b"", b"USER", b"PASS"])
async def test_89_too_many_users_is_worth_another_try(word: bytes) -> None:
    async with HostileFtp({b"a": b"1"}) as server:
        server.say[word] = b"421 Too many users.\r\n"
        async with opened(server) as origin:
            with pytest.raises(Unreachable, match="421 Too many users"):
                await origin.listing(b"")


@pytest.mark.parametrize(
    "refusal", [b"421 There are too many of you.\r\n", b"530 Sorry, too many users.\r\n"]
)
async def test_89_no_more_connections_are_tried_than_were_let_in(refusal: bytes) -> None:
    async def second_time(session: Session, argument: bytes) -> None:
        session.writer.write(refusal if session.server.open > 1 else b"230 Welcome.\r\n")

    files = {b"%d" % number: b"body" for number in range(12)}
    async with HostileFtp(files) as server:
        server.say[b"PASS"] = second_time
        async with opened(server) as origin:
            await origin.listing(b"")
            bodies = await asyncio.gather(*(received(origin, path, Want(size=4)) for path in files))
            assert bodies == [b"body"] * 12
        assert server.sessions <= 1 + 3  # those that were begun before the first was refused


async def test_a_wrong_password_is_refused_and_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.touch(0o600)
    file.write_text("mirror:hunter2\n")
    async with HostileFtp({b"a": b"1"}) as server:
        server.say[b"PASS"] = b"530 Login incorrect.\r\n"
        async with opened(server, credentials=str(file)) as origin:
            with pytest.raises(Refused, match="530 Login incorrect") as raised:
                await origin.listing(b"")
        assert (server.asked(b"USER"), server.asked(b"PASS")) == ([b"mirror"], [b"hunter2"])
        assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("a:b\n", 0o644, "open to others"),
        ("nothing\n", 0o600, "user:password"),
        ("a:b\nc:d\n", 0o600, "one line"),
    ],
)
async def test_credentials_that_are_not_fit_are_refused(
    tmp_path: Path, text: str, mode: int, words: str
) -> None:
    file = tmp_path / "credentials"
    file.write_text(text)
    file.chmod(mode)
    async with HostileFtp() as server, opened(server, credentials=str(file)) as origin:
        with pytest.raises(Refused, match=words):
            await origin.listing(b"")
        assert not server.sessions


async def test_a_control_connection_that_was_dropped_when_idle_is_replaced_unnoticed() -> None:
    async with HostileFtp({b"a": b"1"}) as server, opened(server) as origin:
        await origin.listing(b"")

        async def gone(session: Session, argument: bytes) -> None:
            session.server.say.pop(b"CWD")
            session.writer.write(b"421 Idle for too long.\r\n")
            session.writer.close()

        server.say[b"CWD"] = gone
        assert (await origin.listing(b"")).entries
        assert server.sessions == 2


async def test_what_arrives_in_the_clear_before_tls_is_not_taken_for_secured() -> None:
    async with HostileFtp({b"a": b"1"}) as server:
        server.say[b"AUTH"] = b"234 Go on.\r\n200 PBSZ is fine.\r\n"
        async with opened(server, url=server.url.replace("ftp:", "ftps:")) as origin:
            with pytest.raises(Unreachable, match=r"unasked|in the clear"):
                await origin.listing(b"")
        assert not server.asked(b"USER")


async def test_a_server_without_tls_is_told_no_password() -> None:
    async with HostileFtp({b"a": b"1"}) as server:
        async with opened(server, url=server.url.replace("ftp:", "ftps:")) as origin:
            with pytest.raises(Refused, match="no TLS: 500"):
                await origin.listing(b"")
        assert not server.asked(b"USER")


async def test_port_990_is_tls_from_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = certificate(tmp_path, "127.0.0.1")
    async with HostileFtp({b"a": BODY}, tls=context) as server:
        monkeypatch.setattr(ftp_session, "PORT_TLS", server.port)
        server.say[b"PBSZ"] = server.say[b"PROT"] = b"200 Yes.\r\n"
        async with opened(server, ca=authority) as origin:
            assert [e.name for e in (await origin.listing(b"")).entries] == [b"a"]
            assert await received(origin, b"a", Want(size=len(BODY))) == BODY
        assert not server.asked(b"AUTH")
        assert server.asked(b"PROT") == [b"P"]


async def test_78_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    both, authority = paired(tmp_path)
    with open_to_all() as root, vsftpd(root, tls=both) as server:
        for ca, words in ((None, "certificate"), (str(both) + ".missing", "not usable as CA file")):
            origin = FtpOrigin(OriginSpec(server.url, ca=ca), Limits())
            with pytest.raises(Refused, match=words):
                await origin.listing(b"")
            await origin.close()
        origin = FtpOrigin(OriginSpec(server.url, ca=authority), Limits())
        assert (await origin.listing(b"")).entries == ()
        await origin.close()


# -- where connections lead --------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["ftp", "ftps"])
async def test_a_port_where_nobody_listens_is_said_in_words(scheme: str) -> None:
    with socket.socket() as taken:  # bound, never listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        origin = FtpOrigin(OriginSpec(f"{scheme}://127.0.0.1:{port}/"), Limits())
        with pytest.raises(Unreachable, match=f"cannot connect to 127.0.0.1:{port}: refused"):
            await origin.listing(b"")
        await origin.close()


async def test_73_a_name_that_leads_to_a_private_network_is_refused() -> None:
    class Inward:
        async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
            return [
                {"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 6, "flags": 0}
            ]

        async def close(self) -> None: ...

    async with HostileFtp({b"a": b"1"}) as server:
        url = f"ftp://ftp.example.org:{server.port}/"
        origin = FtpOrigin(OriginSpec(url), Limits(), resolver=Inward())  # type: ignore[arg-type]
        with pytest.raises(Refused, match="not a public address"):
            await origin.listing(b"")
        await origin.close()
        assert not server.sessions


async def test_84_over_ipv6_there_is_only_epsv() -> None:
    class Six:
        peer = ("2001:db8::1", 21, 0, 0)
        asked: ClassVar[list[bytes]] = []

        async def say(self, command: bytes) -> Reply:
            self.asked.append(command)
            return Reply(500, (b"Unknown.",))

    session = FtpSession(OriginSpec("ftp://ftp.example.org/"), Limits(), Traffic())
    with pytest.raises(Refused, match="500 Unknown"):
        await passive(session, Six(), b"a")  # type: ignore[arg-type]
    assert Six.asked == [b"EPSV"]


async def test_84_a_data_connection_goes_to_the_control_peer_whatever_pasv_says() -> None:
    async def elsewhere(session: Session, argument: bytes) -> None:
        session.reply(b"227 Ready (10,0,0,5,%d,%d)" % divmod(await session.passive(), 256))

    async with HostileFtp({b"a": b"hello"}) as server:
        server.say[b"EPSV"], server.say[b"PASV"] = b"500 Unknown.\r\n", elsewhere
        async with opened(server) as origin:
            assert await received(origin, b"a", Want(size=5)) == b"hello"
            assert await received(origin, b"a", Want(size=5)) == b"hello"
        assert len(server.asked(b"EPSV")) == 1


@pytest.mark.parametrize(
    "answer", [b"229 (|||22|)", b"229 (|||70000|)", b"229 Ready", b"229 (|1|127.0.0.1|5|)"]
)
async def test_84_a_port_that_is_no_data_connection_s_is_not_used(answer: bytes) -> None:
    async with HostileFtp({b"a": b"hello"}) as server:
        server.say[b"EPSV"] = answer + b"\r\n"
        async with opened(server) as origin:
            with pytest.raises(Unreachable, match="no port"):
                await received(origin, b"a", Want(size=5))


async def test_a_data_connection_that_cannot_be_made_is_worth_another_try() -> None:
    async def closed(session: Session, argument: bytes) -> None:
        port = await session.passive()
        session.leave()
        session.reply(b"229 Ready (|||%d|)" % port)

    async with HostileFtp({b"a": BODY}) as server:
        server.say[b"EPSV"] = closed
        async with opened(server) as origin:
            with pytest.raises(Unreachable, match="data connection"):
                await received(origin, b"a", Want(size=len(BODY)))


# -- listings ---------------------------------------------------------------------------------------

ROW = b"-rw-r--r-- 1 ftp ftp 5 Jan 02 2020 name\r\n"


async def test_34_a_listing_that_is_cut_and_called_complete_is_incomplete() -> None:
    async with HostileFtp({b"a": b"1"}) as server:
        server.data[b"LIST"] = ROW * 2 + ROW[:20]
        async with opened(server) as origin:
            with pytest.raises(IncompleteListing):
                await origin.listing(b"")


@pytest.mark.parametrize("how", ["426", "reset", "gone", "count"])
async def test_34_a_listing_whose_transfer_broke_off_is_incomplete(how: str) -> None:
    async def broken(session: Session, writer: asyncio.StreamWriter) -> bytes:
        writer.write(ROW)
        await writer.drain()
        if how == "reset":
            reset(writer)
        if how == "gone":
            session.writer.close()
        return {"426": b"426 Broken.", "count": b"226-Options: -l\r\n226 2 matches total"}.get(
            how, b"226 Done."
        )

    async with HostileFtp({b"a": b"1"}) as server:
        server.data[b"LIST"] = broken
        async with opened(server) as origin:
            with pytest.raises((IncompleteListing, Unreachable)):
                await origin.listing(b"")


@pytest.mark.parametrize("first", [True, False])
async def test_34_a_listing_that_is_cut_between_lines_and_called_complete_lacks_nothing(first: bool) -> None:
    """Of a directory that was listed before: whichever of its two listings is cut."""
    sent: list[bytes] = []

    async def cut(session: Session, argument: bytes) -> None:
        rows = session.rows(dots=True)
        sent.append(rows)
        short = (len(sent) == 1) is first
        await session.send(b"LIST", rows[: rows.index(b"b\r\n") + 3] if short else rows)

    async with HostileFtp({b"a": b"1", b"b": b"1", b"c": b"1"}) as server, opened(server) as origin:
        token = (await origin.listing(b"")).token
        server.files[b"d"] = b"1"
        server.say[b"LIST"] = cut
        if first:
            assert len((await origin.listing(b"", token)).entries) == 4
        else:
            with pytest.raises(IncompleteListing, match="2 of 4 names were missing"):
                await origin.listing(b"", token)
        assert len(sent) == 2


async def test_a_listing_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ftp_listing, "MAX_LISTING", 10**6)

    async def endless(session: Session, writer: asyncio.StreamWriter) -> bytes:
        while True:
            writer.write(ROW * 100)
            await writer.drain()

    async with HostileFtp({b"a": b"1"}) as server:
        server.data[b"LIST"] = endless
        async with opened(server) as origin:
            with pytest.raises(TooLarge, match="more than 1000000 bytes"):
                await origin.listing(b"")


@pytest.mark.parametrize(
    "said",
    [b"226 Transfer done (but failed to open directory).", b"226-Sorry, we were unable to read [.]\r\n226 0"],
)
async def test_33_a_server_that_says_that_it_failed_has_not_listed_an_empty_directory(said: bytes) -> None:
    async def nothing(session: Session, writer: asyncio.StreamWriter) -> bytes:
        return said

    async with HostileFtp({b"a": b"1"}) as server:
        server.data[b"LIST"] = nothing
        async with opened(server) as origin:
            with pytest.raises(Refused, match="not listed"):
                await origin.listing(b"")


async def test_33_nothing_is_not_an_empty_directory_where_such_a_one_would_list_itself() -> None:
    async with HostileFtp({b"a": b"1", b"b/c": b"1"}) as server, opened(server) as origin:
        await origin.listing(b"")
        server.data[b"LIST"] = b""
        with pytest.raises(Refused, match="not even the directory itself"):
            await origin.listing(b"b")


async def test_33_nothing_is_not_an_empty_directory_where_nlst_has_names() -> None:
    async with HostileFtp({b"a": b"1"}) as server:
        server.data[b"LIST"] = b""
        async with opened(server) as origin:
            with pytest.raises(IncompleteListing, match="NLST"):
                await origin.listing(b"")


@pytest.mark.parametrize("said", [b"226 Done.", b"550 No files found.", b"450 Nothing there."])
async def test_33_nothing_is_an_empty_directory_where_nlst_has_none_either(said: bytes) -> None:
    async def nothing(session: Session, argument: bytes) -> None:
        if said.startswith(b"226"):
            await session.send(b"NLST", b"")
        else:
            session.reply(said)

    async with HostileFtp({b"a": b"1"}) as server:
        server.data[b"LIST"], server.say[b"NLST"] = b"", nothing
        async with opened(server) as origin:
            assert (await origin.listing(b"")).entries == ()


async def test_a_page_that_is_no_listing_proves_nothing() -> None:
    async with HostileFtp({b"a": b"1"}) as server:
        server.data[b"LIST"] = b"<html>Please log in</html>\r\n"
        async with opened(server) as origin:
            with pytest.raises(NotAListing):
                await origin.listing(b"")


# -- times ------------------------------------------------------------------------------------------


async def test_90_coarse_times_are_asked_for_in_few_round_trips_and_only_once() -> None:
    files = {b"%04d" % number: b"x" for number in range(1000)}
    async with HostileFtp(files) as server, opened(server) as origin:
        first = await origin.listing(b"")
        assert len(server.asked(b"MDTM")) == 1000
        assert server.batches < 200
        assert {(e.mtime.ns, e.mtime.precision) for e in first.entries if e.mtime} == {
            (1_600_000_000 * SECOND, SECOND)
        }
        asked = len(server.commands)
        again = await origin.listing(b"", first.token)
        assert again.same
        assert len(server.asked(b"MDTM")) == 1000
        assert len(server.commands) - asked == 3  # CWD, EPSV, LIST


async def test_a_directory_in_which_a_minute_is_still_running_has_no_token() -> None:
    async with HostileFtp({b"a": b"1"}) as server, opened(server) as origin:
        server.times[b"a"] = int(time.time()) + 3600  # by a clock that is fast: the next minute is not far
        assert (await origin.listing(b"")).token == b""


async def test_a_server_without_mdtm_is_asked_for_it_no_more() -> None:
    async with (
        HostileFtp({b"%d" % number: b"1" for number in range(300)}) as server,
        opened(server) as origin,
    ):
        server.say[b"MDTM"] = b"502 Not here.\r\n"
        listing = await origin.listing(b"")
        assert listing.entries[0].mtime is not None
        assert listing.entries[0].mtime.precision > SECOND
        asked = len(server.asked(b"MDTM"))
        await origin.listing(b"")
        assert len(server.asked(b"MDTM")) == asked < 300


# -- bodies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, len(BODY)])
async def test_86_a_body_that_is_cut_and_called_complete_is_not_believed(size: int) -> None:
    async with HostileFtp({b"a": BODY[:size]}) as server:
        server.data[b"RETR"] = BODY[: size - 1]
        async with opened(server) as origin:
            with pytest.raises(Unreachable, match=f"{size - 1} bytes arrived, {size} were listed"):
                await received(origin, b"a", Want(size=size))


async def test_86_a_body_of_unknown_size_must_have_the_size_that_is_told() -> None:
    async with HostileFtp({b"a": BODY}) as server:
        server.data[b"RETR"] = BODY[:-1]
        async with opened(server) as origin:
            with pytest.raises(Unreachable, match="bytes arrived"):
                await received(origin, b"a")


async def test_86_a_body_of_which_no_size_is_told_is_not_believed() -> None:
    async with HostileFtp({b"a": BODY}) as server:
        server.say[b"SIZE"] = b"502 Not here.\r\n"
        async with opened(server) as origin:
            assert await received(origin, b"a", Want(size=len(BODY))) == BODY
            with pytest.raises(Unreachable, match="unverified-length"):
                await received(origin, b"a")


@pytest.mark.parametrize("listed", [5, 6])
async def test_86_line_ends_that_were_translated_are_noticed(listed: int) -> None:
    async with HostileFtp({b"a": b"1\n2\n3"}) as server:
        server.data[b"RETR"] = b"1\r\n2\r\n3"
        async with opened(server) as origin:
            with pytest.raises((Changed, Unreachable)):
                await received(origin, b"a", Want(size=listed))


class InMemory:
    """A vessel that is no file."""

    def __init__(self) -> None:
        self.bytes, self._room = bytearray(), bytearray(2**20)

    def room(self) -> memoryview:
        return memoryview(self._room)

    def took(self, count: int) -> None:
        self.bytes += self._room[:count]


@pytest.mark.parametrize(("sent", "words"), [(0, ""), (-1, "broke"), (1, "more arrives")])
async def test_86_a_large_body_that_a_thread_receives_is_judged_as_others(sent: int, words: str) -> None:
    large = BODY * 30
    async with HostileFtp({b"a": large}) as server:
        server.data[b"RETR"] = large[:sent] if sent < 0 else large + b"x" * sent
        async with opened(server) as origin:
            vessel = InMemory()
            async with origin.read(b"a", Want(size=len(large))) as body:
                assert isinstance(body, Pouring)
                if words:
                    with pytest.raises((Unreachable, Changed), match=words):
                        await body.pour(lambda: vessel, lambda count: None)
                else:
                    assert await body.pour(lambda: vessel, lambda count: None) == len(large)
                    assert vessel.bytes == large
            assert origin.traffic.bytes == len(large) + min(sent, 0)
            server.data.clear()
            assert await received(origin, b"a", Want(size=len(large))) == large


async def test_86_a_server_that_will_not_be_binary_is_refused() -> None:
    async with HostileFtp({b"a": b"1"}) as server:
        server.say[b"TYPE"] = b"504 Only text.\r\n"
        async with opened(server) as origin:
            with pytest.raises(Refused, match="504 Only text"):
                await received(origin, b"a", Want(size=1))


async def test_45_a_file_that_grew_since_it_was_listed_has_changed() -> None:
    async with HostileFtp({b"a": b"12345", b"large": BODY}) as server, opened(server) as origin:
        with pytest.raises(Changed, match="more arrives"):
            await received(origin, b"a", Want(size=4))
        with pytest.raises(Changed, match="were listed"):
            await received(origin, b"large", Want(size=len(BODY) - 1))


async def test_a_file_that_changes_while_it_is_read_has_changed() -> None:
    async def touched(session: Session, writer: asyncio.StreamWriter) -> bytes:
        writer.write(BODY)
        session.server.times[b"a"] = 1_700_000_000
        return b"226 Done."

    async with HostileFtp({b"a": BODY}) as server:
        server.data[b"RETR"] = touched
        async with opened(server) as origin:
            with pytest.raises(Changed, match="while it was read"):
                await received(origin, b"a", Want(size=len(BODY)))


async def test_88_a_server_that_does_not_obey_rest_is_read_from_the_start() -> None:
    large = BODY * 40

    async def whole(session: Session, argument: bytes) -> None:
        await session.send(b"RETR", large)

    async with HostileFtp({b"a": large}) as server:
        server.say[b"RETR"] = whole
        async with opened(server) as origin:
            etag = (await origin.facts(b"a")).etag
            for _ in range(2):
                want = Want(size=len(large), start=1000, etag=etag)
                async with origin.read(b"a", want) as body:
                    assert body.start == 0
                    assert b"".join([chunk async for chunk in body.chunks()]) == large
            assert origin.traffic.bytes < 2.5 * len(large)
        assert len(server.asked(b"REST")) == 1


async def test_88_a_server_without_rest_is_read_from_the_start() -> None:
    async with HostileFtp({b"a": BODY}) as server:
        server.say[b"REST"] = b"502 Not here.\r\n"
        async with opened(server) as origin:
            etag = (await origin.facts(b"a")).etag
            async with origin.read(b"a", Want(size=len(BODY), start=1000, etag=etag)) as body:
                assert body.start == 0
                assert b"".join([chunk async for chunk in body.chunks()]) == BODY


async def test_what_was_left_in_the_middle_is_not_asked_anything_else() -> None:
    async with HostileFtp({b"a": BODY * 40, b"b": b"1"}) as server, opened(server) as origin:
        async with origin.read(b"a", Want(size=len(BODY) * 40)) as body:
            async for _ in body.chunks():
                break
        assert await received(origin, b"b", Want(size=1)) == b"1"
        assert server.sessions == 2


# -- names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"a\r\nDELE b", b"a\nb", b"a\0b"])
async def test_85_a_name_with_a_line_end_fails_alone(name: bytes) -> None:
    async with HostileFtp({b"a": b"1"}) as server, opened(server) as origin:
        with pytest.raises(Refused, match="line end"):
            await received(origin, name, Want(size=1))
        with pytest.raises(Refused, match="line end"):
            await origin.facts(name)
        assert await received(origin, b"a", Want(size=1)) == b"1"
        assert not server.asked(b"DELE")


async def test_names_go_over_the_wire_as_the_bytes_that_they_are() -> None:
    names = {b"latin-\xe9": b"1", "utf-é".encode(): b"22", b" leading": b"333", b"-rf *": b"4444"}
    async with HostileFtp(names) as server, opened(server) as origin:
        entries = (await origin.listing(b"")).entries
        assert {e.name for e in entries if e.kind is Kind.FILE} == set(names)
        for name, body in names.items():
            assert await received(origin, name, Want(size=len(body))) == body


@pytest.mark.parametrize(
    ("path", "asked"),
    [("", b"/home/mirror"), ("pub/x", b"/home/mirror/pub/x"), ("%2Fsrv/x", b"/srv/x"), ("%2F", b"/")],
)
async def test_the_path_of_the_url_is_relative_to_the_login_directory(path: str, asked: bytes) -> None:
    async with HostileFtp() as server:
        server.say[b"PWD"] = b'257 "/home/mirror" is where you are\r\n'
        async with opened(server, url=server.url + path) as origin:
            with pytest.raises(Vanished):
                await origin.listing(b"nothing here")
        assert server.asked(b"CWD") == [asked.rstrip(b"/") + b"/nothing here"]


async def test_of_a_file_of_this_very_second_a_read_tells_the_time() -> None:
    async with HostileFtp({b"a": b"1", b"b": b"1"}) as server, opened(server) as origin:
        server.times[b"a"] = int(time.time()) + 3600
        await origin.listing(b"")
        async with origin.read(b"a", Want(size=1)) as body:
            assert body.facts.mtime is not None
        async with origin.read(b"b", Want(size=1)) as body:
            assert body.facts.mtime is None  # the listing has told it

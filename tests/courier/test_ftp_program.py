"""The courier's program for FTP against servers that answer as they are told."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cluster.courier import ftp_program, wire
from cluster.courier.desk import BARREN, TRIES
from cluster.store import small
from tests.courier.errands import FtpErrands, fetched
from tests.origin.ftp_servers import open_to_all
from tests.origin.hostile_ftp import HostileFtp, Session, hang, reset
from tests.servers import GUEST, Server, free_port, proftpd, pure_ftpd, vsftpd

BODY = bytes(range(256)) * 4
SIZE = len(BODY)
VSFTPD = b"220 (vsFTPd 3.0.3)\r\n"


def body_of(number: int) -> bytes:
    return b"%d " % number * (number * 37 % 3000)


def many(count: int) -> tuple[dict[bytes, bytes], list[tuple[str, int]]]:
    files = {b"%d" % i: body_of(i) for i in range(count)}
    return files, [("/" + name.decode(), len(body)) for name, body in files.items()]


# -- the plain case


async def test_files_arrive_with_their_bytes_mode_and_time(tmp_path: Path) -> None:
    async with (
        HostileFtp({b"a": BODY, b"d/b": b"", b"c": b"\r\n\0"}) as server,
        FtpErrands(server.port, tmp_path) as errands,
    ):
        found = await fetched(errands, ("/a", SIZE), ("/d/b", 0), ("/c", 3))
    assert found.arrived == {"/a": BODY, "/d/b": b"", "/c": b"\r\n\0"}
    assert all(told[4:] == (None, None) for told in found.told.values())
    assert server.commands[:4] == [b"USER guest", b"PASS word", b"TYPE I", b"OPTS UTF8 ON"]


@pytest.mark.parametrize("run", [vsftpd, proftpd, pure_ftpd])
async def test_real_servers_send_many_files_over_few_connections(
    run: Callable[..., AbstractContextManager[Server]], tmp_path: Path
) -> None:
    files, wanted = many(150)
    with open_to_all() as root:
        for name, body in files.items():
            (root / name.decode()).write_bytes(body)
        with run(root) as server:
            errands = FtpErrands(server.port, tmp_path, connections=4)
            errands.log_in(*(GUEST if run is pure_ftpd else ("anonymous", "guest@")))
            async with errands:
                found = await fetched(errands, *wanted)
    assert {target[1:].encode(): body for target, body in found.arrived.items()} == files
    assert errands.program.ahead is (run is vsftpd), "who waits for a command before it is sent a file"


async def test_many_errands_over_few_connections(tmp_path: Path) -> None:
    files, wanted = many(200)
    async with HostileFtp(files) as server, FtpErrands(server.port, tmp_path, connections=3) as errands:
        for start in range(0, 200, 50):
            await errands.send(wanted[start : start + 50])
        found = await errands.outcome()
    assert len(found.arrived) == 200
    assert server.most <= 3
    assert found.requests >= 400
    assert found.discarded == 0


async def test_the_next_port_is_asked_for_with_a_file_where_the_server_is_known_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ftp_program, "LINGER", 1e6)  # nobody says good-bye meanwhile
    files, wanted = many(20)
    for greeting, pairs in ((VSFTPD, 19), (b"220 Other\r\n", 0)):
        async with HostileFtp(files) as server:
            server.say[b""] = greeting
            folder = tmp_path / str(pairs)
            folder.mkdir()
            async with FtpErrands(server.port, folder) as errands:
                found = await fetched(errands, *wanted)
        assert len(found.arrived) == 20
        assert len(server.asked(b"EPSV")) == 20
        assert server.batches == 3 + 40 - pairs


async def test_a_server_that_would_not_be_asked_ahead_is_asked_in_its_turn(tmp_path: Path) -> None:
    files, wanted = many(20)
    async with HostileFtp(files) as server:
        server.say[b""] = VSFTPD

        async def once(session: Session, argument: bytes) -> None:
            if len(server.asked(b"EPSV")) == 2:
                session.reply(b"450 Not now.")
            else:
                await session.on_epsv(argument)

        server.say[b"EPSV"] = once
        async with FtpErrands(server.port, tmp_path) as errands:
            found = await fetched(errands, *wanted)
        assert len(found.arrived) == 20
        assert not errands.program.ahead


async def test_a_server_without_epsv_is_asked_for_pasv(tmp_path: Path) -> None:
    files, wanted = many(10)
    async with HostileFtp(files) as server:
        server.say[b"EPSV"] = b"500 What?\r\n"
        async with FtpErrands(server.port, tmp_path) as errands:
            found = await fetched(errands, *wanted)
    assert len(found.arrived) == 10
    assert (len(server.asked(b"EPSV")), len(server.asked(b"PASV"))) == (1, 10)


async def test_84_a_data_connection_goes_to_the_control_peer_whatever_pasv_says(tmp_path: Path) -> None:
    async with HostileFtp({b"a": BODY}) as server:

        async def elsewhere(session: Session, argument: bytes) -> None:
            session.reply(b"227 Ready (10,0,0,5,%d,%d)" % divmod(await session.passive(), 256))

        server.say[b"PASV"] = elsewhere
        async with FtpErrands(server.port, tmp_path, extended=False) as errands:
            found = await fetched(errands, ("/a", SIZE))
    assert found.arrived == {"/a": BODY}


async def test_connections_without_anything_to_do_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ftp_program, "LINGER", 0.05)
    async with HostileFtp({b"a": BODY}) as server, FtpErrands(server.port, tmp_path) as errands:
        await fetched(errands, ("/a", SIZE))
        async with asyncio.timeout(50):
            while server.open:  # noqa: ASYNC110  # the server notices by itself
                await asyncio.sleep(0.01)
        assert server.commands[-1] == b"QUIT"
        await errands.send([("/a", SIZE)])
        assert (await errands.outcome()).arrived == {"/a": BODY}
    assert server.sessions == 2


# -- what is handed back


Sending = Callable[[Session, asyncio.StreamWriter], Awaitable[bytes]]


async def short(session: Session, writer: asyncio.StreamWriter) -> bytes:
    writer.write(BODY[:-1])
    return b"226 Done."


async def long(session: Session, writer: asyncio.StreamWriter) -> bytes:
    writer.write(BODY + b"!")
    return b"226 Done."


async def unsaid(session: Session, writer: asyncio.StreamWriter) -> bytes:
    writer.write(BODY)
    return b"426 Broken."


@pytest.mark.parametrize("sending", [short, long, unsaid])
async def test_86_a_body_that_is_not_as_listed_is_asked_for_alone(sending: Sending, tmp_path: Path) -> None:
    async with HostileFtp({b"a": BODY, b"b": b"good"}) as server:

        async def first(session: Session, argument: bytes) -> None:
            server.data = {b"RETR": sending} if argument == b"/a" else {}
            await session.on_retr(argument)

        server.say[b"RETR"] = first
        async with FtpErrands(server.port, tmp_path) as errands:
            found = await fetched(errands, ("/a", SIZE), ("/b", 4))
    assert found.alone == {"/a": wire.ODD}
    assert found.arrived == {"/b": b"good"}
    if sending is not unsaid:  # which may be known before any of it has been read
        assert found.discarded >= SIZE - 1


async def test_a_refused_file_is_asked_for_alone_and_the_connection_is_kept(tmp_path: Path) -> None:
    files, wanted = many(20)
    gone = [(f"/gone{i}", 3) for i in range(3 * BARREN)]
    async with HostileFtp(files) as server, FtpErrands(server.port, tmp_path) as errands:
        found = await fetched(errands, *gone, *wanted)
    assert found.alone == {target: wire.ODD for target, _ in gone}
    assert len(found.arrived) == 20
    assert server.sessions == 1


@pytest.mark.parametrize("name", ["/a\r\nDELE b", "/a\nb", "/a\rb", "/a\0b"])
async def test_85_a_name_that_no_command_can_hold_is_asked_for_alone(name: str, tmp_path: Path) -> None:
    async with HostileFtp({b"b": b"1"}) as server, FtpErrands(server.port, tmp_path) as errands:
        found = await fetched(errands, (name, 1), ("/b", 1))
    assert (found.alone, found.arrived) == ({name: wire.ODD}, {"/b": b"1"})
    assert server.asked(b"DELE") == []


@pytest.mark.parametrize("word", [b"EPSV", b"RETR"])
async def test_89_a_server_that_hangs_gets_its_file_back_to_be_asked_for_alone(
    word: bytes, tmp_path: Path
) -> None:
    async with HostileFtp({b"a": BODY}) as server:
        server.say[word] = hang
        async with FtpErrands(server.port, tmp_path, silence=0.2) as errands:
            found = await fetched(errands, ("/a", SIZE))
    assert found.alone == {"/a": wire.ODD}


@pytest.mark.parametrize("word", [b"", b"USER", b"PASS", b"TYPE"])
async def test_89_who_is_not_let_in_gives_up(word: bytes, tmp_path: Path) -> None:
    _, wanted = many(5)
    for said in (b"421 Too many users.\r\n", b"530 No.\r\n", b"500 What?\r\n", b"junk\r\n"):
        async with HostileFtp() as server:
            server.say[word] = said
            async with FtpErrands(server.port, tmp_path) as errands:
                found = await fetched(errands, *wanted)
        assert found.alone == {target: wire.GONE for target, _ in wanted}
        assert server.sessions <= BARREN


async def test_89_no_more_connections_are_tried_than_were_let_in(tmp_path: Path) -> None:
    files, wanted = many(200)
    async with HostileFtp(files) as server:

        async def crowded(session: Session, argument: bytes) -> None:
            if server.open > 2:
                session.reply(b"421 Too many users.")
                session.writer.close()
            else:
                session.reply(b"220 Hello.")

        server.say[b""] = crowded
        async with FtpErrands(server.port, tmp_path, connections=6) as errands:
            found = await fetched(errands, *wanted)
    assert len(found.arrived) == 200
    assert server.sessions <= 6


async def test_a_port_where_nobody_listens_gives_up(tmp_path: Path) -> None:
    async with FtpErrands(free_port(), tmp_path) as errands:
        found = await fetched(errands, ("/a", 1))
    assert found.alone == {"/a": wire.GONE}


@pytest.mark.parametrize("port", [22, 0, 99999])
async def test_84_a_port_that_is_no_data_connection_s_is_not_used(port: int, tmp_path: Path) -> None:
    async with HostileFtp({b"a": BODY}) as server:
        server.say[b"EPSV"] = b"229 Ready (|||%d|)\r\n" % port
        async with FtpErrands(server.port, tmp_path) as errands:
            found = await fetched(errands, ("/a", SIZE))
    assert found.alone == {"/a": wire.ODD}
    assert server.asked(b"RETR") == []


async def test_connections_that_end_after_so_many_files_cost_nothing_but_others(tmp_path: Path) -> None:
    files, wanted = many(60)
    async with HostileFtp(files) as server:

        async def some(session: Session, argument: bytes) -> None:
            if len(server.asked(b"RETR")) % 7 == 0:
                reset(session.writer)
            else:
                await session.on_retr(argument)

        server.say[b"RETR"] = some
        async with FtpErrands(server.port, tmp_path, connections=2) as errands:
            found = await fetched(errands, *wanted)
    assert len(found.arrived) == 60
    assert not found.alone


async def test_a_file_that_breaks_every_connection_is_asked_for_alone(tmp_path: Path) -> None:
    files, wanted = many(10)
    async with HostileFtp(files) as server:

        async def fatal(session: Session, argument: bytes) -> None:
            if argument == b"/3":
                reset(session.writer)
            else:
                await session.on_retr(argument)

        server.say[b"RETR"] = fatal
        async with FtpErrands(server.port, tmp_path) as errands:
            found = await fetched(errands, *wanted)
    assert found.alone == {"/3": wire.ODD}
    assert len(found.arrived) == 9
    assert server.asked(b"RETR").count(b"/3") == TRIES


@pytest.mark.parametrize("sent", [b"", b"never as long as that" * 1000])
async def test_a_server_that_spoils_everything_is_given_up(sent: bytes, tmp_path: Path) -> None:
    files, wanted = many(100)
    async with HostileFtp(files) as server:
        server.data[b"RETR"] = sent
        async with FtpErrands(server.port, tmp_path, connections=2) as errands:
            found = await fetched(errands, *wanted)
    assert len(found.alone) >= 99, "one of them has no bytes"
    assert wire.GONE in found.alone.values()
    assert len(server.asked(b"RETR")) < 50


async def test_a_file_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(small, "write", full)
    async with HostileFtp({b"a": BODY}) as server, FtpErrands(server.port, tmp_path) as errands:
        found = await fetched(errands, ("/a", SIZE))
    assert found.failed == {"/a": errno.ENOSPC}

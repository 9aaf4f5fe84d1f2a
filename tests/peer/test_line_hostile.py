"""What a sibling that breaks the rules of a line, or floods it, can do: end that line, and nothing else."""

import asyncio
import resource
import time

import msgpack
import pytest

from cluster.model import Claim, Row
from cluster.peer import heard, line, linewire
from tests.peer.cluster import running
from tests.peer.hostile import dialled, farewell, greeted
from tests.peer.test_lines import fetched_by, until


@pytest.mark.parametrize(
    ("junk", "says"),
    [
        (b"", "message: cut off"),
        (b"\xff\xff\xff", "message: "),
        (msgpack.packb({"v": [1, 1]}), "message: not an array"),
        (msgpack.packb([]), "message: not an array of 1"),
        (msgpack.packb([1, 2]), "message: not printable text"),
        (b"\xdd\xff\xff\xff\xff", "array of 4294967295"),
        (b"\x91" * 2000 + b"\xc0", "nested deeper"),
        (msgpack.packb(["fetching"]), "fetching: only 1 elements"),
        (msgpack.packb(["fetching", [["debian", b"../etc", []]]]), "path: "),
        (msgpack.packb(["fetching", [["debian", b"", [[b"a/b", *[None] * 4, 0, 0, True]]]]]), "name: "),
        (msgpack.packb(["fetching", [["debian", b"", [[b"a", *[None] * 4, -1, 0, True]]]]]), "received: "),
        (
            msgpack.packb(["fetching", [["debian", b"", [[b"a", *[None] * 4, 0, 0, True, 9, 9, None]]]]]),
            "ends before it begins",
        ),
        (msgpack.packb(["gone", [["debian", b"", [[b"a", 2**63]]]]]), "message: an integer of 2**63"),
        (msgpack.packb(["greeting", [1, 1], "oslo", "test"]), "greets twice"),
        (msgpack.packb(["news", "debian", "x", 1, False, [[2, 0, "", b"a", 0, 0, None, ""]]]), "beyond"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_junk_ends_the_line_with_the_reason(cluster, junk, says):
    """HAZARDS 124, 125."""
    async with running(cluster, "kent", "oslo") as (kent, _):
        await kent.meets("oslo")
        async with dialled(cluster, "oslo", "kent") as evil:
            await greeted(evil, "oslo")
            await until(lambda: kent.lines.to("oslo"))
            await evil.send_bytes(linewire.WHOLE)
            await evil.send_bytes(junk)
            code, reason = await farewell(evil)
        assert code == line.BROKEN
        assert says in reason
        assert kent.lines.to("oslo") is None
        assert not kent.claims.heard.knows("oslo")
        assert says in kent.sibling("oslo").trouble


async def test_text_and_frames_that_are_too_large_end_the_line(cluster):
    async with running(cluster, "kent") as (kent,):
        async with dialled(cluster, "oslo", "kent") as evil:
            await greeted(evil, "oslo")
            await evil.send_str("hello")
            assert (await farewell(evil))[1] == "sends text on its line"
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with dialled(cluster, "oslo", "kent") as evil:
            await greeted(evil, "oslo")
            await evil.send_bytes(b"\xc4" * (4 * 2**20))
            assert (await farewell(evil))[0] in (1009, line.BROKEN)
            await until(lambda: kent.lines.to("oslo") is None)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize(
    ("greeting", "says"),
    [
        (linewire.greeting(linewire.Greeting("lancaster", "test")), "says it is lancaster of test"),
        (linewire.greeting(linewire.Greeting("oslo", "other")), "says it is oslo of other"),
        (msgpack.packb(["greeting", [2, 0], "oslo", "test"]), "version 2 of the peer protocol, here it is 1"),
        (linewire.WHOLE, "begins a line without a greeting"),
    ],
    ids=["another site", "another cluster", "a major version ahead", "no greeting"],
)
async def test_who_is_not_what_its_certificate_says_has_no_line(cluster, caplog, greeting, says):
    """HAZARDS 132."""
    async with running(cluster, "kent") as (kent,), dialled(cluster, "oslo", "kent") as evil:
        await evil.send_bytes(greeting)
        await farewell_or_cut(evil)
        assert kent.lines.to("oslo") is None
        await until(lambda: says in caplog.text)


async def farewell_or_cut(socket) -> None:
    async with asyncio.timeout(5):
        while not socket.closed:
            await socket.receive()


async def test_a_minor_version_ahead_is_understood(cluster):
    """HAZARDS 132."""
    row = [b"a", 7, None, None, None, 0, 0, True, 0, None, None, "more", {"of": [1]}]
    async with running(cluster, "kent") as (kent,), dialled(cluster, "oslo", "kent") as newer:
        await newer.send_bytes(msgpack.packb(["greeting", [1, 9], "oslo", "test", {"new": True}]))
        await until(lambda: kent.lines.to("oslo"))
        await newer.send_bytes(msgpack.packb(["weather", {"mood": "good"}]))
        await newer.send_bytes(msgpack.packb(["fetching", [["debian", b"pool", [row], "x"]], "y"]))
        await newer.send_bytes(msgpack.packb(["whole", 1]))
        await until(lambda: kent.claims.heard.knows("oslo"))
        assert fetched_by(kent) == ["oslo"]


async def test_claims_on_mirrors_that_are_not_shared_are_passed_over(cluster):
    """`ctan` is not for oslo; `nowhere` is for nobody."""
    async with running(cluster, "kent") as (kent,), dialled(cluster, "oslo", "kent") as evil:
        await greeted(evil, "oslo")
        claims = [(mirror, b"pool", Claim(b"a", Row())) for mirror in ("ctan", "nowhere", "debian")]
        for message in linewire.fetching(claims):
            await evil.send_bytes(message)
        await until(lambda: fetched_by(kent))
        assert not fetched_by(kent, mirror="ctan")
        assert not fetched_by(kent, mirror="nowhere")


async def test_a_flood_of_claims_ends_the_line_and_takes_little_memory(cluster):
    async with running(cluster, "kent", "lancaster", talk=True) as (kent, _):
        await kent.has_line("lancaster")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with dialled(cluster, "oslo", "kent") as evil:
            await greeted(evil, "oslo")
            many = (("debian", b"pool", Claim(b"%d" % n, Row(rounded="r" * 500))) for n in range(20_000))
            for message in linewire.fetching(many):
                await evil.send_bytes(message)
            assert await farewell(evil) == (line.BROKEN, f"claims: more than {heard.MAX_CLAIMS} at once")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
        assert not kent.claims.heard.knows("oslo")
        assert kent.claims.heard.knows("lancaster")


async def test_a_flood_of_messages_is_read_slowly_and_others_are_heard_meanwhile(cluster, monkeypatch):
    monkeypatch.setattr(line, "BURST", 50.0)
    async with running(cluster, "kent", "lancaster", talk=True) as (kent, lancaster):
        await kent.has_line("lancaster")
        read = 0
        original = linewire.read

        def counted(data):
            nonlocal read
            read += 1
            return original(data)

        async with dialled(cluster, "oslo", "kent") as evil:
            await greeted(evil, "oslo")
            await until(lambda: kent.lines.to("oslo"))
            monkeypatch.setattr(linewire, "read", counted)

            async def flood():
                while True:
                    await evil.send_bytes(linewire.sign(linewire.Sign()))
                    await asyncio.sleep(0)

            flooding = asyncio.create_task(flood())
            await asyncio.sleep(1.0)
            assert read < 50 + 1.5 * line.RATE
            lancaster.claims.claim("debian", b"pool", b"a", Row(), time.monotonic())
            assert await until(lambda: fetched_by(kent) == ["lancaster"]) < 0.5
            flooding.cancel()


async def test_three_faults_in_a_row_set_a_sibling_aside(cluster):
    async with running(cluster, "kent", "oslo") as (kent, _):
        sibling = await kent.meets("oslo")
        for _ in range(3):
            async with dialled(cluster, "oslo", "kent") as evil:
                await greeted(evil, "oslo")
                await evil.send_bytes(b"junk")
                await farewell(evil)
        await until(lambda: not sibling.up)
        assert 50 < sibling.link.breaker.wait(time.monotonic()) <= 60
        with pytest.raises(Exception, match="503"):
            async with dialled(cluster, "oslo", "kent"):
                pass


async def test_one_sibling_holds_one_line_however_often_it_dials(cluster):
    async with running(cluster, "kent") as (kent,):
        for _ in range(3):
            async with dialled(cluster, "oslo", "kent") as first, dialled(cluster, "oslo", "kent") as second:
                await greeted(first, "oslo")
                await greeted(second, "oslo")
                assert (await farewell(first))[0] == line.KEPT
                await until(lambda: kent.lines.to("oslo"))
                assert len(kent.lines._lines) == 1
            await until(lambda: not kent.lines._talking)


async def test_who_dials_and_says_nothing_is_left(cluster, monkeypatch):
    """HAZARDS 126."""
    monkeypatch.setattr(line, "GREETING", 0.3)
    async with running(cluster, "kent") as (kent,), dialled(cluster, "oslo", "kent") as silent:
        await silent.receive()  # kent's greeting
        assert (await silent.receive(timeout=2.0)).type.name == "CLOSE"
        assert kent.lines.to("oslo") is None

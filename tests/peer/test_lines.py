"""Lines between real sites: claims arrive unasked, one line is kept, and what ends leaves nothing behind."""

import asyncio
import time
from dataclasses import replace

from cluster.model import Row
from cluster.peer import line, lines, linewire
from cluster.peer.heard import Heard
from cluster.plan.slow import Headway
from tests.peer.cluster import free_port, running
from tests.peer.hostile import dialled, farewell, greeted, said

ROW = Row(size=7)


async def until(true, seconds: float = 3.0) -> float:
    """Wait for it; the seconds that it took."""
    started = time.perf_counter()
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return time.perf_counter() - started


def fetched_by(station, path: bytes = b"pool/a", mirror: str = "debian") -> list[str]:
    """Who is fetching a file, as this site knows without asking."""
    return [told.site for told in station.claims.heard.at(mirror, path, time.monotonic())]


def unreachable(cluster, name: str):
    """The same cluster, where nobody else finds the way to a site."""
    site = cluster.sites[name]
    peer = replace(site.peer, url=f"https://127.0.0.1:{free_port()}")
    return replace(cluster, sites=cluster.sites | {name: replace(site, peer=peer)})


def hear(known: Heard, message) -> None:
    """What a sibling makes of what kent says."""
    match message:
        case linewire.Anew():
            known.begin("kent")
        case linewire.Whole():
            known.whole("kent")
        case linewire.Cleared(mirror):
            known.cleared("kent", mirror)
        case linewire.Fetching(groups):
            for mirror, directory, claims in groups:
                known.claimed("kent", mirror, directory, claims, 0.0)


def is_told(known: Heard, prefix: bytes) -> bool:
    claims = known.within("debian", b"pool", 0.0)
    return (
        known.knows("kent") and len(claims) == 1000 and all(c.claim.name.startswith(prefix) for c in claims)
    )


async def test_a_claim_is_known_at_every_sibling_within_milliseconds(cluster):
    async with running(cluster, talk=True) as (kent, lancaster, oslo):
        for station in (lancaster, oslo):
            await station.has_line("kent")
        took = []
        for n in range(20):
            name = b"%d" % n
            kent.claims.claim("debian", b"pool", name, ROW, time.monotonic())
            path = b"pool/" + name
            took.append(
                await until(lambda p=path: fetched_by(lancaster, p) == fetched_by(oslo, p) == ["kent"])
            )
        assert sorted(took)[10] < 0.1
        (told,) = lancaster.claims.heard.at("debian", b"pool/0", time.monotonic())
        assert (told.claim.row, told.claim.started, told.claim.received) == (ROW, False, 0)
        for number in range(20):
            kent.claims.release("debian", b"pool", b"%d" % number)
        await until(lambda: not fetched_by(lancaster, b"pool/19") and not fetched_by(oslo, b"pool/19"))
        assert lancaster.claims.heard.within("debian", b"pool", time.monotonic()) == []


async def test_a_site_that_comes_later_is_told_everything_first(cluster):
    async with running(cluster, "kent", talk=True) as (kent,):
        for n in range(3000):
            kent.claims.claim("debian", b"d%d" % (n % 7), b"n%d" % n, ROW, time.monotonic())
        kent.claims.start("debian", b"d0", b"n0", time.monotonic())
        async with running(cluster, "oslo", talk=True) as (oslo,):
            await oslo.has_line("kent")
            known = [len(oslo.claims.heard.within("debian", b"d%d" % n, time.monotonic())) for n in range(7)]
            assert sum(known) == 3000
            (told,) = oslo.claims.heard.at("debian", b"d0/n0", time.monotonic())
            assert told.claim.started


async def test_progress_renews_a_claim_and_without_it_the_claim_grows_idle(cluster):
    async with running(cluster, "kent", "oslo", talk=True) as (kent, oslo):
        await oslo.has_line("kent")
        kent.claims.claim("debian", b"pool", b"a", ROW, time.monotonic(), first=64, end=128, etag='"v"')
        await until(lambda: fetched_by(oslo))
        await asyncio.sleep(0.7)
        (before,) = oslo.claims.heard.at("debian", b"pool/a", time.monotonic())
        assert before.claim.idle > 0.6
        kent.claims.progress("debian", b"pool", b"a", 30, time.monotonic(), first=64)
        await until(lambda: oslo.claims.heard.at("debian", b"pool/a", 0.0)[0].claim.received == 30)
        (after,) = oslo.claims.heard.at("debian", b"pool/a", time.monotonic())
        assert after.claim.idle < 0.3
        assert (after.claim.first, after.claim.end, after.claim.etag) == (64, 128, '"v"')
        assert after.advanced > before.advanced


async def test_the_end_of_a_pass_takes_all_its_claims_away(cluster):
    async with running(cluster, "kent", "lancaster", talk=True) as (kent, lancaster):
        await lancaster.has_line("kent")
        for mirror in ("debian", "ctan"):
            kent.claims.claim(mirror, b"pool", b"a", ROW, time.monotonic())
        await until(lambda: fetched_by(lancaster) and fetched_by(lancaster, mirror="ctan"))
        kent.claims.clear("debian")
        await until(lambda: not fetched_by(lancaster))
        assert fetched_by(lancaster, mirror="ctan") == ["kent"]


async def test_how_a_pass_goes_is_known_at_siblings_until_its_end(cluster):
    goes = Headway(2_000_000, 20_000_000)
    async with running(cluster, "kent", talk=True) as (kent,):
        kent.claims.goes("debian", goes)
        kent.claims.goes("ctan", goes)
        async with running(cluster, "oslo", talk=True) as (oslo,):
            await oslo.has_line("kent")
            await until(lambda: oslo.claims.heard.going("debian") == {"kent": goes}, 30.0)
            assert oslo.claims.heard.going("ctan") == {}, "a mirror that is not shared"
            later = replace(goes, fetched=30_000_000)
            kent.claims.goes("debian", later)
            await until(lambda: oslo.claims.heard.going("debian") == {"kent": later}, 30.0)
            oslo.claims.goes("debian", Headway(10, 20))
            assert oslo.claims.without("debian") == frozenset()
            assert kent.claims.without("debian") == frozenset()
            await until(lambda: kent.claims.without("debian") == {"oslo"}, 30.0)
            kent.claims.clear("debian")
            await until(lambda: not oslo.claims.heard.going("debian"), 30.0)


async def test_nothing_is_told_of_a_mirror_that_is_not_shared(cluster):
    async with running(cluster, "kent", "oslo", talk=True) as (kent, oslo):
        await oslo.has_line("kent")
        kent.claims.claim("ctan", b"", b"secret", ROW, time.monotonic())
        kent.claims.claim("debian", b"", b"open", ROW, time.monotonic())
        await until(lambda: fetched_by(oslo, b"open"))
        assert not fetched_by(oslo, b"secret", "ctan")


async def test_both_dial_and_one_line_is_kept(cluster, monkeypatch):
    monkeypatch.setattr(lines, "POLITE", 0.0)
    async with running(cluster, "kent", "oslo", talk=True) as (kent, oslo):
        await kent.has_line("oslo")
        await oslo.has_line("kent")
        await asyncio.sleep(0.5)
        assert kent.lines.to("oslo").dialler == oslo.lines.to("kent").dialler
        assert len(kent.lines._talking) == len(oslo.lines._talking) == 1
        kent.claims.claim("debian", b"pool", b"a", ROW, time.monotonic())
        await until(lambda: fetched_by(oslo))


async def test_where_two_lines_meet_the_one_of_the_lower_name_is_kept(cluster):
    async with running(cluster, "kent", "oslo", talk=True) as (kent, oslo):
        await oslo.has_line("kent")
        await kent.has_line("oslo")
        kept = kent.lines.to("oslo")
        assert kept.dialler == "kent"
        async with dialled(cluster, "oslo", "kent") as intruder:  # oslo dials although it has a line
            await greeted(intruder, "oslo")
            assert await farewell(intruder) == (line.KEPT, "another line is kept")
        assert kent.lines.to("oslo") is kept
        await asyncio.sleep(2.5)  # it was asked for a sign, and gave it
        assert kent.lines.to("oslo") is kept


async def test_a_line_that_the_other_side_has_lost_is_found_out(cluster, monkeypatch):
    """The line that is kept by rule is dead without our knowing: a second call makes us look."""
    monkeypatch.setattr(line, "ROUND", 0.1)
    async with running(cluster, "oslo", talk=True) as (oslo,), dialled(cluster, "kent", "oslo") as dead:
        await greeted(dead, "kent")
        await until(lambda: oslo.lines.to("kent"))
        first = oslo.lines.to("kent")
        async with dialled(cluster, "kent", "oslo") as again:  # the same site again: the newer one counts
            await greeted(again, "kent")
            await until(lambda: oslo.lines.to("kent") not in (first, None))
            await again.send_bytes(linewire.ANEW)
            await again.send_bytes(linewire.WHOLE)
            await until(lambda: oslo.claims.heard.knows("kent"))


async def test_claims_end_with_the_site_that_made_them_and_polling_goes_on(cluster):
    async with running(cluster, "kent", talk=True) as (kent,):
        async with running(cluster, "oslo", talk=True) as (oslo,):
            await kent.has_line("oslo")
            oslo.claims.claim("debian", b"pool", b"a", ROW, time.monotonic())
            await until(lambda: fetched_by(kent))
        await until(lambda: not fetched_by(kent))
        assert not kent.claims.heard.knows("oslo")
        async with running(cluster, "oslo") as (silent,):  # a site that has no lines
            silent.claims.claim("debian", b"pool", b"b", ROW, time.monotonic())
            sibling = await kent.meets("oslo")
            assert list((await sibling.offered("debian", b"pool", 2.0)).claims) == [b"b"]


async def test_a_line_that_falls_silent_is_given_up_and_dialled_again(cluster, monkeypatch):
    monkeypatch.setattr(line, "ROUND", 0.05)
    monkeypatch.setattr(lines, "REDIAL", 0.05)
    async with running(cluster, "kent", "oslo", talk=True) as (kent, oslo):
        await kent.has_line("oslo")
        await oslo.has_line("kent")
        kept, other = kent.lines.to("oslo"), oslo.lines.to("kent")
        oslo.claims.claim("debian", b"pool", b"a", ROW, time.monotonic())
        await until(lambda: fetched_by(kent))

        assert kept._quiet <= 2 * line.SIGN
        other.say = lambda message, always=False: True  # oslo says nothing any more
        await until(lambda: kent.lines.to("oslo") is not kept)
        await until(lambda: kent.lines.to("oslo") is not None)
        await kent.has_line("oslo")
        assert fetched_by(kent) == ["oslo"]


async def test_a_site_that_can_only_dial_out_tells_and_hears_everything(cluster):
    """Nobody reaches oslo; the line that it dials carries both directions."""
    async with running(unreachable(cluster, "oslo"), "kent", "oslo", talk=True) as (kent, oslo):
        await oslo.has_line("kent")
        await kent.has_line("oslo")
        assert kent.lines.to("oslo").dialler == "oslo"
        kent.claims.claim("debian", b"pool", b"a", ROW, time.monotonic())
        oslo.claims.claim("debian", b"pool", b"b", ROW, time.monotonic())
        await until(lambda: fetched_by(oslo) == ["kent"])
        await until(lambda: fetched_by(kent, b"pool/b") == ["oslo"])


async def test_a_sibling_that_reads_nothing_holds_up_nobody_and_is_told_anew_later(cluster, monkeypatch):
    monkeypatch.setattr(line, "MAX_QUEUED", 2**17)
    async with running(cluster, "kent", "oslo", talk=True) as (kent, oslo):
        await oslo.has_line("kent")
        async with dialled(cluster, "lancaster", "kent") as slow:
            await greeted(slow, "lancaster")
            await until(lambda: kent.lines.to("lancaster"))
            stuck = kent.lines.to("lancaster")
            last = 0
            while not stuck.behind:  # until all buffers on the way are full
                last += 1
                kent.claims.clear("debian")
                for n in range(1000):
                    name = b"%d-%d-" % (last, n) + b"n" * 200
                    kent.claims.claim("debian", b"pool", name, ROW, time.monotonic())
                await asyncio.sleep(0.02)
            assert stuck._queued < 2**20
            await until(lambda: len(oslo.claims.heard.within("debian", b"pool", 0.0)) == 1000)
            known = Heard()
            known.begin("kent")
            while not is_told(known, b"%d-" % last):
                hear(known, await said(slow))


async def test_a_sibling_that_is_taken_out_of_the_cluster_has_no_line_any_more(cluster):
    """HAZARDS 133."""
    async with running(cluster, talk=True) as stations:
        kent, lancaster, oslo = stations
        for station in (lancaster, oslo):
            await kent.has_line(station.site.name)
        smaller = replace(cluster, sites={n: s for n, s in cluster.sites.items() if n != "oslo"})
        await kent.siblings.reload(smaller)
        await kent.server.reload(smaller)
        kent.lines.reload(smaller)
        await until(lambda: kent.lines.to("oslo") is None)
        assert kent.lines.to("lancaster") is not None
        await asyncio.sleep(0.3)
        assert kent.lines.to("oslo") is None


async def test_who_shares_no_mirror_any_more_has_no_line_and_is_told_nothing_before(cluster):
    async with running(cluster, "kent") as (kent,), dialled(cluster, "oslo", "kent") as socket:
        kent.lines.start()
        await greeted(socket, "oslo")
        await until(lambda: kent.lines.to("oslo"))
        kent.claims.claim("ctan", b"", b"secret", ROW, time.monotonic())
        kent.claims.claim("debian", b"", b"open", ROW, time.monotonic())
        told = []
        while not told:
            message = await said(socket)
            told = [group[0] for group in getattr(message, "groups", ())]
        assert told == ["debian"]
        debian = replace(cluster.mirrors["debian"], sites=("kent", "lancaster"))
        smaller = replace(cluster, mirrors=cluster.mirrors | {"debian": debian})
        await kent.siblings.reload(smaller)
        await kent.server.reload(smaller)
        kent.lines.reload(smaller)
        assert await farewell(socket) == (line.LEFT, "not a sibling any more")

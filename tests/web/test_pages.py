"""What people and programs are told: directories, the list of mirrors, the cluster, and their JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from lxml import html

from cluster.errors import StoreError
from cluster.model import SECOND, Failure, Kind, OriginSpec, Schedule, Skipped, Stamp
from cluster.plan.shares import Standing
from cluster.store.mirror import PassRecord, Plan
from cluster.store.summary import MirrorSummary
from cluster.web.directory import PAGE, origin_link
from cluster.web.freshness import freshness
from cluster.web.pages import age, day, size
from cluster.web.view import Progress, SiblingSummary
from tests.web.fakes import MTIME, NOW, ORIGIN, FakeReader, mirror, serving

EVIL = (b"<script>alert(1)<script>", b'" onmouseover="alert(1)', b"javascript:alert(1)",
        b"'><img src=x onerror=x>", b"\x1b[31mred", b"line\nbreak", b"\xff\xfe", "\u202egnp.exe".encode(),
        )  # fmt: skip


def counts(origin: int = 0, sideways: int = 0) -> dict[str, object]:
    return {"bytes": {"origin": origin, "sideways": sideways, "listings": 1}}


def cells(page: str, caption: str) -> list[list[str]]:
    """The body of the table whose caption holds `caption`, as text."""
    (table,) = [t for t in html.fromstring(page).iter("table") if caption in t.findtext("caption", "")]
    return [
        [" ".join(" ".join(c.itertext()).split()) for c in row]
        for body in table.iter("tbody")
        for row in body
    ]


# -- directory pages


async def test_a_directory_page_tells_when_it_was_compared_and_when_it_was_made(site):
    page = await site.text("/debian/pool/")
    assert '<time datetime="2026-05-28T19:26:40Z"' in page  # compared an hour ago
    assert '<time datetime="2026-05-28T20:26:40Z"' in page  # generated now
    assert ORIGIN in page
    assert "60 minutes ago" in page


async def test_a_directory_page_tells_sizes_copy_times_and_sources(site):
    reader = site.readers["debian"]
    reader.add(b"side.iso", b"x" * 2345, source="lancaster")
    rows = cells(await site.text("/debian/"), "entr")
    assert ["side.iso", "2.35 kB", "2026-02-02 02:40", "2026-02-02 02:41", "lancaster"] in rows
    assert ["pool/", "", "2026-02-02 02:40", "", ""] in rows
    text = html.fromstring(await site.text("/debian/")).text_content()
    assert "2.45 kB in 3 files" in re.sub(r"\s+", " ", text)


async def test_failed_updates_are_shown_with_their_error_and_times(site):
    site.readers["debian"].failures[b"pool"] = [
        Failure(b"b", "connection reset", int(NOW) - 60, int(NOW) - 7200),
        Failure(b"", "not a listing", int(NOW) - 60, int(NOW) - 60),
    ]
    page = await site.text("/debian/pool/")
    rows = cells(page, "tried again")
    assert rows[0] == ["b", "connection reset", "2026-05-28 20:25", "2026-05-28 18:26"]
    assert rows[1][0] == "this directory"
    assert "2 updates failed here" in page


async def test_what_is_left_out_is_shown_with_the_reason_and_the_origins_copy(site):
    site.readers["debian"].skipped[b"pool"] = [
        Skipped(b"x hurd.deb", Kind.FILE, "no users here", 5_000_000, Stamp(MTIME * SECOND))
    ]
    page = await site.text("/debian/pool/")
    assert cells(page, "does not carry") == [["x hurd.deb", "5.00 MB", "no users here", "at the origin"]]
    assert f'href="{ORIGIN}pool/x%20hurd.deb"' in page


async def test_asking_for_what_is_left_out_says_why_and_where_it_is(site):
    site.readers["debian"].skipped[b"pool"] = [Skipped(b"h.deb", Kind.FILE, "no users here")]
    site.readers["debian"].failures[b"pool"] = [Failure(b"f.deb", "connection reset", 1, 1)]
    status, _, body = await site.get("/debian/pool/h.deb")
    assert status == 404
    assert b"left out here: no users here" in body
    assert f'href="{ORIGIN}pool/h.deb"'.encode() in body
    status, _, body = await site.get("/debian/pool/f.deb")
    assert status == 404
    assert b"fetching it failed: connection reset" in body


async def test_names_gone_at_the_origin_are_shown_with_when_they_were_first_missed(site):
    site.readers["debian"].missing[b""] = {b"README": int(NOW) - 600}
    assert cells(await site.text("/debian/"), "no longer lists") == [["README", "2026-05-28 20:16"]]


async def test_a_directory_never_compared_says_so(site):
    site.readers["debian"].compared[b"pool"] = None
    assert "never completely" in await site.text("/debian/pool/")
    assert (await site.json("/debian/pool/"))["compared"]["at"] is None


async def test_an_overdue_comparison_is_marked(site):
    site.readers["debian"].compared[b"pool"] = int(NOW) - 3 * 21_600
    page = await site.text("/debian/pool/")
    assert 'class="stale"' in page
    assert "overdue" in page


async def test_links_are_shown_with_their_target_and_linked_only_inside(site):
    reader = site.readers["debian"]
    reader.link(b"in", b"pool/a")
    reader.link(b"out", b"../../x")
    document = html.fromstring(await site.text("/debian/"))
    rows = {" ".join(row[0].text_content().split()): row for row in document.iter("tr")}
    assert rows["in → pool/a"].xpath(".//a/@href") == ["in"]
    assert rows["out → ../../x (outside this mirror)"].xpath(".//a/@href") == []


async def test_the_json_of_a_directory_holds_the_same_facts(site):
    reader = site.readers["debian"]
    reader.skipped[b""] = [Skipped(b"s", Kind.DIRECTORY, "why")]
    facts = await site.json("/debian/")
    assert facts == json.loads(await site.text("/debian/?json"))
    readme = next(entry for entry in facts["entries"] if entry["name"] == "README")
    assert readme["size"] == 6
    assert readme["mtime"] == MTIME
    assert readme["copied"] == MTIME + 60
    assert len(readme["sha256"]) == 64
    assert facts["compared"] == {"at": NOW - 3600, "origin": ORIGIN}
    assert facts["totals"] == {"files": 2, "bytes": 106, "directories": 2, "symlinks": 0, "newest": MTIME}
    assert facts["skipped"][0]["origin"] == ORIGIN + "s"
    assert facts["generated"] == NOW


async def test_a_browser_gets_html_and_an_entry_named_json_is_no_wish_for_it(site):
    headers = {"Accept": "text/html,application/xhtml+xml,application/json;q=0.9"}
    assert (await site.get("/debian/", headers=headers))[1].content_type == "text/html"
    assert (await site.get("/debian/?after=json"))[1].content_type == "text/html"


async def test_a_directory_without_its_slash_redirects_to_the_path_alone(site):
    for path, target in (
        ("/debian", "/debian/"),
        ("/debian/pool?json", "/debian/pool/?json"),
        ("/debian/p%6Fol", "/debian/pool/"),
    ):
        status, response, _ = await site.get(path)
        assert (status, response.headers["Location"]) == (301, target)


async def test_a_linked_directory_is_shown_under_the_path_that_was_asked_for(site):
    site.readers["debian"].link(b"here", b"pool/a")
    facts = await site.json("/debian/here/")
    assert facts["public"] == "/debian/here/"
    assert facts["path"] == "pool/a"
    assert [entry["name"] for entry in facts["entries"]] == ["a_1.deb"]


async def test_a_directory_of_a_hundred_thousand_entries_is_shown_page_by_page(tmp_path):
    """HAZARDS 144: every entry once, in order, and never the whole directory in memory."""
    reader = FakeReader(tmp_path / "none")
    held = reader.add(b"seed")
    reader.directories[b""] = {b"f%06d" % n: replace(held, name=b"f%06d" % n) for n in range(100_000)}
    async with serving({"debian": reader}, mirror()) as site:
        page = await site.text("/debian/")
        assert len(page) < 600_000
        assert "more on the next page" in page
        seen, path = [], "/debian/"
        for _ in range(2):
            document = html.fromstring(await site.text(path))
            seen += [link.text for link in document.xpath("//tbody//a")]
            path = "/debian/" + document.xpath("//a[@rel='next']/@href")[0]
        assert seen == [f"f{n:06d}" for n in range(2 * PAGE)]
        assert reader.largest_page == PAGE + 1
        document = html.fromstring(await site.text("/debian/?after=f099998"))
        assert document.xpath("//tbody//a/text()") == ["f099999"]
        assert document.xpath("//a[@rel='next']") == []
        total, after = 0, ""
        while after is not None:
            facts = await site.json(f"/debian/?after={after}" if after else "/debian/")
            total, after = total + len(facts["entries"]), facts["next"]
        assert total == 100_000


@pytest.mark.parametrize("after", ["..", "a%2Fb", "%00", ""])
async def test_a_page_after_something_that_is_no_name_is_refused(site, after):
    assert (await site.get(f"/debian/?after={after}"))[0] == 400


async def test_notes_belong_to_the_first_page(site):
    site.readers["debian"].skipped[b""] = [Skipped(b"s", Kind.FILE, "why")]
    assert "Left out here" in await site.text("/debian/")
    assert "Left out here" not in await site.text("/debian/?after=README")


@pytest.mark.parametrize("name", EVIL)
async def test_hostile_names_targets_and_errors_are_inert(site, name):
    """HAZARDS 143: one test for every place where words of an origin are shown."""
    reader = site.readers["debian"]
    reader.add(b"d/" + name, b"x")
    reader.link(b"d/link", b"t" + name)
    reader.add(b"d/" + name + b".d", kind=Kind.DIRECTORY, sha256=None)
    words = name.decode("utf-8", "surrogateescape")
    reader.failures[b"d"] = [Failure(name, words, 1, 1)]
    reader.skipped[b"d"] = [Skipped(name, Kind.FILE, words)]
    reader.missing[b"d"] = {name: 1}
    site.view.wrong = [f"x.xml:1: {words}"]
    refused = (await site.get("/debian/d/" + "".join(f"%{b:02x}" for b in name) + "x"))[2].decode()
    for page in (await site.text("/debian/d/"), await site.text("/-/cluster"), refused):
        document = html.fromstring(page)
        assert document.xpath("//script | //img | //*[@onmouseover or @onerror]") == []
        assert all(not link.startswith("javascript:") for link in document.xpath("//@href"))
        assert not set(page) & {"\x1b", "\u202e"}
    for facts in (await site.json("/debian/d/"), await site.json("/-/cluster")):
        assert "\x1b" not in json.dumps(facts, ensure_ascii=False)
    links = html.fromstring(await site.text("/debian/d/")).xpath("//tbody//th//a/@href")
    (own,) = [link for link in links if link != "link" and not link.endswith("/")]
    assert (await site.get("/debian/d/" + own))[2] == b"x"


async def test_pages_load_nothing_but_the_style_of_this_server(site):
    for path in ("/", "/debian/", "/-/cluster", "/nosuch"):
        _, response, body = await site.get(path)
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'self';")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        document = html.fromstring(body)
        assert document.xpath("//script | //style | //*[@style]") == []
        (style,) = document.xpath("//link/@href")
        status, response, _ = await site.get(style)
        assert (status, response.content_type) == (200, "text/css")


async def test_pages_can_be_used_without_eyes_and_on_a_telephone(site):
    site.readers["debian"].failures[b""] = [Failure(b"x", "y", 1, 1)]
    for path in ("/", "/debian/", "/-/cluster"):
        document = html.fromstring(await site.text(path))
        assert document.get("lang") == "en"
        assert document.xpath("//meta[@name='viewport']")
        assert len(document.xpath("//h1")) == 1
        for table in document.iter("table"):
            assert table.findtext("caption")
            assert table.xpath(".//thead//th[@scope='col']")
            assert len(table.xpath(".//tbody//th[@scope]")) > 0


async def test_head_of_a_page_has_the_length_of_the_page(site):
    _, got, body = await site.get("/debian/")
    status, response, nothing = await site.get("/debian/", "HEAD")
    assert (status, nothing) == (200, b"")
    assert response.headers["Content-Length"] == got.headers["Content-Length"] == str(len(body))


# -- the list of mirrors and the cluster


async def test_the_root_lists_the_mirrors(site):
    site.readers["debian"].recorded = [
        PassRecord(1, int(NOW) - 7200, int(NOW) - 7000, "complete", ORIGIN, counts())
    ]
    page = await site.text("/")
    assert 'href="/debian/"' in page
    assert "2 hours ago" in page
    (line,) = (await site.json("/"))["mirrors"]
    assert (line["name"], line["href"], line["bytes"], line["fresh"]) == (
        "debian",
        "/debian/",
        106,
        NOW - 7200,
    )


async def test_a_homepage_that_is_no_web_address_is_not_linked(tmp_path):
    bad = mirror(homepage="javascript:alert(1)", description="<b>bold</b>")
    async with serving({"debian": FakeReader(tmp_path)}, bad) as site:
        page = await site.text("/")
        assert "javascript:" not in page
        assert "<b>bold" not in page


async def test_the_cluster_page_shows_mirrors_by_sites(site):
    reader = site.readers["debian"]
    reader.recorded = [
        PassRecord(1, int(NOW) - 9000, int(NOW) - 8000, "complete", ORIGIN, counts(5, 6)),
        PassRecord(2, int(NOW) - 4000, int(NOW) - 3900, "incomplete", ORIGIN, counts(1000, 9000)),
        PassRecord(3, int(NOW) - 10, None, None, ORIGIN, {}),
    ]
    reader.failures[b"pool"] = [Failure(b"b", "reset", int(NOW), int(NOW))]
    reader.plan = Plan("h" * 64, 1, 500, 1, held_because="500 files")
    told = MirrorSummary(NOW - 60, 7, 7_000_000, "complete", NOW - 50, 0, 7_000_000)
    site.view.others = {
        "lancaster": SiblingSummary(True, NOW - 5, {"debian": told}),
        "leeds": SiblingSummary(False, None, problem="connection refused"),
    }
    site.view.due["debian"] = NOW + 3600
    page = await site.text("/-/cluster")
    kent, lancaster = cells(page, "everything was compared")
    assert kent[0].startswith("debian next pass in 60 minutes")
    assert kent[1:] == ["kent", "2026-05-28 17:56 2 hours ago", "106 bytes", "2",
                        "2026-05-28 19:21 incomplete 500 deletions wait for approval", "1.00 kB", "9.00 kB",
                        "1"]  # fmt: skip
    assert lancaster == ["lancaster", "2026-05-28 20:25 60 seconds ago", "7.00 MB", "7",
                         "2026-05-28 20:25 complete", "0 bytes", "7.00 MB", "0"]  # fmt: skip
    states = {row[0].split()[0]: row[1] for row in cells(page, "answers")}
    assert states == {"kent": "this site", "lancaster": "up", "leeds": "down connection refused"}
    assert cells(page, "Newest first")[0][:3] == ["debian", "/pool/b", "reset"]


async def test_the_cluster_page_shows_what_is_shared_and_who_is_not_heard(site):
    assert "Origins that the sites share" not in await site.text("/-/cluster")
    site.view.shared = [
        Standing("bandwidth", "ftp.example", 1000, 500, 750, 0, 1000, 0, 250),
        Standing("connections", "ftp.example", 8, 4, 6, 5, 9, 0, 2, ("lancaster",)),
    ]
    shown = cells(await site.text("/-/cluster"), "Connections, and parts")
    assert shown == [
        ["ftp.example", "bandwidth", "100.0 %", "50.0 %", "75.0 %", "", "0.0 %", "25.0 %", ""],
        ["ftp.example", "connections", "8", "4", "6", "5", "0", "2", "lancaster"],
    ]
    told = (await site.json("/-/cluster"))["budgets"]
    assert (told[1]["allowed"], told[1]["silent"]) == (6, ["lancaster"])


async def test_the_cluster_page_shows_what_runs_what_rests_and_what_is_wrong(site):
    site.view.passes["debian"] = Progress(NOW - 30, current=b"pool/a")
    site.view.wrong = ["config/mirrors/x.xml:3: <tilte> is not known"]
    page = await site.text("/-/cluster")
    assert "pass running since" in page
    assert "at /pool/a" in page
    assert "x.xml:3: &lt;tilte&gt; is not known" in page
    site.view.passes.clear()
    site.view.resting["debian"] = "schedule window"
    assert "paused: schedule window" in await site.text("/-/cluster")
    facts = await site.json("/-/cluster")
    assert facts["mirrors"][0]["sites"]["lancaster"] is None
    assert "nothing heard yet" in await site.text("/-/cluster")


async def test_the_cluster_page_says_why_the_last_pass_failed(site):
    failed = {"errors": ["http://origin/: <no> answer", "another"], "error_count": 3}
    complete = PassRecord(1, int(NOW) - 9000, int(NOW) - 8000, "complete", ORIGIN, counts(5, 6))
    site.readers["debian"].recorded = [
        PassRecord(2, int(NOW) - 400, int(NOW) - 390, "failed", ORIGIN, failed), complete
    ]  # fmt: skip
    facts = await site.json("/-/cluster")
    assert facts["mirrors"][0]["sites"]["kent"]["reason"] == "http://origin/: <no> answer (and 2 more)"
    assert "http://origin/: &lt;no&gt; answer (and 2 more)" in await site.text("/-/cluster")
    cut_off = {"errors": ["disk: full"], "error_count": 1, "stopped": int(NOW)}
    site.readers["debian"].recorded = [PassRecord(3, int(NOW) - 40, None, None, ORIGIN, cut_off), complete]
    assert "disk: full" in await site.text("/-/cluster")
    site.readers["debian"].recorded = [complete]
    assert (await site.json("/-/cluster"))["mirrors"][0]["sites"]["kent"]["reason"] == ""


async def test_a_mirror_whose_store_cannot_be_read_is_a_line_that_says_why(tmp_path):
    async with serving({}, mirror()) as site:
        assert "nothing is mirrored yet" in await site.text("/-/cluster")
        assert "nothing is mirrored yet" in await site.text("/")


async def test_a_reload_takes_up_new_mirrors_and_lets_old_ones_go(tmp_path):
    from tests.web.fakes import cluster

    old, new = FakeReader(tmp_path), FakeReader(tmp_path)
    new.add(b"f", b"new")
    async with serving({"debian": old, "ctan": new}, mirror()) as site:
        await site.text("/debian/")
        await site.server.reload(cluster(mirror("ctan")))
        assert (await site.get("/debian/"))[0] == 404
        assert (await site.get("/ctan/f"))[2] == b"new"
        assert old.closed
        assert not new.closed
    assert new.closed


async def test_a_reader_that_failed_is_opened_anew_and_the_old_one_closed(tmp_path):
    readers = [FakeReader(tmp_path), FakeReader(tmp_path)]

    async def broken(path: bytes) -> object:
        raise StoreError("debian: malformed")

    readers[0].held = broken
    readers[1].add(b"f", b"whole again")
    waiting = list(readers)

    async def opener(name: str) -> FakeReader:
        return waiting.pop(0)

    async with serving({}, mirror(), opener=opener) as site:
        assert (await site.get("/debian/f"))[0] == 503
        assert readers[0].closed
        assert (await site.get("/debian/f"))[2] == b"whole again"
        assert not readers[1].closed


async def test_a_reader_in_use_is_closed_by_its_last_user(tmp_path):
    import asyncio

    from tests.web.fakes import cluster

    reader, asking, go = FakeReader(tmp_path), asyncio.Event(), asyncio.Event()
    reader.add(b"f", b"x")
    whole = reader.held

    async def slow(path: bytes) -> object:
        asking.set()
        await go.wait()
        assert not reader.closed
        return await whole(path)

    reader.held = slow
    async with serving({"debian": reader}, mirror()) as site:
        asked = asyncio.ensure_future(site.get("/debian/f"))
        await asking.wait()
        await site.server.reload(cluster(mirror("ctan")))
        assert not reader.closed
        go.set()
        assert (await asked)[2] == b"x"
        assert reader.closed


async def test_an_error_of_the_store_is_one_line_and_a_bug_is_not_shown(site, caplog):
    async def broken(directory: bytes) -> object:
        raise StoreError("debian: the disk is gone")

    async def bug(directory: bytes) -> object:
        raise ZeroDivisionError("secret detail")

    site.readers["debian"].notes = broken
    status, response, body = await site.get("/debian/")
    assert status == 503
    assert "Retry-After" in response.headers
    assert b"the disk is gone" in body
    site.readers["debian"].notes = bug
    status, response, body = await site.get("/debian/")
    assert status == 500
    assert b"secret detail" not in body
    assert response.headers["X-Content-Type-Options"] == "nosniff"


# -- values


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.00 kB"), (12_345, "12.3 kB"),
     (999_499, "999 kB"), (999_500, "1.00 MB"), (1_230_000_000_000, "1.23 TB"), (None, "")],
)  # fmt: skip
def test_sizes_are_shown_with_three_digits(number, text):
    assert size(number) == text


@pytest.mark.parametrize(
    ("distance", "text"),
    [(0, "0 seconds ago"), (1, "1 second ago"), (119, "119 seconds ago"), (120, "2 minutes ago"),
     (7199, "119 minutes ago"), (7200, "2 hours ago"), (-86_400 * 3, "in 3 days")],
)  # fmt: skip
def test_ages_are_shown_in_a_unit_that_fits(distance, text):
    assert age(NOW - distance, NOW) == text


@pytest.mark.parametrize("seconds", [-(10**18), 10**18, float(10**12)])
def test_an_impossible_time_does_no_harm(seconds):
    assert day(seconds) == "outside the calendar"


@pytest.mark.parametrize(
    ("hours", "state"), [(None, "never"), (12, "fresh"), (12.1, "stale"), (24, "stale"), (24.1, "error")]
)
def test_staleness_follows_from_the_schedule(hours, state):
    assert freshness(mirror(), None if hours is None else NOW - hours * 3600, NOW) == state


def test_a_cron_schedule_tells_no_interval():
    assert freshness(mirror(schedule=Schedule(cron="0 4 * * *")), 0, NOW) == "fresh"


@pytest.mark.parametrize(
    ("told", "origins", "link"),
    [
        ("rsync://r.example/debian/", ["rsync://r.example/debian/", "https://h.example/debian/"],
         "https://h.example/debian/a/b%20c"),
        ("rsync://r.example/debian", ["rsync://r.example/debian"], "rsync://r.example/debian/a/b%20c"),
        ("", ["ftp://user:secret@f.example/debian/"], "ftp://f.example/debian/a/b%20c"),
        ("file:///srv/debian", ["file:///srv/debian"], None),
        ("javascript:alert(1)//", ["file:///srv/debian"], None),
    ],
)  # fmt: skip
def test_the_origins_copy_is_linked_where_a_browser_can_open_it_and_without_passwords(told, origins, link):
    made = mirror(origins=tuple(OriginSpec(url) for url in origins))
    assert origin_link(made, told, b"a/b c") == link

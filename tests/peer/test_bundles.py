"""Many small files of many directories in one answer: as bytes, and between two sites."""

import asyncio
import hashlib
import time
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import PeerBroke, PeerLacks, PeerSilent
from cluster.model import Claim, Entry, Held, Kind, Row, Stamp, split
from cluster.peer import bundlewire, wire
from cluster.peer.bundlewire import Answer
from cluster.peer.client import Bodies, Told, Wish
from cluster.peer.codec import WireError, pack
from tests.peer.carried import Carried
from tests.peer.cluster import Station, held, running
from tests.peer.hostile import always, hostile, nothing, whole
from tests.peer.test_wire import digests, names, sizes, stamps, texts

SECOND = 10**9


def wish(station: Station, path: bytes, **facts: object) -> Wish:
    """For the version of a file that `station` holds, as an origin lists it."""
    record = station.files.files[path][0]
    entry = Entry(record.name, size=record.size, mtime=record.mtime)
    return replace(Wish(split(path)[0], entry), **facts)


async def bundle(
    sibling, wishes: list[Wish], carried: Carried | None = None
) -> tuple[Told, dict[int, bytes]]:
    """What was told, and the bodies by place: as the event loop takes them, or the process of `carried`."""
    if carried is not None:
        return await carried.bundle(sibling, wishes)
    told, got = None, {}
    async for part in sibling.bundle("debian", wishes, 5.0):
        if isinstance(part, Told):
            assert told is None
            told = part
        else:
            got |= {place: bytes(body) for place, body in part.files}
    return told, got


# -- as bytes


wishes = st.builds(
    Wish,
    names,
    st.builds(Entry, names, size=st.none() | sizes, mtime=stamps),
    digests,
    st.booleans(),
)


@given(st.lists(wishes, max_size=30))
@settings(deadline=None)
def test_a_question_is_read_as_it_was_asked(asked):
    told = bundlewire.question_read(bundlewire.question("debian", asked))
    assert told.mirror == "debian"
    rows = [(directory, row) for directory, some in told.wanted for row in some]
    assert [(d, r.name, r.size, r.mtime, r.sha256, r.send) for d, r in rows] == [
        (w.directory, w.entry.name, w.entry.size, w.entry.mtime, w.sha256, w.send) for w in asked
    ]


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({"mirror": "m", "wanted": [[b"", [[b"../x", 1, None, None, None, True]]]]}, "name"),
        ({"mirror": "m", "wanted": [[b"/etc", []]]}, "path"),
        ({"mirror": "m", "wanted": [[b"", [[b"x", -1, None, None, None, True]]]]}, "size"),
        ({"mirror": "m", "wanted": [[b"", [[b"x", 1, 5, None, None, True]]]]}, "precision"),
        ({"mirror": "m", "wanted": [[b"", [[b"x", 1, None, None, b"short", True]]]]}, "digest"),
        ({"mirror": "m", "wanted": [[b"", [[b"x"]]]]}, "file"),
        ({"mirror": 1, "wanted": []}, "mirror"),
        ({"mirror": "m", "wanted": [[b"", [[b"x", 1, None, None, None, True]] * 2049]]}, "2049 files"),
        ({"mirror": "m"}, "wanted"),
    ],
)
def test_a_question_that_is_none_is_refused(question, says):
    with pytest.raises(WireError, match=says):
        bundlewire.question_read(pack({"v": [1, 2]} | question))


def asked_for(*files: Held) -> list[Wish]:
    return [Wish(b"", Entry(one.name, size=one.size, mtime=one.mtime)) for one in files]


def sizes_of(*bodies: int) -> list[Held]:
    return [Held(b"f%d" % n, Kind.FILE, size=size, sha256=bytes(32)) for n, size in enumerate(bodies)]


def head(files: list[Held]) -> bytes:
    return bundlewire.told(dict(enumerate(files)), {})[0]


@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_an_answer_can_arrive_in_any_pieces(step):
    files = sizes_of(0, 10, 20, 30)
    bodies = [bytes([65 + n]) * one.size for n, one in enumerate(files)]
    claims = {1: Claim(b"f1", Row(10), 3, 0.5)}
    data = bundlewire.told({0: files[0], 2: files[2], 3: files[3]}, claims)[0]
    data += bundlewire.group([(0, bodies[0]), (2, bodies[2])]) + bundlewire.group([(3, bodies[3])])
    data += bundlewire.last(3)
    answer = Answer(asked_for(*files))
    told, *got = [one for at in range(0, len(data), step) for one in answer.feed(data[at : at + step])]
    assert {place: offer.name for place, offer in told.held.items()} == {0: b"f0", 2: b"f2", 3: b"f3"}
    assert told.claims == claims
    assert [(place, bytes(body)) for one in got for place, body in one.files] == [
        (n, bodies[n]) for n in (0, 2, 3)
    ]
    assert answer.complete
    with pytest.raises(WireError, match="after its last frame"):
        list(answer.feed(b"x"))


records = st.builds(
    Held,
    names,
    st.just(Kind.FILE),
    sizes,
    st.binary(min_size=32, max_size=32),
    stamps,
    st.builds(Row, st.none() | sizes, st.none(), stamps),
    etag=texts,
    source=texts.map(lambda text: text or ""),
    verified=texts.map(lambda text: text or ""),
)


@given(st.lists(records, max_size=20), st.integers(0, 3))
@settings(deadline=None)
def test_columns_tell_what_entries_tell(files, first):
    """But for the size in the listing's row, by which nothing is decided."""
    asked = [Wish(b"", Entry(b"other"))] * first + asked_for(*files)
    held = dict(enumerate(files, first))
    frames, places = bundlewire.told(held, {}, columns=True)
    assert places == set(held)
    (columns,) = Answer(asked).feed(frames)
    (entries,) = Answer(asked).feed(bundlewire.told(held, {})[0])
    assert columns.held == {
        place: replace(offer, row=Row(offer.size, None, offer.row.mtime))
        for place, offer in entries.held.items()
    }


def test_more_than_fits_into_a_message_is_left_out_of_its_columns():
    held = dict(enumerate(Held(b"f", Kind.FILE, 1, bytes(32), etag="x" * 4000) for _ in range(100)))
    frame, places = bundlewire.told(held, {}, columns=True)
    assert len(frame) < 2**20 and places == set(range(len(places))) and 0 < len(places) < 100
    (told,) = Answer(asked_for(*held.values())).feed(frame)
    assert set(told.held) == places


def columns(**changed: object) -> bytes:
    told = {"places": [0, 1], "sizes": [1, 2], "digests": [bytes(32)] * 2} | dict.fromkeys(
        ("time", "width", "listed", "wide", "etag")
    )
    told |= {"source": "origin", "verified": "origin"} | changed
    return pack({"v": [1, 3], "columns": list(told.values()), "claims": []})


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (columns(places=0), "not an array"),
        (columns(places=[1, 0]), "ascending"),
        (columns(places=[0, 0]), "ascending"),
        (columns(places=[-1, 0]), "ascending"),
        (columns(places=[0, 2]), "not asked for"),
        (columns(places=[0, True]), "another kind"),
        (columns(places=[0]), "different lengths"),
        (columns(sizes=[1]), "different lengths"),
        (columns(sizes=-1), "below 0"),
        (columns(sizes=None), "another kind"),
        (columns(digests=None), "another kind"),
        (columns(digests=[bytes(32), bytes(31)]), "digest"),
        (columns(time=5), "precision"),
        (columns(time=5, width=0), "precision"),
        (columns(listed=[None, 5], wide=[1, None]), "precision"),
        (columns(time="5"), "another kind"),
        (columns(etag=["a", b"b"]), "another kind"),
        (columns(etag=["a", "b\n"]), "not printable"),
        (columns(source=None), "another kind"),
        (columns(verified=[[], []]), "another kind"),
        (pack({"v": [1, 3], "columns": [[]] * 9, "claims": []}), "not an array"),
        (pack({"v": [1, 3], "columns": {}, "claims": []}), "not an array"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_columns_that_break_the_rules_are_refused(message, says):
    with pytest.raises(WireError, match=says):
        list(Answer([Wish(b"", Entry(b"a")), Wish(b"", Entry(b"b"))]).feed(framed(message)))


def test_whoever_does_not_ask_for_columns_is_told_entries():
    """A site of version 1.2."""
    asked = {"v": [1, 2], "mirror": "m", "wanted": []}
    assert not bundlewire.question_read(pack(asked)).columns
    assert bundlewire.question_read(bundlewire.question("m", [])).columns
    assert bundlewire.told({}, {})[0] == framed(
        b"\x83\xa1v\x92\x01\x03\xa4held\xdd\0\0\0\0\xa6claims\xdd\0\0\0\0"
    )


def framed(header: bytes) -> bytes:
    return len(header).to_bytes(4, "big") + header


def test_an_answer_is_byte_for_byte_what_the_protocol_page_shows():
    digest = hashlib.sha256(b"hi").digest()
    file = Held(b"a", Kind.FILE, size=2, sha256=digest, source="")
    assert bundlewire.told({0: file}, {})[0].hex(" ") == (
        "00 00 00 4f 83 a1 76 92 01 03 a4 68 65 6c 64 dd 00 00 00 01 92 00 "
        f"9d c4 01 61 00 02 c4 20 {digest.hex(' ')} c0 c0 c0 c0 c0 c0 c0 a0 a0 "
        "a6 63 6c 61 69 6d 73 dd 00 00 00 00"
    )
    assert bundlewire.group([(0, b"hi")]).hex(" ") == "00 00 00 02 91 00 68 69"
    assert bundlewire.last(1).hex(" ") == "00 00 00 0c 82 a1 76 92 01 03 a4 73 65 6e 74 01"


FILES = sizes_of(1, 1, 1, 2**20, 2**20 + 1)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff\xff\xff\xff", "header of 4294967295"),
        (b"\x00\x00\x00\x01\xc0", "neither map nor array"),
        (b"\x00\x00\x00\x02\x81\xa1", "cut off"),
        (bundlewire.last(0), "held"),
        (bundlewire.group([(0, b"x")]), "not a map"),
        (head(FILES) + b"\x00\x00\x08\x01" + bytes(2049), "header of 2049"),
        (head(FILES) + bundlewire.group([(1, b"x"), (0, b"x")]), "not ascending"),
        (head(FILES) + bundlewire.group([(0, b"x")]) + bundlewire.group([(0, b"x")]), "not ascending"),
        (head(FILES[:1]) + bundlewire.group([(1, b"x")]), "not asked for"),
        (head(FILES) + bundlewire.group([(2, b"x")]), "not asked for"),
        (head(FILES) + bundlewire.group([(9, b"x")]), "not asked for"),
        (head([*FILES[1:2], *FILES[:1]]), "not asked for"),
        (head(FILES * 2), "place"),
        (head([replace(FILES[0], sha256=None)]), "no file with a digest"),
        (head([replace(FILES[0], kind=Kind.DIRECTORY)]), "no file with a digest"),
        (head(FILES) + bundlewire.group([(4, b"")]), "1048576 bytes in a file"),
        (head(FILES) + bundlewire.last(1), "says that it sent 1 files, and sent 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_that_breaks_the_rules_is_refused(data, says):
    wishes = asked_for(*FILES)
    wishes[2] = replace(wishes[2], send=False)
    with pytest.raises(WireError, match=says):
        list(Answer(wishes).feed(data))


def test_an_answer_brings_no_more_than_its_limits():
    files = sizes_of(*[2**20] * 66)
    answer = Answer(asked_for(*files))
    list(answer.feed(head(files)))
    with pytest.raises(WireError, match="4194304 bytes in a group"):
        list(answer.feed(bundlewire.group([(n, b"") for n in range(5)])))
    answer = Answer(asked_for(*files))
    list(answer.feed(head(files)))
    for n in range(64):
        assert len(list(answer.feed(bundlewire.group([(n, bytes(2**20))])))) == 1
    with pytest.raises(WireError, match="67108864 in all"):
        list(answer.feed(bundlewire.group([(64, b"")])))
    many = sizes_of(*[0] * 257)
    answer = Answer(asked_for(*many))
    list(answer.feed(head(many)))
    with pytest.raises(WireError, match="in a group"):
        list(answer.feed(bundlewire.group([(n, b"") for n in range(257)])))


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(1, 50), st.booleans())
def test_random_bytes_are_refused_or_wait_for_more(data, step, begun):
    answer = Answer(asked_for(*FILES))
    if begun:
        list(answer.feed(head(FILES)))
    try:
        for at in range(0, len(data), step):
            list(answer.feed(data[at : at + step]))
    except WireError:
        pass


# -- between two sites


@pytest.fixture(params=["loop", "carrier"])
async def way(request, tmp_path):
    """Whichever takes the bodies, the sibling is judged in the same way."""
    if request.param == "loop":
        yield None
        return
    async with Carried(tmp_path / "taken") as carried:
        yield carried


async def test_files_of_many_directories_come_in_one_answer_in_their_order(cluster, way):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        paths = [b"d\xe9%d/\xff\n%d" % (n % 7, n) for n in range(700)]
        for path in paths:
            lancaster.files.put(path, path * 5)
        sibling = await kent.meets("lancaster")
        before = sibling.traffic.requests
        told, got = await bundle(sibling, [wish(lancaster, path) for path in paths], way)
        assert sibling.traffic.requests - before == 1
        assert [told.held[n].sha256 for n in range(700)] == [
            hashlib.sha256(path * 5).digest() for path in paths
        ]
        assert list(got.items()) == [(n, path * 5) for n, path in enumerate(paths)]


async def test_what_it_lacks_doubts_or_holds_otherwise_is_not_told(cluster, way):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        stamp = Stamp(1_700_000_040 * SECOND, SECOND)
        for name in (b"same", b"minute", b"size", b"time", b"digest", b"doubt", b"dir"):
            lancaster.files.put(name, b"hello", mtime=stamp, row=Row(5, None, stamp))
        lancaster.files.put(b"doubt", b"hello", unknown=True)
        lancaster.files.put(b"dir", b"", kind=Kind.DIRECTORY)
        minute, later = Stamp(stamp.ns, 60 * SECOND), Stamp(stamp.ns + SECOND, SECOND)
        asked = [
            Wish(b"", Entry(b"same", size=5, mtime=stamp)),
            Wish(b"", Entry(b"minute", size=5, mtime=minute)),
            Wish(b"", Entry(b"size", size=6, mtime=stamp)),
            Wish(b"", Entry(b"time", size=5, mtime=later)),
            Wish(b"", Entry(b"digest", size=5, mtime=stamp), sha256=bytes(32)),
            Wish(b"", Entry(b"doubt", size=5, mtime=stamp)),
            Wish(b"", Entry(b"dir", size=0, mtime=stamp)),
            Wish(b"", Entry(b"absent", size=5, mtime=stamp)),
            Wish(b"", Entry(b"same", rounded="5", mtime=stamp)),
            Wish(b"", Entry(b"same", size=5)),
            Wish(b"", Entry(b"time", size=9), sha256=hashlib.sha256(b"hello").digest()),
        ]
        told, got = await bundle(await kent.meets("lancaster"), asked, way)
        assert sorted(told.held) == [0, 1, 10]
        assert got == {0: b"hello", 1: b"hello", 10: b"hello"}


async def test_what_is_only_asked_about_is_told_and_not_sent(cluster, way):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        for name in (b"a", b"b"):
            lancaster.files.put(name, b"x", source="oslo")
        wishes = [wish(lancaster, b"a", send=False), wish(lancaster, b"b")]
        told, got = await bundle(await kent.meets("lancaster"), wishes, way)
        assert [told.held[n].source for n in (0, 1)] == ["oslo", "oslo"]
        assert got == {1: b"x"}


async def test_what_it_fetches_is_told_with_what_it_holds(cluster, way):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        lancaster.files.put(b"pool/a", b"x")
        now = time.monotonic()
        lancaster.claims.claim("debian", b"pool", b"b", Row(size=7), now)
        lancaster.claims.claim("debian", b"pool", b"c", Row(size=7), now)
        lancaster.claims.start("debian", b"pool", b"c", now)
        lancaster.claims.claim("debian", b"pool", b"unasked", Row(size=7), now)
        asked = [wish(lancaster, b"pool/a"), *(Wish(b"pool", Entry(n, size=7)) for n in (b"b", b"c", b"d"))]
        told, got = await bundle(await kent.meets("lancaster"), asked, way)
        assert sorted(told.held) == [0] == sorted(got)
        assert {n: claim.started for n, claim in told.claims.items()} == {1: False, 2: True}


async def test_before_it_has_records_it_tells_what_it_fetches(cluster, way):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        lancaster.claims.claim("debian", b"", b"a", Row(size=7), time.monotonic())

        async def none(mirror: str) -> None:
            raise FileNotFoundError

        lancaster.server._shared._open_reader = none
        told, got = await bundle(await kent.meets("lancaster"), [Wish(b"", Entry(b"a", size=7))], way)
        assert (list(told.claims), told.held, got) == ([0], {}, {})


async def test_a_file_that_is_shorter_than_its_record_is_left_out(cluster, way):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        lancaster.files.put(b"a", b"x" * 100_000)
        lancaster.files.put(b"b", b"y")
        lancaster.files.files[b"a"] = lancaster.files.files[b"a"][0], b"x" * 50_000
        told, got = await bundle(
            await kent.meets("lancaster"), [wish(lancaster, b"a"), wish(lancaster, b"b")], way
        )
        assert (sorted(told.held), got) == ([0, 1], {1: b"y"})


async def test_a_bundle_has_its_limits_and_the_rest_is_asked_for_again(cluster, way):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        for n in range(70):
            lancaster.files.put(b"f%02d" % n, b"x" * 2**20)
        lancaster.files.put(b"large", b"x" * (2**20 + 1))
        asked = [wish(lancaster, path) for path in [b"large", *(b"f%02d" % n for n in range(70))]]
        sibling = await kent.meets("lancaster")
        told, got = await bundle(sibling, asked, way)
        assert len(told.held) == 71
        assert list(got) == list(range(1, 65))
        told, got = await bundle(sibling, asked[65:], way)
        assert list(got) == list(range(6))


async def test_a_reader_that_stops_does_not_take_the_sibling_along(cluster):
    async with running(cluster, "kent", "lancaster") as (kent, lancaster):
        for n in range(20):
            lancaster.files.put(b"f%02d" % n, b"x" * 2**20)
        sibling = await kent.meets("lancaster")
        asked = [wish(lancaster, b"f%02d" % n) for n in range(20)]
        async with aclosing(sibling.bundle("debian", asked, 5.0)) as parts:
            async for part in parts:
                if isinstance(part, Bodies):
                    break
        assert sibling.up
        assert len((await bundle(sibling, asked))[1]) == 20


async def test_a_site_of_an_older_version_lacks_them_and_that_is_no_fault(cluster, way):
    async with (
        running(cluster, "kent") as (kent,),
        hostile(cluster, "oslo", always(whole(b"404: Not Found", "404 Not Found"))),
    ):
        sibling = await kent.meets("oslo")
        for _ in range(4):
            with pytest.raises(PeerLacks):
                await bundle(sibling, [Wish(b"", Entry(b"a", size=1))], way)
        assert sibling.up


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc0",
        b"\x00\x00\x00\x02\x81",
        b"",
        b"\x00\x10\x00\x01" + b"\x80" * 2**20,
        bundlewire.told({0: held(b"b", b"x")}, {})[0],
        bundlewire.told({0: held(b"a", b"x")}, {})[0],
    ],
    ids=["length", "nil", "cut", "empty", "too long", "another file", "torn"],
)
async def test_a_bundle_that_is_none_is_refused(cluster, way, body):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", always(whole(body))):
        sibling = await kent.meets("oslo")
        with pytest.raises(PeerBroke, match=r"bundle|message"):
            await bundle(sibling, [Wish(b"", Entry(b"a", size=1))], way)


async def test_what_came_before_a_break_is_there(cluster):
    file = held(b"a", b"x")
    torn = bundlewire.told({0: file, 1: held(b"b", b"y")}, {})[0] + bundlewire.group([(0, b"x")])

    async def answer(target, writer):
        await asyncio.sleep(0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + torn)
        await writer.drain()
        raise OSError

    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", answer):
        sibling = await kent.meets("oslo")
        got = []
        with pytest.raises(PeerSilent):
            async for part in sibling.bundle("debian", asked_for(file, held(b"b", b"y")), 5.0):
                got += [part]
        assert [type(one) for one in got] == [Told, Bodies]


async def test_a_sibling_that_does_not_begin_to_answer_costs_the_patience(cluster):
    async with running(cluster, "kent") as (kent,), hostile(cluster, "oslo", nothing):
        sibling = await kent.meets("oslo")
        with pytest.raises(PeerSilent, match=r"0\.2 s"):
            async for _ in sibling.bundle("debian", [Wish(b"", Entry(b"a", size=1))], 0.2):
                pass


def test_the_minor_version_says_that_there_are_bundles_with_columns():
    assert (wire.MAJOR, wire.MINOR) >= (1, 3)

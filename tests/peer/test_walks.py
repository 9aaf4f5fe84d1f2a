"""What sites tell each other of their walks: on the wire, what is kept of it, and who hears it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.model import Entry, Listing, Row, Sideways, Trust
from cluster.peer import elsewhere as elsewhere_module
from cluster.peer import linewire, relaying, walkwire
from cluster.peer.codec import WireError, pack
from cluster.peer.elsewhere import Elsewhere
from cluster.peer.walkwire import Known, Listed, Walk, Word
from tests.peer.cluster import Station, make_cluster, running
from tests.peer.test_lines import until

ORIGIN = "http://origin.example/pub/"
WALKING = Walk("debian", 1, ORIGIN, shares=True)
LISTING = Listing((Entry(b"a", size=3),), token=b"token", format="nginx")

paths = st.lists(st.sampled_from([b"a", b"\xff", b"b c"]), max_size=3).map(b"/".join)
ages = st.integers(0, 2**62)
tokens = st.binary(min_size=1, max_size=64)
words = st.one_of(
    st.builds(Word, paths),
    st.builds(Word, paths, ages),
    st.builds(Word, paths, ages, tokens, st.binary(max_size=9000)),
)
texts = st.sampled_from(["debian", "http://origin.example/é/"])
walks = st.builds(Walk, texts, ages, texts, paths, ages, ages, st.booleans(), st.booleans())


@given(walks, st.builds(Known, texts, ages, st.booleans()))
def test_a_walk_and_its_answer_arrive_as_they_were(walk: Walk, known: Known) -> None:
    assert linewire.read(walkwire.walk(walk)) == walk
    assert linewire.read(walkwire.known(known)) == known


@given(st.lists(words, max_size=20))
def test_words_arrive_as_they_were_in_messages_that_are_taken(told: list[Word]) -> None:
    messages = [linewire.read(message) for message in walkwire.listed("debian", ORIGIN, told)]
    assert messages
    assert [word for message in messages for word in _listed(message).words] == told


def _listed(message: linewire.Message | None) -> Listed:
    assert isinstance(message, Listed)
    return message


@pytest.mark.parametrize(
    "word",
    [
        [b"../a", 1, b"t", []],
        ["a", 1, b"t", []],
        [b"a", -1, b"t", []],
        [b"a", 1, b"t" * 65, []],
        [b"a", None, b"t", []],
        [b"a", 1, b"", [b"rows"]],
        [b"a", 1, b"t", [b"x" * 4096] * 5],
        [b"a", 1, b"t"],
    ],
    ids=[
        "a path",
        "text",
        "from the future",
        "long token",
        "asks and was told",
        "rows of nothing",
        "long",
        "short",
    ],
)
def test_what_is_no_word_is_refused(word: object) -> None:
    with pytest.raises(WireError):
        linewire.read(pack(["listed", "debian", ORIGIN, [word]]))


@pytest.mark.parametrize(
    "message", [["walk", "debian", 1], ["known", "debian", 1], ["listed", "debian", ORIGIN]]
)
def test_what_is_too_short_is_refused(message: list[object]) -> None:
    with pytest.raises(WireError):
        linewire.read(pack(message))


# -- what is kept of it


def told(*said: Word, walk: Walk = WALKING, now: float = 100.0) -> Elsewhere:
    known = Elsewhere()
    known.begin("debian", ORIGIN, now, lambda directories: None)
    known.walk("oslo", walk, now)
    known.listed("oslo", Listed("debian", ORIGIN, said), now)
    return known


def expected(known: Elsewhere, path: bytes = b"a") -> list[str]:
    return list(known.expected("debian", path))


def test_an_age_is_counted_from_when_it_was_told_and_is_no_more_than_since_we_began() -> None:
    known = told()
    known.listed("oslo", Listed("debian", ORIGIN, (Word(b"a", 2000, b"t", b"r"),)), 110.0)
    (word,) = known.words("debian", b"a")
    assert (word.site, word.asked, word.surely, word.token, word.rows) == ("oslo", 108.0, 98.0, b"t", b"r")


def test_only_words_of_a_mirror_and_an_origin_that_we_walk_are_kept() -> None:
    known = told(Word(b"a", 1, b"t"))
    known.listed("oslo", Listed("debian", "http://another/", (Word(b"b", 1, b"t"),)), 100.0)
    known.walk("oslo", Walk("ctan", 1, ORIGIN), 100.0)
    known.listed("oslo", Listed("ctan", ORIGIN, (Word(b"c", 1, b"t"),)), 100.0)
    known.listed("york", Listed("debian", ORIGIN, (Word(b"d", 1, b"t"),)), 100.0)
    found = [path for path in (b"a", b"b", b"c", b"d") for m in ("debian", "ctan") if known.words(m, path)]
    assert found == [b"a"]
    known.end("debian")
    assert not known.words("debian", b"a")


def test_the_newest_word_comes_first() -> None:
    known = told(Word(b"a", 9000, b"old"))
    known.walk("york", Walk("debian", 1), 100.0)
    known.listed("york", Listed("debian", ORIGIN, (Word(b"a", 1000, b"new"),)), 100.0)
    assert [word.token for word in known.words("debian", b"a")] == [b"new", b"old"]


@pytest.mark.parametrize(
    ("walk", "word", "waits"),
    [
        ({}, None, True),
        ({"origin": ""}, None, False),
        ({"origin": "http://another/"}, None, False),
        ({"shares": False}, None, False),
        ({"scope": b"b"}, None, False),
        ({"scope": b"a"}, None, True),
        ({}, Word(b"a"), True),
        ({}, Word(b"a", 0, b"t"), False),
        ({}, Word(b"a", 0), False),
        ({}, Word(b"a", 60_000, b"t"), True),
        ({"since": 90_000}, Word(b"a", 60_000, b"t"), False),
    ],
    ids=[
        "walks",
        "rests",
        "asks another origin",
        "goes on with a part",
        "walks elsewhere",
        "walks here",
        "is asking",
        "has listed it",
        "could not list it",
        "listed it in its pass before",
        "has listed it a while ago",
    ],
)
def test_who_is_expected_to_list_a_directory(walk: dict[str, object], word: Word | None, waits: bool) -> None:
    said = replace(WALKING, **walk)  # type: ignore[arg-type]
    known = told(*([word] if word else []), walk=said)
    assert expected(known) == ["oslo"] * waits


def test_nothing_is_expected_of_who_left() -> None:
    known = told(Word(b"a", 1, b"t"))
    known.gone("oslo")
    assert not known.words("debian", b"a")
    assert not expected(known, b"b")
    assert not known.owing("debian", 1)


def test_what_was_asked_for_in_a_pass_that_has_ended_is_not_on_its_way() -> None:
    known = told(Word(b"a"), Word(b"b", 1, b"t"))
    known.walk("oslo", Walk("debian", 2), 101.0)
    assert not known.words("debian", b"a")
    assert known.words("debian", b"b")


def test_who_takes_part_owes_an_answer_to_each_walk() -> None:
    known = told()
    assert known.owing("debian", 1) == ["oslo"]
    known.known("oslo", Known("debian", 1, whole=True))
    assert known.owing("debian", 1) == []
    assert known.owing("debian", 2) == ["oslo"]
    assert known.reticent("debian") == []
    known.known("oslo", Known("debian", 2, whole=False))
    assert known.reticent("debian") == ["oslo"]


@pytest.mark.parametrize(("limit", "value"), [("MAX_WORDS", 3), ("MAX_ROWS", 30)])
def test_of_too_many_words_the_newest_are_kept_and_the_rest_can_be_asked_for(
    limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere_module, limit, value)
    known = told(*(Word(b"%d" % i, 1, b"t", b"x" * 10) for i in range(5)))
    assert [i for i in range(5) if known.words("debian", b"%d" % i)] == [2, 3, 4]
    assert known.reticent("debian") == ["oslo"]


def test_whoever_waits_is_told_of_what_was_said() -> None:
    known, heard = Elsewhere(), list[list[bytes] | None]()

    def changed(directories: Iterable[bytes] | None) -> None:
        heard.append(None if directories is None else list(directories))

    known.begin("debian", ORIGIN, 100.0, changed)
    known.walk("oslo", Walk("debian", 1, ORIGIN), 100.0)
    known.listed("oslo", Listed("debian", ORIGIN, (Word(b"a", 1, b"t"),)), 100.0)
    known.known("oslo", Known("debian", 1, whole=True))
    known.gone("oslo")
    assert heard == [None, [b"a"], None, None]


# -- between real sites


@asynccontextmanager
async def relayed(folder: Path, *names: str, **sideways: object) -> AsyncIterator[list[Station]]:
    made = make_cluster(str(folder), names)
    allowed = Sideways(**{"listings": 300.0, **sideways})  # type: ignore[arg-type]
    mirrors = {name: replace(mirror, sideways=allowed) for name, mirror in made.mirrors.items()}
    async with running(replace(made, mirrors=mirrors), *names, talk=True) as stations:
        for station in stations:
            for name in names:
                if name != station.site.name:
                    await station.has_line(name)
            if allowed.relays:
                others = len(names) - 1
                await until(lambda: len(station.listings.elsewhere.owing("debian", 1)) == others, 20)  # noqa: B023
        yield stations


def walk(station: Station, mirror: str = "debian", **facts: object) -> int:
    """The station walks; what it hears is kept."""
    station.listings.elsewhere.begin(mirror, ORIGIN, time.monotonic(), lambda directories: None)
    made = Walk(mirror, 0, ORIGIN, age=300_000, shares=True)
    return station.listings.walk(replace(made, **facts), time.monotonic())  # type: ignore[arg-type]


def keep(station: Station, path: bytes, listing: Listing = LISTING, mirror: str = "debian") -> None:
    station.listings.keep(mirror, path, ORIGIN, listing, time.monotonic())


async def answered(station: Station, number: int, mirror: str = "debian") -> None:
    await until(lambda: not station.listings.elsewhere.owing(mirror, number), 20)


async def test_what_the_origin_tells_one_site_is_known_at_once_where_it_is_walked(tmp_path: Path) -> None:
    async with relayed(tmp_path, "kent", "oslo") as (kent, oslo):
        known = oslo.listings.elsewhere
        await answered(oslo, walk(oslo))
        walk(kent)
        await until(lambda: list(known.expected("debian", b"pool")) == ["kent"], 20)
        keep(kent, b"pool")
        await until(lambda: known.words("debian", b"pool"), 20)
        (word,) = known.words("debian", b"pool")
        assert (word.site, word.token, bool(word.rows)) == ("kent", b"token", True)
        assert not list(known.expected("debian", b"pool"))
        keep(kent, b"dists", Listing((), token=b"same", same=True))
        await until(lambda: known.words("debian", b"dists"), 20)
        assert not known.words("debian", b"dists")[0].rows
        kent.listings.walked("debian")
        await until(lambda: not list(known.expected("debian", b"x")), 20)


async def test_who_begins_later_is_told_what_is_known_and_what_is_being_asked_for(tmp_path: Path) -> None:
    async with relayed(tmp_path, "kent", "oslo") as (kent, oslo):
        walk(kent)
        keep(kent, b"pool")
        keep(kent, b"pool/a")
        keep(kent, b"dists")
        with kent.listings.asking("debian", b"pool/b", ORIGIN):
            known = oslo.listings.elsewhere
            await answered(oslo, walk(oslo, scope=b"pool"))
            assert [len(known.words("debian", p)) for p in (b"pool", b"pool/a", b"pool/b", b"dists")] == [
                1,
                1,
                1,
                0,
            ]
            assert known.words("debian", b"pool/b")[0].asked is None
            assert not known.words("debian", b"pool")[0].rows
            oslo.listings.walked("debian")
            await answered(oslo, walk(oslo, rows=True))
            assert known.words("debian", b"pool")[0].rows
            assert known.reticent("debian") == []
        await answered(oslo, walk(oslo, age=0))
        assert not known.words("debian", b"pool")


async def test_what_is_too_much_is_not_told_and_said_to_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "MOST", 200)
    long = Listing(tuple(Entry(b"%04d" % i) for i in range(2000)), token=b"long")
    async with relayed(tmp_path, "kent", "oslo") as (kent, oslo):
        for path in (b"a", b"b", b"c", b"d", b"e", b"f"):
            keep(kent, path)
        keep(kent, b"long", long)
        await answered(oslo, walk(oslo, rows=True))
        known = oslo.listings.elsewhere
        assert known.reticent("debian") == ["kent"]
        assert known.words("debian", b"long")
        assert not known.words("debian", b"long")[0].rows
        assert not known.words("debian", b"a")


async def test_who_begins_again_and_again_is_left_to_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "OFTEN", 2)
    monkeypatch.setattr(relaying, "SOON", 1e6)
    async with relayed(tmp_path, "kent", "oslo") as (kent, oslo):
        keep(kent, b"pool")
        known = oslo.listings.elsewhere
        for _ in range(2):
            await answered(oslo, walk(oslo))
            assert known.words("debian", b"pool")
            assert not known.reticent("debian")
        await answered(oslo, walk(oslo))
        assert not known.words("debian", b"pool")
        assert known.reticent("debian") == ["kent"]


async def test_a_walk_that_goes_on_gives_signs(tmp_path: Path) -> None:
    async with relayed(tmp_path, "kent", "oslo") as (kent, oslo):
        walk(kent)
        await answered(oslo, walk(oslo))
        known = oslo.listings.elsewhere
        ((_, before),) = known.walking("debian")
        await until(lambda: known.walking("debian")[0][1] > before, 20)


@pytest.mark.parametrize("sideways", [{"listings": 0.0}, {"trust": Trust.STRICT}, {"enabled": False}])
async def test_only_who_takes_listings_tells_them(tmp_path: Path, sideways: dict[str, object]) -> None:
    async with relayed(tmp_path, "kent", "oslo", **sideways) as (kent, oslo):
        keep(kent, b"pool")
        walk(kent)
        assert not oslo.listings.elsewhere.owing("debian", walk(oslo))
        kent.claims.claim("debian", b"pool", b"a", Row(size=7), time.monotonic())
        await until(lambda: oslo.claims.heard.at("debian", b"pool/a", time.monotonic()), 20)
        assert not oslo.listings.elsewhere.words("debian", b"pool")
        assert not oslo.listings.elsewhere.walking("debian")


async def test_a_mirror_that_a_sibling_does_not_carry_is_not_told_of(tmp_path: Path) -> None:
    async with relayed(tmp_path, "kent", "lancaster", "oslo") as (kent, lancaster, oslo):
        keep(kent, b"pool", mirror="ctan")
        walk(kent, "ctan")
        walk(oslo, "ctan")
        await answered(lancaster, walk(lancaster, "ctan"), "ctan")
        await answered(oslo, walk(oslo))
        assert lancaster.listings.elsewhere.words("ctan", b"pool")
        assert not oslo.listings.elsewhere.words("ctan", b"pool")


async def test_with_the_line_goes_what_was_told_on_it(tmp_path: Path) -> None:
    async with relayed(tmp_path, "kent", "oslo") as (kent, oslo):
        walk(kent)
        keep(kent, b"pool")
        known = oslo.listings.elsewhere
        await answered(oslo, walk(oslo))
        await kent.stop()
        await until(lambda: not known.words("debian", b"pool") and not known.walking("debian"), 20)

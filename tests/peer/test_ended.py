"""Which files siblings fetch no more: whoever listens is told, and who begins later learns of it."""

import pytest

from cluster.model import Claim, Row
from cluster.peer import ended
from cluster.peer.heard import Heard

ROW = Row(size=7)


class Ear:
    def __init__(self) -> None:
        self.told: list[tuple[str, bytes, list[bytes]]] = []

    def __call__(self, site, directory, names) -> None:
        self.told.append((site, directory, list(names)))


@pytest.fixture
def heard() -> Heard:
    made = Heard()
    made.begin("oslo")
    return made


def fetches(heard: Heard, *names: bytes, mirror: str = "deb", started: bool = True, **facts) -> None:
    claims = [Claim(name, ROW, started=started, **facts) for name in names]
    heard.claimed("oslo", mirror, b"pool", claims, 0.0)


def test_what_a_sibling_has_fetched_is_told_to_the_pass_that_listens(heard: Heard) -> None:
    ear = Ear()
    heard.ended.listen("deb", ear)
    fetches(heard, b"a", b"b", b"c")
    heard.released("oslo", "deb", b"pool", [(b"a", 0), (b"b", 0), (b"never claimed", 0)])
    assert ear.told == [("oslo", b"pool", [b"a", b"b"])]


def test_what_was_only_asked_for_or_came_by_parts_is_not_told(heard: Heard) -> None:
    ear = Ear()
    heard.ended.listen("deb", ear)
    fetches(heard, b"asked", started=False)
    fetches(heard, b"part", first=0, end=64)
    heard.released("oslo", "deb", b"pool", [(b"asked", 0), (b"part", 0)])
    assert ear.told == []


def test_a_pass_that_begins_later_learns_of_what_was_fetched_before_once(heard: Heard) -> None:
    fetches(heard, b"a", b"b")
    fetches(heard, b"x", mirror="ctan")
    heard.released("oslo", "deb", b"pool", [(b"a", 0)])
    heard.released("oslo", "deb", b"pool", [(b"b", 0)])
    heard.released("oslo", "ctan", b"pool", [(b"x", 0)])
    first, second = Ear(), Ear()
    heard.ended.listen("deb", first)
    assert first.told == [("oslo", b"pool", [b"a", b"b"])]
    heard.ended.ignore("deb")
    heard.ended.listen("deb", second)
    assert second.told == []


@pytest.mark.parametrize("end", ["cleared", "gone"])
def test_what_was_fetched_counts_no_longer_when_the_pass_or_the_line_is_over(heard: Heard, end: str) -> None:
    fetches(heard, b"a")
    heard.released("oslo", "deb", b"pool", [(b"a", 0)])
    if end == "cleared":
        heard.cleared("oslo", "deb")
    else:
        heard.gone("oslo")
    ear = Ear()
    heard.ended.listen("deb", ear)
    assert ear.told == []


def test_what_nobody_asks_for_takes_up_no_more_than_its_room(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended, "MAX_NAMES", 5)
    for i in range(20):
        heard.claimed("oslo", "deb", b"%d" % i, [Claim(b"a", ROW, started=True)], 0.0)
        heard.released("oslo", "deb", b"%d" % i, [(b"a", 0)])
    ear = Ear()
    heard.ended.listen("deb", ear)
    assert [directory for _, directory, _ in ear.told] == [b"15", b"16", b"17", b"18", b"19"]

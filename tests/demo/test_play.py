"""The demo, with trees that are small, plays to its end; `make demo` plays it with those of the machine."""

import os
from pathlib import Path

import pytest

from cluster.config.load import load
from cluster.demo import folder, play, race
from cluster.demo.origin import Origin

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def small(monkeypatch):
    def copy(self: Origin) -> None:
        for mirror in ("python", "doc", "zoneinfo"):
            for number in range(30):
                path = Path(self.tree(mirror), f"d{number % 3}", f"f{number}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(os.urandom(20_000))
        Path(self.tree("zoneinfo"), "zone.tab").write_bytes(b"#")
        Path(self.tree("zoneinfo"), "link").symlink_to("d0/f0")
        os.makedirs(self._run)

    monkeypatch.setattr(Origin, "copy", copy)
    monkeypatch.setattr(race, "LASTS", 2.0)


async def test_two_teams_race_and_every_tree_is_compared(small, capsys, tmp_path):
    assert await play.run_demo(str(REPOSITORY), once=True, keep=str(tmp_path / "kept")) == 0
    said = capsys.readouterr().out
    assert "Every tree at kent, lancaster, oslo equals its origin" in said
    assert "Every tree at kent, lancaster, oslo (alone) equals its origin" in said
    assert "Every tree at kent, lancaster equals its origin" in said
    assert "Every tree at oslo equals its origin" in said
    assert "spared the origin" in said
    row = next(line for line in said.splitlines() if "times the bytes that there are" in line)
    together, alone = (float(word) for word in row.split() if word.replace(".", "").isdecimal())
    assert alone == 3.0  # what lone mirrors cost, by the origin's own log
    assert together < 2.0


async def test_a_lone_tree_that_differs_is_told_and_is_the_exit_status(small, capsys, monkeypatch):
    monkeypatch.setattr(play.Demo, "_second", _nothing)
    monkeypatch.setattr(
        play, "differences", lambda origin, mirror, links: ["*deleting x"] if "/alone/kent/" in mirror else []
    )
    assert await play.run_demo(str(REPOSITORY), once=True, keep=None) == 1
    said = capsys.readouterr()
    assert "kent/doc differs from the origin:\n*deleting x" in said.err
    assert "(alone) equals" not in said.out


async def _nothing(*_: object) -> bool:
    return True


def test_a_lone_site_has_the_same_configuration_and_knows_nobody(tmp_path):
    places = folder.alone(
        str(REPOSITORY), str(tmp_path / "alone"), lambda name: f"http://127.0.0.1:1/{name}/"
    )
    shipped = load(str(REPOSITORY))
    assert [place.name for place in places] == sorted(shipped.sites)
    for place in places:
        own = load(place.root)
        assert list(own.sites) == [place.name]
        assert own.sites[place.name].peer is None
        assert sorted(place.carried()) == ["doc", "python"]
        for name, mirror in own.mirrors.items():
            assert mirror.sites == (place.name,)
            same = ("path", "walk", "select", "limits", "delete", "publish_last")
            for word in (word for word in same if hasattr(mirror, word)):
                assert getattr(mirror, word) == getattr(shipped.mirrors[name], word)


@pytest.mark.parametrize(("held", "rate"), [(0, 500_000), (1, 500_000), (25_000_000, 1_000_000)])
def test_the_link_is_as_fast_as_the_lone_mirrors_need_it(monkeypatch, held, rate, tmp_path):
    monkeypatch.setattr(Origin, "unique", lambda self, mirror: held / 2)
    assert race.rate_for(Origin(str(tmp_path), ("a",)), 3) == rate

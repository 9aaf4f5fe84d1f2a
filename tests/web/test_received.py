"""What the sites received from where, on the cluster page and in its JSON."""

import itertools
import re

import pytest

from cluster.plan.saving import DAY, Received
from cluster.store.summary import MirrorSummary
from cluster.web.received import HIGH, WIDE, bars, facts, merged, percent
from cluster.web.view import SiblingSummary
from tests.web.fakes import NOW

TODAY = int(NOW // DAY)  # 2026-05-28


@pytest.fixture
def told(site):
    site.readers["debian"].days = {
        TODAY - 60: Received(1000, 0),
        TODAY - 29: Received(100, 300),
        TODAY: Received(100, 100),
    }
    lancaster = MirrorSummary(received=Received(500, 1500), days={TODAY: Received(0, 400)})
    site.view.others = {
        "lancaster": SiblingSummary(True, NOW - 5, {"debian": lancaster}),
        "leeds": SiblingSummary(False, None),
    }
    return site


async def test_the_json_says_for_each_mirror_site_and_day_what_was_saved(told):
    page = await told.json("/-/cluster")
    lines = page["mirrors"][0]["sites"]
    assert lines["kent"]["received"] == {
        "today": {"origin": 100, "sideways": 100, "saved": 0.5},
        "month": {"origin": 200, "sideways": 400, "saved": 0.6667},
        "total": {"origin": 1200, "sideways": 400, "saved": 0.25},
        "days": [
            {"day": "2026-04-29", "origin": 100, "sideways": 300, "saved": 0.75},
            {"day": "2026-05-28", "origin": 100, "sideways": 100, "saved": 0.5},
        ],
    }
    spared = page["received"]
    assert spared["today"] == {"origin": 100, "sideways": 500, "saved": 0.8333}
    assert spared["total"] == {"origin": 1700, "sideways": 1900, "saved": 0.5278}
    assert [row["day"] for row in spared["days"]] == ["2026-04-29", "2026-05-28"]
    assert spared["sites"]["lancaster"]["month"] == {"origin": 0, "sideways": 400, "saved": 1.0}
    nothing = {"origin": 0, "sideways": 0, "saved": None}
    assert spared["sites"]["leeds"] == {"today": nothing, "month": nothing, "total": nothing, "days": []}


async def test_the_page_shows_it_in_words_in_a_chart_and_in_a_table(told):
    page = await told.text("/-/cluster")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    assert "Today (UTC) 83.3 % saved 100 bytes from origins, 500 bytes sideways" in text
    assert "2026-04-29: 100 bytes from origins, 300 bytes sideways" in text
    assert "most in a day: 600 bytes" in text
    assert page.count("<g>") == 2
    assert "kent 200 bytes 400 bytes 66.7 % 1.20 kB 400 bytes 25.0 %" in text
    assert "lancaster 0 bytes 400 bytes 100.0 %" in text
    assert "leeds not known" in text  # it has not told anything
    assert "all sites 200 bytes 800 bytes 80.0 % 1.70 kB 1.90 kB 52.8 %" in text
    assert "style=" not in page  # the policy forbids it


async def test_before_anything_came_there_is_no_chart(site):
    page = await site.text("/-/cluster")
    assert "<svg" not in page
    assert "nothing received" in page


def test_bars_stand_on_the_ground_side_by_side_and_the_highest_fills_the_picture():
    days = facts({TODAY: Received(10, 30), TODAY - 1: Received(0, 10)}, Received(), NOW)["days"]
    every = bars(days, NOW)
    assert [bar.day for bar in every[-2:]] == ["2026-05-27", "2026-05-28"]
    assert len(every) == 30
    *_, before, today = every
    assert today.sideways_top == 0
    assert today.sideways_top + today.sideways_height == today.origin_top
    assert today.origin_top + today.origin_height == before.sideways_top + before.sideways_height == HIGH
    assert before.sideways_height == HIGH / 4
    for left, right in itertools.pairwise(every):
        assert left.left + left.width < right.left
    assert every[0].left > 0 and today.left + today.width < WIDE
    assert every[0].both == every[0].origin_height == 0


@pytest.mark.parametrize(
    ("share", "said"), [(None, ""), (0, "0.0 %"), (2 / 3, "66.7 %"), (0.99999, "99.9 %"), (1, "100.0 %")]
)
def test_all_is_said_only_of_all(share, said):
    assert percent(share) == said


def test_facts_of_several_mirrors_are_those_of_all_their_bytes():
    one, other = {TODAY: Received(1, 2)}, {TODAY: Received(10, 0), TODAY - 3: Received(0, 5)}
    parts = [facts(one, Received(7, 7), NOW), facts(other, Received(1, 1), NOW)]
    together = facts({TODAY - 3: Received(0, 5), TODAY: Received(11, 2)}, Received(8, 8), NOW)
    assert merged(parts) == together
    assert merged([]) == facts({}, Received(), NOW)

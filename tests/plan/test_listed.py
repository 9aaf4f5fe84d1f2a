"""What a list of the whole tree is good for: rows of circumstances."""

from __future__ import annotations

import pytest

from cluster.model import DAY, MINUTE, SECOND, Deletion, Entry, Kind, Listing, Stamp
from cluster.plan.listed import TAKES, Checked, Known, Picture, Rules, Use, agree, check, judged, use

RULES = Rules(age=36 * 3600.0, walk=7 * 86_400.0, delete=Deletion())
NOW = 1_764_000_000
MADE = NOW - 3600
AS_OF = MADE - TAKES


@pytest.mark.parametrize(
    ("known", "picture", "walked", "good_for"),
    [
        (Known(), Picture(MADE, 10), None, Use.FACTS),
        (Known(compared=AS_OF), Picture(MADE, 10), NOW, Use.FACTS),
        (Known(compared=AS_OF + 1), Picture(MADE, 10), NOW, Use.TOKENS),
        (Known(), Picture(MADE, 10, before=MADE), None, Use.FACTS),
        (Known(), Picture(MADE, 10, before=MADE + 1), None, Use.NOTHING),
        (Known(), Picture(NOW - 36 * 3600, 10), None, Use.FACTS),
        (Known(), Picture(NOW - 36 * 3600 - 1, 10), None, Use.WALK),
        (Known(), Picture(MADE, 10), NOW - 7 * 86_400 - 1, Use.WALK),
        (Known(), Picture(MADE, 10), NOW - 7 * 86_400, Use.FACTS),
        (Known(held=1000), Picture(MADE, 900), None, Use.FACTS),
        (Known(held=1000), Picture(MADE, 899), None, Use.NOTHING),
        (Known(held=10_000), Picture(MADE, 9_000), None, Use.FACTS),
        (Known(held=10_000), Picture(MADE, 8_999), None, Use.NOTHING),
        (Known(held=100), Picture(MADE, 0), None, Use.FACTS),  # as many as may go by one plan
        (Known(news=NOW), Picture(MADE, 10), None, Use.FACTS),
        (Known(news=NOW), Picture(MADE, 10, same=True), None, Use.WALK),
    ],
)
def test_what_a_list_is_good_for(known: Known, picture: Picture, walked: int | None, good_for: Use) -> None:
    found, why = use(picture, known, RULES, now=NOW, walked=walked)
    assert found is good_for
    assert bool(why) is (found is not Use.FACTS)


def file(name: bytes, size: int | None = 1, at: int = MADE - 10 * 86_400, precision: int = SECOND) -> Entry:
    return Entry(name, size=size, mtime=Stamp(at * SECOND // precision * precision, precision))


def listing(*entries: Entry) -> Listing:
    return Listing(entries)


OLD, LATER = MADE - 10 * 86_400, NOW - 60
FOLDER = Entry(b"d", Kind.DIRECTORY)
LINK = Entry(b"l", Kind.SYMLINK, target=b"a")


@pytest.mark.parametrize(
    ("listed", "real", "wrong"),
    [
        ([file(b"a")], [file(b"a")], ""),
        ([file(b"a", precision=DAY)], [file(b"a")], ""),
        ([file(b"a")], [file(b"a", 2)], "a has 2 bytes, not 1"),
        ([file(b"a")], [file(b"a", 2, LATER)], ""),
        ([file(b"a")], [file(b"a", at=OLD - 5 * 86_400)], "a has another time"),
        ([file(b"a")], [file(b"a"), file(b"b")], "b is not in it"),
        ([file(b"a")], [file(b"a"), file(b"b", at=LATER)], ""),
        ([file(b"a")], [file(b"a"), FOLDER], ""),
        ([file(b"a")], [file(b"a"), file(b"fullfiletimelist-x")], ""),
        ([file(b"a"), file(b"b")], [file(b"a")], ""),
        ([file(b"a"), file(b"b"), file(b"c")], [file(b"c")], "2 of 3 names are not there"),
        ([file(b"a"), file(b".b"), file(b".c")], [file(b"a")], ""),
        ([LINK], [file(b"l")], ""),
        ([FOLDER], [file(b"d")], "d is a file, not a directory"),
    ],
)
def test_what_no_later_change_explains_is_wrong(listed: list[Entry], real: list[Entry], wrong: str) -> None:
    found = Checked()
    check(found, listing(*listed), listing(*real), AS_OF, facts=True, hides=True)
    assert judged(found) == wrong


def test_another_zone_is_told_by_all_files_and_by_nothing_else() -> None:
    shifted = [file(b"a", at=OLD + 3600, precision=MINUTE), file(b"b", at=OLD + 3600, precision=MINUTE)]
    real = [file(b"a"), file(b"b")]
    found = Checked()
    check(found, listing(*shifted), listing(*real), AS_OF, facts=True, hides=False)
    assert found.zoned and judged(found) == ""
    check(found, listing(file(b"c")), listing(file(b"c")), AS_OF, facts=True, hides=False)
    assert judged(found) == "2 files have other times"


def test_a_list_of_directories_that_are_all_gone_is_wrong() -> None:
    assert judged(Checked()) == "none of the directories that were looked at is there"


@pytest.mark.parametrize(
    ("listed", "real", "times", "same"),
    [
        ([file(b"a")], [file(b"a")], True, True),
        ([file(b"a")], [file(b"a", 2)], True, False),
        ([file(b"a")], [file(b"a", None)], True, True),
        ([file(b"a")], [file(b"a", at=OLD + 1)], True, False),
        ([file(b"a")], [file(b"a", at=OLD + 1)], False, True),
        ([file(b"a")], [], True, False),
        ([], [file(b"a")], True, False),
        ([file(b".a")], [], True, True),
        ([FOLDER, LINK], [FOLDER, file(b"l")], True, True),
        ([Entry(b"d", ambiguous=True)], [FOLDER], False, True),
    ],
)
def test_rows_stand_for_a_listing_that_says_the_same(
    listed: list[Entry], real: list[Entry], times: bool, same: bool
) -> None:
    assert agree(listing(*listed), listing(*real), times=times, hides=True) is same

"""What a listing says about what we hold."""

from dataclasses import replace

import pytest

from cluster.model import DAY, MINUTE, SECOND, Attributes, Entry, Facts, Held, Kind, Listing, Row, Rule, Stamp
from cluster.plan.compare import (
    Evidence,
    Policy,
    answer,
    compare,
    evidence,
    is_private,
    mode_for,
    record,
    same_attributes,
    validator,
)
from cluster.plan.select import Selection

NOON = 1_700_000_000 * SECOND // MINUTE * MINUTE


def policy(*rules: Rule, **more) -> Policy:
    return Policy(Attributes(), Selection(rules).excluded, file_size=2**40, max_depth=64, **more)


THEN = Stamp(NOON, MINUTE)


def held(name=b"a", size=3, mtime=THEN, **more) -> Held:
    row = more.pop("row", Row(size, None, mtime))
    return Held(name, Kind.FILE, size=size, sha256=b"d" * 32, mtime=mtime, row=row, mode=0o644, **more)


@pytest.mark.parametrize(
    ("entry", "have", "expected"),
    [
        (Entry(b"a", size=3, mtime=THEN), held(), Evidence.SAME),
        (Entry(b"a", size=4, mtime=THEN), held(), Evidence.CHANGED),
        (Entry(b"a", size=3, mtime=Stamp(NOON + MINUTE, MINUTE)), held(), Evidence.CHANGED),
        # A time that goes back is a change as well: never "newer".
        (Entry(b"a", size=3, mtime=Stamp(NOON - DAY, MINUTE)), held(), Evidence.CHANGED),
        # HAZARDS 51: the listing knows the minute, the file carries the second.
        (Entry(b"a", size=3, mtime=THEN), held(mtime=Stamp(NOON + 42 * SECOND, SECOND)), Evidence.SAME),
        # HAZARDS 52: a rounded size proves a difference, never equality.
        (Entry(b"a", rounded="1.2M", mtime=THEN), held(row=Row(None, "1.2M", THEN)), Evidence.SAME),
        (Entry(b"a", rounded="1.3M", mtime=THEN), held(row=Row(None, "1.2M", THEN)), Evidence.CHANGED),
        (Entry(b"a", rounded="1.2M"), held(row=Row(None, "1.2M")), Evidence.ASK),
        (Entry(b"a", size=3), held(row=Row(3)), Evidence.ASK),
        (Entry(b"a", size=3, mtime=THEN, ambiguous=True), held(), Evidence.ASK),
        # The listed minute was not over when the file was fetched.
        (Entry(b"a", size=3, mtime=THEN), held(settled=False), Evidence.ASK),
        (Entry(b"a", size=4, mtime=THEN), held(settled=False), Evidence.CHANGED),
    ],
)
def test_what_a_row_proves(entry, have, expected):
    assert evidence(entry, have) is expected


def test_a_row_in_doubt_neither_proves_a_directory_gone_nor_opens_a_private_one():
    """HAZARDS 21: of a name that the server itself could not look at, or lists twice."""
    folder = Held(b"a", Kind.DIRECTORY, mode=0o750, private=True)
    as_file = compare(b"", Listing((Entry(b"a", ambiguous=True),)), {b"a": folder}, policy())
    assert (as_file.missing, as_file.waiting) == (set(), 1)
    told = compare(b"", Listing((Entry(b"a", Kind.DIRECTORY, ambiguous=True),)), {b"a": folder}, policy())
    assert [(d.mode, d.private) for d in told.directories] == [(0o750, True)] and not told.attributes
    sure = compare(b"", Listing((Entry(b"a"),)), {b"a": folder}, policy())
    assert (sure.missing, sure.waiting) == ({b"a"}, 1)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(3, Stamp(NOON, SECOND), '"x"'), Evidence.SAME),
        (Facts(3, Stamp(NOON, SECOND), '"y"'), Evidence.CHANGED),
        (Facts(4, Stamp(NOON, SECOND), '"x"'), Evidence.CHANGED),
        (Facts(3, Stamp(NOON, SECOND)), Evidence.SAME),
        (Facts(3, Stamp(NOON + SECOND, SECOND)), Evidence.CHANGED),
        (Facts(3), Evidence.CHANGED),  # nothing told but a size: it may be another file
    ],
)
def test_what_asking_about_one_file_proves(facts, expected):
    assert answer(facts, held(mtime=Stamp(NOON, SECOND), etag='"x"')) is expected


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (NOON - 3 * SECOND, '"x"'),  # dated ahead of its time: no clock is that far off
        (NOON, ""),
        (NOON + SECOND - 1, ""),
        (NOON + SECOND, '"x"'),
        (NOON + MINUTE, '"x"'),
    ],
)
def test_what_is_read_within_its_own_second_proves_nothing_later(listed: int, expected: str) -> None:
    facts = Facts(3, Stamp(NOON, SECOND), '"x"')
    assert validator(facts, listed) == expected
    same = answer(facts, held(mtime=facts.mtime, etag=validator(facts, listed)))
    assert same is (Evidence.SAME if expected else Evidence.CHANGED)
    assert validator(Facts(3, None, None), listed) is None


@pytest.mark.parametrize(
    ("kind", "told", "expected"),
    [
        (Kind.FILE, None, 0o644),
        (Kind.DIRECTORY, None, 0o755),
        (Kind.FILE, 0o4755, 0o755),  # HAZARDS 26
        (Kind.FILE, 0o777, 0o775),
        (Kind.DIRECTORY, 0o1777, 0o775),
        (Kind.FILE, 0o000, 0o000),
    ],
)
def test_modes_never_carry_set_id_or_write_for_the_world(kind, told, expected):
    assert mode_for(kind, told, Attributes()) == expected


def test_the_descriptor_decides_over_the_origins_modes():
    attributes = Attributes(file_mode=0o640, directory_mode=0o2750)
    assert mode_for(Kind.FILE, 0o644, attributes) == 0o640
    assert mode_for(Kind.DIRECTORY, 0o700, attributes) == 0o750


@pytest.mark.parametrize(
    ("kind", "told", "private"),
    [
        (Kind.FILE, 0o640, True),
        (Kind.FILE, 0o644, False),
        (Kind.DIRECTORY, 0o750, True),
        (Kind.DIRECTORY, 0o754, True),
        (Kind.FILE, None, False),
    ],
)
def test_what_the_origin_keeps_from_the_world_is_private(kind, told, private):
    assert is_private(kind, told) is private


def test_sizes_that_two_origins_round_in_their_own_ways_prove_nothing() -> None:
    have = held(row=Row(None, "1.2M", THEN))
    listed = Entry(b"a", rounded="1.19 MB", mtime=THEN)
    assert evidence(listed, have) is Evidence.CHANGED
    assert evidence(listed, have, foreign=True) is Evidence.SAME


def test_the_time_that_a_file_came_with_is_as_good_as_another_origins_row() -> None:
    shifted = Stamp(THEN.ns + 3600 * SECOND, THEN.precision)  # a wall clock, read as UTC
    have = held(row=Row(3, None, shifted))
    listed = Entry(b"a", size=3, mtime=THEN)
    assert evidence(listed, have) is Evidence.CHANGED
    assert evidence(listed, have, foreign=True) is Evidence.SAME
    assert evidence(replace(listed, size=4), have, foreign=True) is Evidence.CHANGED


def test_another_origins_validator_proves_nothing() -> None:
    have = held(etag='"one"')
    told = Facts(3, THEN, '"two"')
    assert answer(told, have) is Evidence.CHANGED
    assert answer(told, have, foreign=True) is Evidence.SAME
    assert answer(replace(told, size=4), have, foreign=True) is Evidence.CHANGED


def listing(*entries: Entry) -> Listing:
    return Listing(tuple(sorted(entries, key=lambda e: e.name)))


def test_a_directory_is_taken_apart_into_what_it_needs():
    difference = compare(
        b"pool",
        listing(
            Entry(b"new", size=1, mtime=Stamp(NOON, MINUTE)),
            Entry(b"same", size=3, mtime=Stamp(NOON, MINUTE)),
            Entry(b"sub", Kind.DIRECTORY),
            Entry(b"link", Kind.SYMLINK, target=b"same"),
            Entry(b"evil", Kind.SYMLINK, target=b"/etc"),
            Entry(b"tty", Kind.SPECIAL),
            Entry(b"x.iso", size=1),
        ),
        {b"same": held(b"same"), b"gone": held(b"gone")},
        policy(Rule(False, "*.iso", "too large for us")),
    )
    assert [w.entry.name for w in difference.wanted] == [b"new"]
    assert [h.name for h in difference.made] == [b"link", b"sub"]
    assert [h.name for h in difference.directories] == [b"sub"]
    assert {s.name: s.reason for s in difference.skipped} == {
        b"evil": "link to an absolute path",
        b"tty": "neither file, directory nor link",
        b"x.iso": "too large for us",
    }
    assert difference.missing == {b"gone"}
    assert difference.unchanged == 1


def test_a_name_that_changes_between_file_and_directory_waits_for_the_judgement():
    difference = compare(b"", listing(Entry(b"a", Kind.DIRECTORY)), {b"a": held()}, policy())
    assert difference.missing == {b"a"}
    assert difference.waiting == 1
    assert not difference.made
    assert not difference.directories


def test_a_file_and_a_link_replace_each_other_at_once():
    difference = compare(b"", listing(Entry(b"a", Kind.SYMLINK, target=b"b")), {b"a": held()}, policy())
    assert [h.name for h in difference.made] == [b"a"]
    assert not difference.missing


def test_what_is_excluded_now_is_missing_and_skipped():
    rules = policy(Rule(False, "a", "licence"))
    difference = compare(b"", listing(Entry(b"a", size=3)), {b"a": held()}, rules)
    assert difference.missing == {b"a"}
    assert [s.reason for s in difference.skipped] == ["licence"]


def test_a_change_of_mode_alone_wants_no_bytes():
    entry = Entry(b"a", size=3, mtime=Stamp(NOON, MINUTE), mode=0o600)
    difference = compare(b"", listing(entry), {b"a": held()}, policy())
    assert not difference.wanted
    (change,) = difference.attributes
    assert (change.mode, change.private, change.sha256) == (0o600, True, b"d" * 32)


def test_damaged_and_unknown_files_are_looked_at_before_anything_is_fetched():
    entry = Entry(b"a", size=3, mtime=Stamp(NOON, MINUTE))
    for have, damaged, strangers in [
        ({b"a": held()}, {b"a"}, ()),
        ({b"a": held(unknown=True)}, (), ()),
        ({}, (), {b"a"}),
    ]:
        difference = compare(b"", listing(entry), have, policy(), damaged=damaged, strangers=strangers)
        assert difference.adopt == [entry]
        assert not difference.wanted


def test_a_hard_link_group_that_changed_is_linked_anew_without_bytes():
    entry = Entry(b"a", size=3, mtime=Stamp(NOON, MINUTE), link="1:2", links=2)
    difference = compare(b"", listing(entry), {b"a": held()}, policy())
    assert [h.link for h in difference.relink] == ["1:2"]
    assert not difference.wanted


def test_the_status_files_name_is_never_taken_from_an_origin():
    difference = compare(b"", listing(Entry(b".sideways.json", size=1)), {}, policy())
    assert [s.reason for s in difference.skipped] == ["the name is taken by status files"]


def test_below_the_depth_limit_nothing_is_walked():
    deep = Policy(Attributes(), Selection(()).excluded, file_size=1, max_depth=2)
    difference = compare(b"a/b", listing(Entry(b"c", Kind.DIRECTORY)), {}, deep)
    assert [s.reason for s in difference.skipped] == ["depth-limit"]


def test_applying_a_difference_leaves_none():
    entry = Entry(b"a", size=3, mtime=Stamp(NOON, MINUTE), mode=0o644)
    have = record(entry, Attributes(), base=held())
    assert same_attributes(have, replace(have, copied=5))
    difference = compare(b"", listing(entry), {b"a": have}, policy())
    assert difference.unchanged == 1
    assert not (difference.wanted or difference.attributes or difference.missing)

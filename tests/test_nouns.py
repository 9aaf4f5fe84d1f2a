"""The nouns of the model behave as frozen dataclasses do, though they share what those write for each."""

from __future__ import annotations

from dataclasses import dataclass, fields, make_dataclass

from hypothesis import given
from hypothesis import strategies as st

from cluster.model import Entry, Kind, Listing, Rule, Stamp, value

stamps = st.builds(Stamp, st.integers(0, 3), st.integers(1, 2))
entries = st.builds(Entry, st.sampled_from((b"a", b"b")), st.sampled_from(Kind), mtime=st.none() | stamps)


def dataclass_of(noun: object) -> object:
    """The same as an ordinary frozen dataclass."""
    kind = type(noun)
    like = make_dataclass(kind.__name__, [(f.name, f.type) for f in fields(kind)], frozen=True)  # type: ignore[arg-type]
    return like(*(getattr(noun, f.name) for f in fields(kind)))  # type: ignore[arg-type]


@given(entries, entries)
def test_nouns_are_equal_where_all_of_them_is(one: Entry, other: Entry) -> None:
    same = dataclass_of(one).__dict__ == dataclass_of(other).__dict__
    assert (one == other) == same
    assert (one != other) != same
    assert not same or hash(one) == hash(other)


@given(entries | stamps)
def test_a_noun_shows_itself_as_a_dataclass_does(noun: object) -> None:
    """Tokens of listings are made of that text, and are kept."""
    assert repr(noun) == repr(dataclass_of(noun))


def test_a_noun_is_not_what_only_has_the_same_fields() -> None:
    @value
    class Other:
        ns: int
        precision: int = 1

    assert Stamp(1) != Other(1)
    assert Stamp(1) != (1, 1)
    assert len({Stamp(1), Stamp(1), Stamp(2)}) == 2


def test_a_noun_with_one_field_or_none_is_one_as_well() -> None:
    @value
    class One:
        only: tuple[int, ...]

    @value
    class Nothing:
        pass

    @dataclass(frozen=True)
    class Same:
        only: tuple[int, ...]

    assert One((1, 2)) == One((1, 2)) != One((2,))
    assert repr(One((1, 2))).endswith("One(only=(1, 2))")
    assert Nothing() == Nothing()
    assert len({Nothing(), Nothing()}) == 1
    assert repr(Listing(())).startswith("Listing(entries=(), rejected=()")


def test_where_a_rule_stands_is_no_part_of_what_it_is() -> None:
    one, other = Rule(include=True, where="a:1"), Rule(include=True, where="b:2")
    assert one == other
    assert "a:1" not in repr(one)

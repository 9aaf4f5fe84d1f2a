"""Sums of what the records agree with: however they came to be, they are those of what is there now."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.model import join, split
from cluster.store import agreement, rows, schema

parts = st.sampled_from([b"a", b"b", b"a-b", b"\xff"])
paths = st.lists(parts, max_size=4).map(b"/".join)
tokens = st.sampled_from([b"", b"1", b"2"])
steps = st.lists(st.tuples(st.sampled_from(["put", "change", "drop"]), paths, tokens), max_size=25)


def made() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.prepare(connection, "deb")
    return connection


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    made_one = made()
    yield made_one
    made_one.close()


def tell(connection: sqlite3.Connection, **told: bytes) -> None:
    ids = rows.Ids(connection)
    found = {path.encode().replace(b"_", b"/"): token for path, token in told.items()}
    for path in found:
        ids.of(path)
    agreement.put(connection, found)


@settings(max_examples=40)
@given(steps, steps)
def test_the_same_agreements_have_the_same_sum_by_whatever_way(one: list, other: list) -> None:
    sums = []
    for steps in (one, other):
        connection = made()
        ids = rows.Ids(connection)
        for what, path, token in steps:
            if what == "drop" and path:
                agreement.put(connection, {split(path)[0]: b""})
                agreement.forget(connection, path)
                first, beyond = rows.below(path)
                query = "DELETE FROM directories WHERE path = ? OR path >= ? AND path < ?"
                connection.execute(query, (path, first, beyond))
                ids.forget()
            elif what == "change":
                rows.mark_changed(connection, [path])
            else:
                ids.of(path)
                agreement.put(connection, {path: token})
        there = dict(connection.execute("SELECT path, token FROM directories WHERE token IS NOT NULL"))
        sums.append((there, agreement.agreed(connection, b"").sum))
        again = made()
        again_ids = rows.Ids(again)
        for path in there:
            again_ids.of(path)
        agreement.put(again, there)
        for (path,) in again.execute("SELECT path FROM directories").fetchall():
            assert agreement.agreed(connection, path) == agreement.agreed(again, path)
        connection.close()
        again.close()
    assert (sums[0][0] == sums[1][0]) == (sums[0][1] == sums[1][1])


def test_a_directory_tells_its_subdirectories_and_none_to_who_knows_its_sum(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "PAGE", 2)
    tell(connection, d=b"1", d_a=b"1", d_b=b"1", d_c_deep=b"1", d_e=b"", other=b"1")
    found = agreement.agreed(connection, b"d")
    assert ([name for name, _ in found.below], found.more) == ([b"a", b"b"], True)
    rest = agreement.agreed(connection, b"d", after=b"b")
    assert ([name for name, _ in rest.below], rest.more) == ([b"c"], False)
    assert rest.below[0][1] == agreement.agreed(connection, b"d/c").sum
    assert agreement.agreed(connection, b"d/c").own is None
    assert agreement.agreed(connection, b"d", found.sum).below == ()
    assert agreement.agreed(connection, b"nowhere") == agreement.Agreed()


def test_what_has_failed_or_is_missing_or_agrees_with_nothing_is_undecided(
    connection: sqlite3.Connection,
) -> None:
    tell(connection, a=b"1", b=b"1", c=b"1", d=b"1", e=b"")
    ids = rows.Ids(connection)
    connection.execute("INSERT INTO failures VALUES (?, x'66', 'no', 1, 1)", (ids.of(b"a"),))
    connection.execute("INSERT INTO missing VALUES (?, x'66', 1, 1, 1)", (ids.of(b"b"),))
    connection.execute("INSERT INTO suspects VALUES (?, x'66', 'oslo', 1, NULL, NULL, 1)", (ids.of(b"c"),))
    assert set(agreement.undecided(connection, 9)) == {b"", b"a", b"b", b"c", b"e"}
    assert len(agreement.undecided(connection, 3)) == 3


@pytest.mark.parametrize("size", [10, 3000])
def test_a_change_costs_its_depth_and_not_the_size_of_the_tree(
    connection: sqlite3.Connection, size: int
) -> None:
    ids = rows.Ids(connection)
    for number in range(size):
        ids.of(join(b"d%d" % (number % 10), b"%d" % number))
    agreement.put(connection, {path: b"1" for (path,) in connection.execute("SELECT path FROM directories")})
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    agreement.put(connection, {b"d3/3": b"2"})
    connection.set_trace_callback(None)
    assert len(statements) == 1 + 1 + 3 + 3  # found, changed; sums read and written

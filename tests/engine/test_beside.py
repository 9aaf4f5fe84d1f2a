"""Which pieces of a file a sibling has, by the ranges that it told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.engine.beside import _within
from cluster.plan.steal import Piece

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=30)


@given(SIZES, st.lists(st.integers(0, 160), max_size=20))
def test_a_piece_is_there_where_one_range_has_all_of_it(sizes: list[int], cuts: list[int]) -> None:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    pieces = [Piece(b"x", size, start, part=True) for start, size in zip(starts, sizes, strict=True)]
    edges = sorted(set(cuts))
    runs = list(zip(edges[::2], edges[1::2], strict=False))
    there = [p.start for p in pieces if any(a <= p.start and p.stop <= b for a, b in runs)]
    assert _within(pieces, runs) == there

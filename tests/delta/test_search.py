"""What a newer file has of an older one is found, wherever it is; what is found is right."""

import random
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.delta import rolling
from cluster.delta.recipe import Copy, Recipe, blocks_within, joined, total
from cluster.delta.search import Older, Search, Wanted
from cluster.peer import deltawire

CHANCE = random.Random(7)
POOL = CHANCE.randbytes(300_000)


def weak(block: bytes) -> int:
    """As the documents of rsync and zsync define it."""
    a = sum(block)
    b = sum((len(block) - place) * byte for place, byte in enumerate(block))
    return (a & 0xFFFF) << 16 | (b & 0xFFFF)


def made(old: bytes, new: bytes, *sizes: int, roll: bool = True) -> Recipe:
    """A recipe by blocks of these sizes, and the check that it makes the new file."""
    recipe = Recipe(len(new))
    with tempfile.TemporaryFile() as file:
        file.write(old)
        file.flush()
        older = Older(file.fileno(), len(old))
        for size in sizes:
            numbers = blocks_within(recipe.missing(), size, 10**6)
            starts = np.array([n * size for a, b in numbers for n in range(a, b)], np.int64)
            if not len(starts):
                continue
            parts = [new[at : at + size] for at in starts.tolist()]
            sums = np.concatenate([rolling.of_blocks(part, size) for part in parts])
            strong = b"".join(map(deltawire.strong, parts))
            search = Search(older, Wanted(size, starts, sums, strong, deltawire.STRONG, deltawire.strong))
            search.in_place()
            there = search.found >= 0
            recipe.add(starts, search.found, size)
            if roll:
                search.roll(recipe.unused(len(old)))
                recipe.add(starts, np.where(there, -1, search.found), size)
    assert applied(recipe, old, new) == new
    return recipe


def applied(recipe: Recipe, old: bytes, new: bytes) -> bytes:
    out = bytearray(len(new))
    for copy in recipe.copies():
        assert copy.old + copy.size <= len(old)
        out[copy.start : copy.start + copy.size] = old[copy.old : copy.old + copy.size]
    for first, end in recipe.missing():
        out[first:end] = new[first:end]
    assert recipe.copied + total(recipe.missing()) == recipe.size
    return bytes(out)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 40))
def test_the_weak_sum_is_the_same_of_blocks_and_at_offsets(data: bytes, block: int) -> None:
    blocks = [data[at : at + block] for at in range(0, len(data) // block * block, block)]
    assert rolling.of_blocks(data, block).tolist() == [weak(one) for one in blocks]
    every = [weak(data[at : at + block]) for at in range(len(data) - block + 1)]
    assert rolling.at_offsets(data, block).tolist() == every


@pytest.mark.parametrize("block", [512, 65_536])
def test_the_weak_sum_of_the_largest_bytes_does_not_run_over(block: int) -> None:
    data = b"\xff" * (2 * block)
    assert rolling.of_blocks(data, block).tolist() == [weak(data[:block])] * 2
    assert set(rolling.at_offsets(data, block).tolist()) == {weak(data[:block])}


pieces = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 250_000), st.integers(0, 9_000)).map(lambda p: POOL[p[0] : p[0] + p[1]]),
        st.binary(max_size=60),
        st.integers(0, 5_000).map(bytes),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(pieces, pieces)
def test_whatever_two_files_are_the_recipe_makes_the_newer_one(old: list[bytes], new: list[bytes]) -> None:
    made(b"".join(old), b"".join(new), 1024, 64)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 290_000), min_size=1, max_size=8), st.integers(0, 3))
def test_a_few_edits_leave_little_to_fetch(places: list[int], sort: int) -> None:
    new = bytearray(POOL)
    for place in places:
        if sort == 0:
            new[place : place + 100] = CHANCE.randbytes(100)
        elif sort == 1:
            new[place:place] = CHANCE.randbytes(99)
        elif sort == 2:
            del new[place : place + 101]
        else:
            new[place : place + 100] = bytes(7)
    recipe = made(POOL, bytes(new), 4096, 512)
    assert total(recipe.missing()) <= len(places) * (100 + 2 * 512) + 512


def test_what_was_moved_to_another_place_is_found_and_in_place_only_without_rolling() -> None:
    new = POOL[150_000:] + POOL[:150_000]
    assert made(POOL, new, 4096, 512).copied > 298_000
    assert made(POOL, new, 4096, 512, roll=False).copied == 0


def test_many_blocks_that_are_alike_are_found_together() -> None:
    old = POOL[:5_000] + bytes(4096) + POOL[5_000:9_000]
    recipe = made(old, bytes(2**20) + old, 4096, 512)
    assert total(recipe.missing()) < 2_000


def test_made_up_sums_cost_no_more_than_a_bounded_search() -> None:
    """All weak sums are right, no strong one is."""
    old = bytes(2**20)
    starts = np.arange(2_000, dtype=np.int64) * 64
    counted = 0

    def strong(block: bytes | memoryview) -> bytes:
        nonlocal counted
        counted += 1
        return b"\0\0\0\0"

    wanted = Wanted(64, starts, np.zeros(2_000, np.uint32), b"none" * 2_000, 4, strong)
    with tempfile.TemporaryFile() as file:
        file.write(old)
        file.flush()
        search = Search(Older(file.fileno(), len(old)), wanted)
        search.roll([(0, len(old))])
    assert counted < 150_000
    assert (search.found < 0).all()


def test_a_file_that_became_shorter_is_searched_as_far_as_it_goes() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(POOL[:1000])
        file.flush()
        older = Older(file.fileno(), 100_000)
        starts = np.arange(4, dtype=np.int64) * 512
        data = POOL[:2048]
        strong = b"".join(deltawire.strong(data[at : at + 512]) for at in starts.tolist())
        search = Search(older, Wanted(512, starts, rolling.of_blocks(data, 512), strong, 4, deltawire.strong))
        search.in_place()
        search.roll([(0, 100_000)])
    assert search.found.tolist() == [0, -1, -1, -1]


def test_a_search_that_nobody_waits_for_ends() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(POOL)
        file.flush()
        starts = np.arange(10, dtype=np.int64) * 512
        sums = rolling.of_blocks(POOL[: 10 * 512], 512)
        strong = b"".join(deltawire.strong(POOL[at : at + 512]) for at in starts.tolist())
        wanted = Wanted(512, starts, sums, strong, 4, deltawire.strong)
        search = Search(Older(file.fileno(), len(POOL)), wanted, stopped=lambda: True)
        search.in_place()
        search.roll([(0, len(POOL))])
    assert (search.found < 0).all()


def test_copies_that_continue_each_other_are_one() -> None:
    recipe = Recipe(100)
    recipe.add(np.array([20, 0, 10, 60], np.int64), np.array([70, 50, 60, 0], np.int64), 10)
    recipe.add(np.array([30], np.int64), np.array([-1], np.int64), 10)
    assert list(recipe.copies()) == [Copy(0, 50, 30), Copy(60, 0, 10)]
    assert recipe.missing() == [(30, 60), (70, 100)]
    assert recipe.unused(90) == [(10, 50), (80, 90)]


@pytest.mark.parametrize(
    ("gap", "most", "found"),
    [
        (0, 9, [(0, 10), (12, 20), (90, 95)]),
        (2, 9, [(0, 20), (90, 95)]),
        (0, 2, [(0, 20), (90, 95)]),
        (0, 1, [(0, 95)]),
    ],
)
def test_near_ranges_are_asked_for_as_one(gap: int, most: int, found: list[tuple[int, int]]) -> None:
    assert joined([(0, 10), (12, 20), (90, 95)], gap, most) == found
    assert joined([], gap, most) == []


def test_whole_blocks_are_counted_within_ranges() -> None:
    assert blocks_within([(5, 40), (50, 59), (60, 80)], 10, 99) == [(1, 4), (6, 8)]
    assert blocks_within([(0, 100)], 10, 3) == [(0, 3)]

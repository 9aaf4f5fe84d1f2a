"""The control files of zsync: real ones are read, and nothing else."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.delta.control import NotControl, control
from cluster.delta.recipe import Recipe, total
from cluster.delta.search import Older, Search
from tests.delta.controls import made
from tests.servers import program

CHANCE = random.Random(9)
NEW = CHANCE.randbytes(400_001)
OLD = NEW[5:100_000] + CHANCE.randbytes(50) + NEW[100_000:350_000] + bytes(9_000)
MTIME = 1_700_000_000
SHA1 = hashlib.sha1(NEW).hexdigest()
GOOD = made(NEW, MTIME, SHA1)


def found(data: bytes, old: bytes, place: Path) -> Recipe:
    """What a search by this control file finds of NEW, checked."""
    told = control(data)
    wanted = told.wanted()
    place.write_bytes(old)
    recipe = Recipe(told.size)
    with place.open("rb") as file:
        search = Search(Older(file.fileno(), len(old)), wanted)
        search.in_place()
        search.roll([(0, len(old))])
    recipe.add(wanted.starts, search.found, wanted.block)
    for copy in recipe.copies():
        assert old[copy.old : copy.old + copy.size] == NEW[copy.start : copy.start + copy.size]
    return recipe


@pytest.mark.parametrize("block", [None, 512, 4096])
def test_a_control_file_of_zsyncmake_finds_what_the_older_version_has(
    tmp_path: Path, block: int | None
) -> None:
    file = tmp_path / "a.iso"
    file.write_bytes(NEW)
    os.utime(file, (MTIME, MTIME))
    size = [] if block is None else ["-b", str(block)]
    command = [program("zsyncmake"), *size, "-u", "a.iso", "-o", "a.zsync", "a.iso"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    data = (tmp_path / "a.zsync").read_bytes()
    told = control(data)
    assert (told.size, told.mtime, told.sha1.hex()) == (len(NEW), MTIME, SHA1)
    assert total(found(data, OLD, tmp_path / "old").missing()) < 50_001 + 4 * told.block


@pytest.mark.parametrize("lengths", [(1, 4, 16), (1, 3, 5), (2, 3, 3), (2, 2, 5), (1, 2, 8)])
def test_checksums_of_every_length_are_understood(tmp_path: Path, lengths: tuple[int, int, int]) -> None:
    data = made(NEW, MTIME, SHA1, lengths=lengths)
    assert total(found(data, OLD, tmp_path / "old").missing()) < 60_000


def test_made_by_the_tests_is_what_zsyncmake_makes(tmp_path: Path) -> None:
    file = tmp_path / "a.iso"
    file.write_bytes(NEW)
    command = [program("zsyncmake"), "-b", "2048", "-u", "a.iso", "-o", "a.zsync", "a.iso"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    told = control((tmp_path / "a.zsync").read_bytes())
    again = control(made(NEW, MTIME, SHA1, lengths=(1 + told.pairs, told.weak, told.strong)))
    assert again.table == told.table


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"zsync: 0.6.2\n", b""),
        (b"Length: 400001", b"Length: 400000000"),
        (b"Length: 400001", b"Length: 0"),
        (b"Length: 400001", b"Length: -1"),
        (b"Length: 400001", b"Length: 4e5"),
        (b"Blocksize: 2048", b"Blocksize: 2047"),
        (b"Blocksize: 2048", b"Blocksize: 1"),
        (b"Blocksize: 2048", b"Blocksize: 4096"),
        (b"Blocksize: 2048\n", b""),
        (b"Hash-Lengths: 2,2,5", b"Hash-Lengths: 2,2,99"),
        (b"Hash-Lengths: 2,2,5", b"Hash-Lengths: 9,2,5"),
        (b"Hash-Lengths: 2,2,5", b"Hash-Lengths: x"),
        (b"Hash-Lengths: 2,2,5\n", b""),
        (b"SHA-1: ", b"SHA-1: zz"),
        (b"SHA-1: ", b"SHA-1: aa"),
        (b"URL: ", b"Z-URL: a.gz\nURL: "),
        (b"URL: ", b"Length: 400001\nURL: "),
        (b"URL: ", b"no field\nURL: "),
        (b"URL: ", b"Safe: X-1\nX-2: y\nURL: "),
        (b"\n\n", b"\n"),
        (b"MTime: ", b"MTime: never "),
        (b"URL: http", b"URL: " + b"x" * 5000),
        (b"URL: ", b"".join(b"S-%d: y\n" % n for n in range(40)) + b"URL: "),
    ],
)
def test_what_is_not_understood_is_refused(old: bytes, new: bytes) -> None:
    assert old in GOOD
    with pytest.raises(NotControl):
        control(GOOD.replace(old, new, 1))


def test_a_table_of_another_length_is_refused_and_fields_said_to_be_safe_are_not() -> None:
    for data in (GOOD[:-1], GOOD + b"x"):
        with pytest.raises(NotControl):
            control(data)
    assert control(GOOD.replace(b"URL: ", b"Safe: X-1 X-2\nX-1: y\nURL: ")).size == len(NEW)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 300), st.binary(max_size=20))
def test_a_control_file_with_other_bytes_in_it_is_read_or_refused(at: int, other: bytes) -> None:
    data = GOOD[:at] + other + GOOD[at + len(other) :]
    try:
        told = control(data)
    except NotControl:
        return
    assert told.size > 0 and len(told.sha1) == 20
    assert np.frombuffer(told.table, np.uint8).size == -(-told.size // told.block) * (told.weak + told.strong)

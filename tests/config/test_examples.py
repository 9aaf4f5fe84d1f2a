"""The descriptors of the operators' pages are such that `check` accepts them."""

from __future__ import annotations

from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "docs/operators/examples").glob("*.xml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_a_valid_mirror(folder, example):
    folder.write(f"config/mirrors/{example.name}", example.read_bytes())
    folder.write(f"config/mirrors/{example.stem}.password", "guest:secret\n").chmod(0o600)
    mirror = folder.load("kent").mirrors[example.stem]
    assert [origin.url for origin in mirror.origins]


def test_there_is_an_example_of_an_archive_by_ftp_and_by_ftp_with_tls():
    (by_ftp,) = [path for path in EXAMPLES if path.name == "by-ftp.xml"]
    assert b'"ftp://' in by_ftp.read_bytes() and b'"ftps://' in by_ftp.read_bytes()

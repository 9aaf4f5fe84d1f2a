"""A data folder that is not mounted, or another site's, is never taken for an empty one."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from cluster.errors import DataMissing, StoreError
from cluster.store.marker import check_marker
from tests.store.trees import tree_at


def markers(folder: Path) -> tuple[str, str]:
    return str(folder / "data"), str(folder / "state")


def test_the_first_start_marks_both_folders_and_later_ones_recognise_them(tmp_path: Path) -> None:
    (tmp_path / "data/old tree").mkdir(parents=True)  # what another tool mirrored may be there
    identity = check_marker(*markers(tmp_path), "kent")
    assert check_marker(*markers(tmp_path), "kent") == identity
    assert identity in (tmp_path / "data/.sideways/marker").read_text()
    assert os.listdir(tmp_path / "data/.sideways") == ["marker"]
    assert (tmp_path / "data/.sideways").stat().st_mode & 0o777 == 0o700


def test_a_data_folder_without_the_marker_is_missing_and_stays_as_it_is(tmp_path: Path) -> None:
    check_marker(*markers(tmp_path), "kent")
    for left in ("empty", "absent"):
        shutil.rmtree(tmp_path / "data")
        if left == "empty":
            (tmp_path / "data").mkdir()
        with pytest.raises(DataMissing, match="not mounted"):
            tree_at(tmp_path)
        assert left == "absent" or os.listdir(tmp_path / "data") == []


def test_another_sites_data_is_refused_with_and_without_a_state(tmp_path: Path) -> None:
    check_marker(str(tmp_path / "data"), str(tmp_path / "lancaster"), "lancaster")
    with pytest.raises(DataMissing, match="belongs to site lancaster, not to kent"):
        check_marker(*markers(tmp_path), "kent")
    check_marker(str(tmp_path / "other"), str(tmp_path / "state"), "kent")
    with pytest.raises(DataMissing, match="another site's"):
        check_marker(*markers(tmp_path), "kent")


@pytest.mark.parametrize("torn", [False, True])
def test_a_lost_state_gets_the_identity_of_its_data_again(tmp_path: Path, torn: bool) -> None:
    identity = check_marker(*markers(tmp_path), "kent")
    (tmp_path / "state/marker").unlink()
    if torn:
        (tmp_path / "state/marker").touch()
    assert check_marker(*markers(tmp_path), "kent") == identity


def test_two_first_starts_at_once_agree(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        seen: list[str] = []
        threads = [
            threading.Thread(target=lambda: seen.append(check_marker(*markers(folder), "kent")))  # noqa: B023
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 4
        assert len(set(seen)) == 1


def test_an_unusable_folder_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StoreError, match="data"):
        check_marker(*markers(tmp_path), "kent")

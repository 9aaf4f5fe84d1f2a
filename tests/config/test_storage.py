"""`<storage once>` where the disk cannot share blocks."""

import os

import pytest

from cluster.config import advice
from cluster.config.advice import warnings


@pytest.mark.parametrize(
    ("kind", "once", "warned"),
    [("ext4", "reflink", True), ("ext4", "yes", False), ("btrfs", "reflink", False), ("ext4", "no", False)],
)
def test_a_disk_that_shares_no_blocks_is_a_warning(folder, monkeypatch, kind, once, warned):
    folder.site("kent")
    folder.mirror("debian", f'<storage once="{once}"/>')
    monkeypatch.setattr(advice, "_file_system", lambda folder: kind)
    said = [line for line in warnings(folder.load()) if "shares no blocks" in line]
    assert len(said) == warned and all(line.startswith("config/mirrors/debian.xml: ") for line in said)


def test_the_kind_of_a_disk_is_that_of_the_innermost_mount():
    assert advice._file_system("/proc/self") == "proc"
    assert advice._file_system("/") == advice._file_system("/no-such-folder") != "proc"
    if os.path.ismount("/dev/shm"):
        assert advice._file_system("/dev/shm/a b") == "tmpfs"

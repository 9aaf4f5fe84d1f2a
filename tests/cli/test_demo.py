"""The demo leaves nothing behind, whenever it is stopped. `make demo` shows that it plays to its end."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def processes_with(word: str) -> list[str]:
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(word) in line and int(pid) != os.getpid():
            found.append(line.decode(errors="replace"))
    return found


@pytest.mark.parametrize(("number", "after"), [(signal.SIGINT, 0.1), (signal.SIGTERM, 4.0)])
def test_a_demo_that_is_stopped_leaves_no_folder_and_no_process(number, after):
    with tempfile.TemporaryDirectory(prefix="stopped-demo-") as folder:
        demo = subprocess.Popen(
            [sys.executable, "-m", "cluster", "-C", str(REPOSITORY), "demo"],
            env=os.environ | {"TMPDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        end = time.monotonic() + 20
        while not list(Path(folder).glob("*/origin/*")):
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(after)
        demo.send_signal(number)
        said, _ = demo.communicate(timeout=30)
        assert demo.returncode == 1
        assert b"Traceback" not in said
        assert os.listdir(folder) == []
        assert processes_with(folder) == []


def test_a_demo_needs_a_configuration(desk):
    (desk.root / "sites/kent.toml").unlink()
    (desk.root / "sites").rmdir()
    said = desk("demo", "--once", status=2)
    assert said.err == b".: there is no sites/ in it; run the demo in a checkout, or with -C DIR\n"

"""The servers that other tests stand on: they answer, they log, and they leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests import servers


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "hello.txt").write_bytes(b"hello")
    (root / "hello.txt").chmod(0o600)
    return root


@pytest.mark.parametrize("name", ["start_nginx", "start_apache", "start_lighttpd"])
def test_a_web_server_lists_serves_and_logs(name, tree, request):
    server = request.getfixturevalue(name)(tree)
    page = urllib.request.urlopen(server.url).read()
    assert b"hello.txt" in page
    assert b"sub/" in page
    assert urllib.request.urlopen(server.url + "hello.txt").read() == b"hello"
    time.sleep(0.2 if name == "start_lighttpd" else 0)  # it writes its log in batches
    server.stop()  # which writes what is left of the log
    assert servers.Request(200, 5, "GET", "/hello.txt") in server.requests()


def test_nginx_lists_as_json_when_asked(start_nginx, tree):
    server = start_nginx(tree, autoindex_format="json")
    assert urllib.request.urlopen(server.url).headers["Content-Type"].startswith("application/json")


def test_an_rsync_daemon_lists_its_module(start_rsyncd, tree):
    server = start_rsyncd(tree)
    out = subprocess.run(["rsync", "--list-only", server.url], capture_output=True, check=True).stdout
    assert b"hello.txt" in out


def test_a_stopped_server_is_gone_with_its_folder(tree):
    with servers.nginx(tree) as server:
        folder = server.folder
    assert not folder.exists()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(server.url)


def test_a_server_ends_with_the_test_process(tree, tmp_path):
    script = (
        "import os, sys, pathlib; from tests import servers\n"
        f"c = servers.nginx(pathlib.Path({str(tree)!r})); s = c.__enter__()\n"
        "print(s.port, s.folder, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, cwd=Path(__file__).parent.parent, check=False
    )
    port, folder = done.stdout.decode().split()
    try:
        deadline = time.monotonic() + 5
        while servers.answers(int(port)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not servers.answers(int(port))
    finally:
        servers.shutil.rmtree(folder)


def test_a_missing_program_says_what_to_do():
    with pytest.raises(pytest.fail.Exception, match="nosuchd: not installed; run make setup"):
        servers.program("nosuchd")


def test_what_killed_tests_left_is_removed_after_a_day_and_nothing_else(tmp_path):
    now = time.time()
    ages = {
        "sideways-server-a": 90_000,
        "sideways-server-b": 80_000,
        "sideways-demo-c": 90_000,
        "mine": 90_000,
    }
    for name, age in ages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        os.utime(tmp_path / name, (now - age, now - age))
    (tmp_path / "sideways-server-link").symlink_to(tmp_path / "mine")
    servers.sweep(tmp_path, now)
    left = {"sideways-server-b", "sideways-demo-c", "mine", "sideways-server-link"}
    assert {path.name for path in tmp_path.iterdir()} == left

"""Every command with good and bad words, as an operator types them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers import free_port

CONTRACT = {"mirror", "site", "outcome", "files", "bytes", "requests", "directories", "seconds"}
REPOSITORY = Path(__file__).parents[2]
PASS = ("pass", "--site", "kent", "m")


@pytest.fixture
def full(desk):
    """An origin with names that are no text, begin with a dash, or would colour a terminal."""
    for name in (b"a.txt", b"caf\xe9", b"\x1b[31mred", b"-n", b"100%41"):
        Path(os.fsdecode(os.path.join(os.fsencode(desk.source), name))).write_bytes(b"x")
    (desk.source / "-dir").mkdir()
    (desk.source / "-dir" / "inside").write_bytes(b"yy")
    desk.site("[peer]\nurl = 'https://127.0.0.1:9'\nlisten = '127.0.0.1:9'\ncertificate = 'kent.pem'")
    return desk


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((b"nonsense",), b"No such command 'nonsense'."),
        ((b"no\x1b[1m",), rb"No such command 'no\x1b[1m'."),
        ((b"pass", b"m"), b"Missing option '--site'."),
        ((b"pass", b"--site", b"kent"), b"Missing argument 'MIRROR'."),
        ((b"pass", b"--site", b"kent", b"x"), b"x: no mirror of kent; there are: m"),
        ((b"pass", b"--site", b"kent", b"\xff\x1b[1m"), rb"\xff\x1b[1m: no mirror of kent; there are: m"),
        ((b"pass", b"--site", b"kent", b"--", b"-x"), b"-x: no mirror of kent; there are: m"),
        ((b"pass", b"--site", b"oslo", b"m"), b"'oslo': no such site; allowed: kent"),
        ((b"run", b"--site", b"\xff"), rb"'\udcff': no such site; allowed: kent"),
        ((b"pass", b"--site", b"kent", b"m", b"../x"), b"'..': not a plain file name"),
        ((b"status", b"--site", b"kent", b"m", b"%2e%2e"), b"'..': not a plain file name"),
        ((b"check", b"--show", b"x"), b"x: no such mirror; there are: m"),
        ((b"journal", b"--site", b"kent", b"m", b"--after", b"-1"), None),
        ((b"journal", b"--site", b"kent", b"m", b"--after", b"9" * 20), None),
        (
            (b"deletions", b"--site", b"kent", b"m", b"--approve", b"\x1b"),
            rb"\x1b: a plan's hash is 64 hexadecimal digits",
        ),
        ((b"pause", b"--site", b"kent", b"m", b"--origin", b"x"), None),
        ((b"list", b"rubbish"), None),
        ((b"list", b"http://\x1b[1m/"), None),
        ((b"keys", b"--site", b"kent"), None),
    ],
)
def test_bad_words_are_one_line_and_exit_2(desk, words, line):
    said = desk(*words, status=2)
    assert said.out == b""
    assert said.err.count(b"\n") == 1
    assert line is None or said.err == line + b"\n"
    assert list((desk.root / "state").iterdir()) == list((desk.root / "data").iterdir()) == []


def test_a_pass_and_what_is_seen_of_it(full):
    result = full(*PASS, "--json").json()
    assert result.keys() >= CONTRACT
    assert result["files"] == dict.fromkeys(result["files"], 0) | {"origin": 6}
    assert result["bytes"] == {"origin": 7, "sideways": 0, "listings": 0}
    assert {p.name for p in (full.root / "data/m").iterdir()} == {p.name for p in full.source.iterdir()}

    entries = full("status", "--site", "kent", "m", "--json").json()["entries"]
    assert {e["href"] for e in entries} == {"a.txt", "caf%E9", "%1B%5B31mred", "-n", "100%2541", "-dir"}
    inside = full("status", "--site", "kent", "--json", "--", "m", "-dir").json()
    assert [e["name"] for e in inside["entries"]] == ["inside"]
    records = full("journal", "--site", "kent", "m", "--json").json()["records"]
    assert [r["seq"] for r in records] == [1, 2, 3, 4, 5, 6, 7]
    assert len(full("journal", "--site", "kent", "m", "--after", "5").out.splitlines()) == 2
    assert rb"caf\xe9" in full("status", "--site", "kent", "m").out
    (row,) = full("status", "--site", "kent", "--json").json()["mirrors"]
    assert (row["freshness"], row["files"], row["bytes"]) == ("fresh", 6, 7)
    assert full("list", f"file://{full.source}", "--json").json()["entries"][0]["href"] == "%1B%5B31mred"


def test_a_dry_run_prints_the_plan_and_changes_nothing(full):
    assert b" a.txt" in full(*PASS, "--dry-run").out
    planned = full(*PASS, "--dry-run", "--json").json()["planned"]
    assert {p["href"] for p in planned} >= {"a.txt", "caf%E9", "-dir/inside"}
    assert list((full.root / "data").iterdir()) == []
    assert [p.name for p in (full.root / "state").iterdir()] == []


def test_a_key_is_made_once(full):
    assert b"SHA-256" in full("keys", "--site", "kent").out
    key = (full.root / "state/peer.key").read_bytes()
    said = full("keys", "--site", "kent", status=2)
    assert said.err.endswith(b"so it is not replaced; `--rotate` makes a new one\n")
    assert (full.root / "state/peer.key").read_bytes() == key
    full("keys", "--site", "kent", "--rotate")
    assert (full.root / "state/peer.key").read_bytes() != key


def test_invalid_files_are_named_with_their_lines_and_nothing_is_begun(full):
    full.mirror("m", '<limits conections="4"/>\n<orign/>')
    (full.root / "config/mirrors/n.xml").write_text("<miror/>")
    lines = [
        b"config/mirrors/m.xml:5: <limits conections>: no such attribute; did you mean connections?",
        b"config/mirrors/m.xml:6: <orign>: no such element; did you mean <origin>?",
        b"config/mirrors/n.xml:1: <miror>: a descriptor is one <mirror>, without a namespace",
    ]
    for words in (("check",), PASS):
        assert full(*words, status=2).err.splitlines() == lines
    assert full("check", "--json", status=2).json() == {"errors": [line.decode() for line in lines]}
    assert list((full.root / "data").iterdir()) == []


def test_two_mirrors_with_one_path_are_refused(desk):
    desk.mirror("n", path="m")
    said = desk("check", status=2)
    assert said.err == (
        b"config/mirrors/n.xml:2: <path>: /m is the same as /m of mirror m (config/mirrors/m.xml:2)\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--site", "kent", "m"),
        ("journal", "--site", "kent", "m"),
        ("deletions", "--site", "kent", "m"),
        ("push", "--site", "kent", "m"),
        ("pause", "--site", "kent", "m"),
        ("resume", "--site", "kent", "m"),
        ("list", "file:///no/such"),
        ("list", "http://127.0.0.1:9/"),
        (*PASS, "--log", "/no/such/log"),
    ],
)
def test_what_cannot_be_done_now_is_one_line_and_exit_1(desk, words):
    said = desk(*words, status=1)
    assert said.out == b""
    assert said.err.count(b"\n") == 1


@pytest.mark.parametrize("records", [b"this is no data base", b""])
def test_records_that_cannot_be_read_are_one_line(desk, records):
    (desk.root / "state/m.db").write_bytes(records)
    assert desk("status", "--site", "kent", "m", status=1).err.count(b"\n") == 1
    assert b"\nm       unreadable  " in desk("status", "--site", "kent").out
    daemon = desk.run()
    daemon.terminate()
    assert daemon.wait(10) == 0


@pytest.mark.parametrize("folder", ["data", "state"])
def test_a_folder_that_is_missing_is_not_made_for_it_may_be_a_disk_that_is_not_mounted(desk, folder):
    (desk.root / folder).rmdir()
    said = desk(*PASS, status=2)
    line = f"kent: {desk.root / folder}: no such folder; make it, owned by the daemon's user\n"
    assert said.err.decode() == line
    assert not (desk.root / folder).exists()


def test_a_pass_says_which_siblings_it_could_not_read_from(full):
    port = free_port()
    peer = "[peer]\nurl = 'https://127.0.0.1:{0}'\nlisten = '127.0.0.1:{0}'\ncertificate = '{1}.pem'"
    full.site(peer.format(free_port(), "kent"))
    full.site(peer.format(port, "oslo") + "\n", name="oslo")
    (full.root / "sites/oslo.toml").write_text(
        (full.root / "sites/oslo.toml").read_text().replace("../data", "../d2").replace("../state", "../s2")
    )
    for site in ("kent", "oslo"):
        full("keys", "--site", site)
    said = full(*PASS, "--json").json()
    assert said["notes"] == [f"oslo: not read from: cannot connect to 127.0.0.1:{port}: Connection refused"]


def test_what_failed_below_is_seen_from_above(desk):
    for name in ("a", "b", "c"):
        (desk.source / "sub" / "deep" / name).mkdir(parents=True)
    desk.mirror("m", '<limits directory-entries="2"/>')
    desk(*PASS, status=1)
    failed = desk("status", "--site", "kent", "m", "--json").json()["failures_below"]
    assert [one["href"] for one in failed] == ["sub/deep"]
    assert b"\n  failed    sub/deep: " in desk("status", "--site", "kent", "m", "sub").out


def test_a_pass_that_a_full_disk_cut_off_does_not_look_like_none(desk):
    (desk.source / "large").write_bytes(bytes(100))
    desk(*PASS)
    assert desk("status", "--site", "kent").out.splitlines()[1].split()[-2:] == [b"complete", b"0"]
    site = desk.root / "sites/kent.toml"
    site.write_text(site.read_text().replace("reserve = 0", 'reserve = "9000TB"'))
    (desk.source / "more").write_bytes(bytes(9_000_000))
    said = desk(*PASS, status=1)
    assert b"are kept in reserve" in said.err
    _, row, why, *_ = desk("status", "--site", "kent").out.splitlines()
    assert row.split()[-3:] == [b"not", b"ended", b"0"]
    assert why.split(b": ", 1)[0].strip() == b"why" and b"are kept in reserve" in why
    (facts,) = desk("status", "--site", "kent", "--json").json()["mirrors"]
    assert "are kept in reserve" in facts["reason"] and facts["unfinished"]
    assert b"\n  why: " in desk("status", "--site", "kent", "m").out
    site.write_text(site.read_text().replace('"9000TB"', "0"))
    desk(*PASS)
    (facts,) = desk("status", "--site", "kent", "--json").json()["mirrors"]
    assert (facts["outcome"], facts["reason"], facts["unfinished"]) == ("complete", "", None)


def test_why_a_pass_could_not_even_begin_is_in_the_status(desk):
    (desk.source / "a").write_bytes(b"1")
    desk(*PASS)
    (desk.root / "data/.sideways/marker").rename(desk.root / "unmounted")
    said = desk(*PASS, status=1)
    (facts,) = desk("status", "--site", "kent", "--json").json()["mirrors"]
    assert facts["outcome"] == "failed" and facts["reason"] == said.err.decode().strip()
    assert facts["freshness"] == "fresh", "what was compared before is no less so"
    (desk.root / "unmounted").rename(desk.root / "data/.sideways/marker")
    desk.mirror("m", origin="http://127.0.0.1:9/")
    assert desk(*PASS, "--json", status=1).json()["outcome"] == "failed"
    (facts,) = desk("status", "--site", "kent", "--json").json()["mirrors"]
    assert facts["reason"].startswith("http://127.0.0.1:9/: ") and "\n" not in facts["reason"]


def test_a_clock_that_ran_ahead_and_was_set_right_leaves_no_fresh_future(full):
    """The records of a pass in the year 2100 are made by a clock that says so."""
    moved = "import sys, time_machine\nfrom cluster.cli import main\n"
    moved += "with time_machine.travel('2100-01-01 00:00 +0000'):\n    main()\n"
    words = [sys.executable, "-c", moved, *PASS]
    subprocess.run(words, cwd=full.root, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, check=True)
    full.mirror("m", '<delete sightings="1"/>', schedule='every="1h"')
    (row,) = full("status", "--site", "kent", "--json").json()["mirrors"]
    assert row["freshness"] == "error"
    full(*PASS)
    (row,) = full("status", "--site", "kent", "--json").json()["mirrors"]
    assert row["freshness"] == "fresh"
    assert row["complete"] <= time.time()


def test_a_held_deletion_is_approved_by_its_hash(full):
    full.mirror(
        "m",
        '<delete hold-files="1" hold-share="1%" sightings="1" grace="0s" emptied-after="0s"/>',
    )
    full(*PASS)
    for name in ("a.txt", "-n", "100%41"):
        (full.source / name).unlink()
    assert full(*PASS, "--json", status=3).json()["outcome"] == "held"
    shown = full("deletions", "--site", "kent", "m", "--json", status=3).json()["held"]
    assert (shown["files"], {one["href"] for one in shown["sample"]}) == (3, {"a.txt", "-n", "100%2541"})
    full("deletions", "--site", "kent", "m", "--approve", "0" * 64, status=2)
    assert (full.root / "data/m/a.txt").exists()
    full("deletions", "--site", "kent", "m", "--approve", shown["hash"])
    assert not (full.root / "data/m/a.txt").exists()
    full("deletions", "--site", "kent", "m")


def test_an_older_state_is_held_and_approved_by_its_hash(desk):
    def made(day: int) -> None:
        listed = b""
        (desk.source / "Packages").write_bytes(listed)
        (desk.source / "Release").write_text(
            f"Date: Tue, {day} Nov 2023 00:00:00 UTC\n"
            f"SHA256:\n {hashlib.sha256(listed).hexdigest()} {len(listed)} Packages\n"
        )

    desk.mirror("m", '<repository type="apt"/>')
    made(14)
    desk(*PASS)
    shown = desk("repositories", "--site", "kent", "m", "--json").json()["repositories"]
    assert [(one["root"], one["held"]) for one in shown] == [("Release", None)]
    made(7)
    desk(*PASS, status=1)
    said = desk("repositories", "--site", "kent", "m", status=3).out.decode()
    command = said.splitlines()[-1].removeprefix("approve with: sideways ").split()
    wrong = desk("repositories", "--site", "kent", "m", "--approve", "0" * 64, status=2)
    assert command[-1].encode() in wrong.err
    desk("repositories", "--site", "kent", "m", "--approve", "junk", status=2)
    assert b"Release: the next pass" in desk(*command).out
    desk(*PASS)
    assert "7 Nov" in (desk.root / "data/m/Release").read_text()
    desk("repositories", "--site", "kent", "m")


def test_the_second_at_one_mirror_says_who_holds_it(desk):
    (desk.source / "a").write_text("a")
    desk(*PASS)
    with open(desk.root / "state/m.lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(b"process 7 (somebody)\n")
        lock.flush()
        said = desk(*PASS, status=1)
    assert said.err == b"m: in use by process 7 (somebody)\n"


def test_a_daemon_does_the_pass_and_ends_within_seconds(full):
    daemon = full.run()
    assert full(*PASS, "--json").json()["outcome"] == "complete"
    assert full("push", "--site", "kent", "m").out == b"m: a pass over everything is due now\n"
    full("pause", "--site", "kent", "m")
    assert full(*PASS, status=1).err == b"m: paused; `sideways resume --site kent m` first\n"
    full("resume", "--site", "kent", "m")
    assert b"another daemon of this site answers here" in full("run", "--site", "kent", status=1).err
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(10) == 0
    assert not (full.root / "state/control.sock").exists()


def test_a_daemon_that_was_killed_starts_again(full):
    full.run().kill()
    full.daemons[0].wait()
    assert full(*PASS).status == 0  # its socket is still there, and nobody answers
    (full.root / "state/control.sock").unlink()
    full.run()
    assert full(*PASS, "--json").json()["files"]["unchanged"] == 6

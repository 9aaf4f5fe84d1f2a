"""The bench measures what it says: right trees, counts and verdicts. No test here depends on time."""

from __future__ import annotations

import os
import re
import socket
import stat
import sys
from pathlib import Path

import pytest

from cluster.config.load import load
from tests import servers
from tests.bench import __main__ as bench
from tests.bench import beside, peers, sites, spread, trees, volumes
from tests.bench.link import link
from tests.bench.measure import Asked, Bench, Run, Unusable, asked, require_copy, snapshot, timed
from tests.bench.table import Table, Verdict

SCALE = "0.01"


def a_run(wall: float) -> Run:
    return Run(wall, 0.0, 0, "")


# -- the whole of it, small


def test_tables_1_and_2_are_measured_printed_and_written(tmp_path, capsys):
    file = tmp_path / "benchmarks.md"
    bench.main(
        ["--only", "1,2", "--scale", SCALE, "--rounds", "1", "--work", str(tmp_path), "--write", str(file)]
    )
    printed = capsys.readouterr().out
    assert "not measured" not in printed
    tree = trees.made("T1", float(SCALE), tmp_path / "trees")
    for name in ("sideways pass", "sideways pass, daemon up", *peers.found()):
        assert f"| {name} " in printed
    assert cells(printed, 1, "sideways pass")["file MB sent"] == f"{tree.bytes / 1e6:.1f}"
    for contestant in ("sideways pass", "sideways pass, daemon up"):
        assert cells(printed, 2, contestant)["requests"] == str(tree.directories)
        assert f"{contestant}: requests for each directory: 1, limit 1: holds" in printed
        assert f"{contestant}: file bodies asked for: 0, limit 0: holds" in printed
        assert f"{contestant}: rounds that wrote in the tree: 0, limit 0: holds" in printed
    assert "ours / lftp" in printed
    assert [int(n) for n in re.findall(r"^## (\d)", file.read_text(), re.MULTILINE)] == [1, 2]
    assert not (tmp_path / "run").exists()


def test_table_7_is_measured_in_memory_beside_a_sibling_that_is_far(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(beside, "CASES", beside.CASES[1:3])
    bench.main(["--only", "7", "--scale", "0.003", "--rounds", "1", "--work", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "not measured" not in printed
    assert re.search(r"^\| T1, \S.*, 40 ms +\| sideways pass .*\| 0\.0 ", printed, re.MULTILINE)
    assert printed.count("| rsync -a, sync -f ") == 2
    assert printed.count("| rsync -a --fsync ") == 1


def test_table_9_is_measured_beside_rsync_and_zsync(tmp_path, capsys):
    assert bench.main(["--only", "9", "--scale", "0.01", "--work", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "not measured" not in printed
    for who in ("ours", "rsync", "rsync -z", "ours, .zsync", "zsync"):
        assert re.search(rf"^\| image .*\| {re.escape(who)} +\|", printed, re.MULTILINE)


def cells(printed: str, number: int, first: str) -> dict[str, str]:
    """The row of table `number` that begins with `first`, by column."""
    section = printed[printed.index(f"## {number}. ") :]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    head, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return next(dict(zip(head, row, strict=True)) for row in rows if row[0] == first)


# -- trees


@pytest.mark.parametrize("name", sorted(trees.GENERATORS))
def test_a_tree_is_the_same_wherever_it_is_made(name, tmp_path):
    one, other = (trees.made(name, 0.002, tmp_path / part) for part in ("one", "other"))
    require_copy("other", one, other.root)
    times = [sorted((p[len(str(t.root)) :], s[2]) for p, s in snapshot(t.root).items()) for t in (one, other)]
    assert times[0] == times[1]
    assert one.files > 3


def test_the_small_files_are_as_many_as_the_table_says(tmp_path):
    tree = trees.made("T1", 0.04, tmp_path)
    assert (tree.files, tree.directories) == (4 * 4 * 50, 1 + 4 + 4 * 4)
    assert 4 * 4 * 50 * 1024 <= tree.bytes <= 4 * 4 * 50 * 16384


def test_the_archive_has_symbolic_and_hard_links(tmp_path):
    tree = trees.made("T2", 0.02, tmp_path)
    seen = [os.lstat(path) for path in snapshot(tree.root)]
    assert any(os.path.islink(path) for path in snapshot(tree.root))
    assert any(at.st_nlink == 2 for at in seen if not stat.S_ISDIR(at.st_mode))


def test_a_half_made_tree_is_made_again(tmp_path):
    whole = trees.made("T4", 0.002, tmp_path)
    partial = whole.root.with_name(whole.root.name + ".partial")
    whole.root.rename(partial)
    next(partial.iterdir()).unlink()
    assert trees.made("T4", 0.002, tmp_path) == whole


# -- measuring


def test_a_run_tells_time_processor_memory_and_output():
    work = "x = bytearray(60_000_000); [i * i for i in range(1_000_000)]"
    code = f"import time; {work}; time.sleep(0.2); print('hi')"
    run = timed("one", [sys.executable, "-c", code], ["sleep", "0.1"])
    assert run.out == "hi\n"
    assert 0.3 <= run.wall < 10
    assert 0.02 < run.cpu < run.wall
    assert 60e6 < run.peak < 120e6


def test_memory_of_a_run_is_not_that_of_the_bench():
    ballast = bytearray(200_000_000)
    assert timed("true", ["true"]).peak < 30e6
    assert len(ballast)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sh", "-c", "echo first >&2; echo no such host >&2; exit 7"], "x: exit 7: no such host"),
        (["false"], "x: exit 1: and said nothing"),
        (["sh", "-c", "kill -9 $$"], "x: exit -9: and said nothing"),
    ],
)
def test_a_contestant_that_fails_has_no_time(command, said):
    with pytest.raises(Unusable, match=re.escape(said)):
        timed("x", command, ["true"])


def test_the_first_failure_ends_the_commands(tmp_path):
    with pytest.raises(Unusable):
        timed("x", ["false"], ["touch", str(tmp_path / "later")])
    assert not (tmp_path / "later").exists()


def test_what_the_origin_sent_is_counted_from_its_log(start_nginx, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"x" * 1000)
    nginx = start_nginx(tmp_path)
    fetch = ["curl", "-sf", "-o", "/dev/null", f"{nginx.url}sub/file"]
    timed("curl", ["curl", "-sf", "-o", "/dev/null", nginx.url], fetch, fetch, [*fetch, "-I"])
    assert asked(nginx) == Asked(requests=4, listings=1, bodies=2, file_bytes=2000)
    assert asked(nginx).requests == 0


def test_a_wrong_copy_is_noticed(tmp_path):
    tree = trees.made("T4", 0.0003, tmp_path / "trees")
    copy = tmp_path / "copy"
    files = sorted(tree.root.iterdir())

    def copied() -> None:
        copy.mkdir(exist_ok=True)
        for file in files:
            (copy / file.name).write_bytes(file.read_bytes())

    copied()
    require_copy("x", tree, copy)
    for harm in (
        lambda file: file.unlink(),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(b"?" + file.read_bytes()[1:]),
    ):
        harm(copy / files[0].name)
        with pytest.raises(Unusable, match=f"x: {files[0].name}: missing or different"):
            require_copy("x", tree, copy)
        copied()
    (copy / "more").touch()
    require_copy("x", tree, copy, exact=False)
    with pytest.raises(Unusable, match=f"the copy has {len(files) + 1} files"):
        require_copy("x", tree, copy)


def test_a_snapshot_sees_a_file_that_is_written_again(tmp_path):
    (tmp_path / "file").write_bytes(b"same")
    at = os.stat(tmp_path / "file").st_mtime_ns
    before = snapshot(tmp_path)
    assert snapshot(tmp_path) == before
    (tmp_path / "file").write_bytes(b"same")
    os.utime(tmp_path / "file", ns=(at, at))
    assert snapshot(tmp_path) != before


def test_a_mute_sibling_accepts_and_is_silent():
    port = servers.free_port()
    with sites.mute(port), socket.create_connection(("127.0.0.1", port), timeout=5) as caller:
        caller.sendall(b"hello")
        caller.settimeout(0.1)
        with pytest.raises(TimeoutError):
            caller.recv(1)


def test_a_link_leads_to_each_port_late_and_not_faster_than_its_rate(start_nginx, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"x" * 300_000)
    ports = [start_nginx(tmp_path / name).port for name in ("one", "other")]
    with link(ports, 0.05, 1e6) as led:
        urls = [f"http://127.0.0.1:{port}/{name}" for port, name in zip(led, ("one", "other"), strict=True)]
        run = timed(
            "curl", *(["curl", "-sf", "-w", "%{size_download} ", "-o", "/dev/null", url] for url in urls)
        )
    assert run.out == "300000 300000 "
    assert run.wall > 0.5 + 0.4  # the bytes but for a burst each, and two round trips for each request


def test_a_site_behind_links_reaches_its_origin_and_siblings_there(tmp_path):
    one, other = sites.cluster(tmp_path, "http://127.0.0.1:9/", ["forward", "backward"])
    there = sites.behind(one, 10, {"site2": 11})
    seen = load(str(there.configuration), "site1")
    assert seen.mirrors[sites.MIRROR].origins[0].url == "http://127.0.0.1:10/"
    assert seen.sites["site2"].peer.url == "https://127.0.0.1:11"
    assert sites.peer_port(there) == sites.peer_port(one)
    assert (
        load(str(other.configuration)).sites["site2"].peer.url
        == f"https://127.0.0.1:{sites.peer_port(other)}"
    )


@pytest.mark.parametrize("volume", [volumes.tmpfs, volumes.disk])
def test_a_volume_is_a_place_to_work_in_and_gone_afterwards(volume, tmp_path):
    at = Bench(tmp_path)
    with volume(at, 64e6) as (name, there):
        (there.fresh("copy") / "file").write_bytes(b"x" * 1_000_000)
        work = there.work
        assert name
    assert not (work / "run" / "copy").exists() or work == tmp_path
    with volume(at, 1e18) as (_, there):
        assert there is at


def test_sites_work_together_with_keys_or_alone_without(tmp_path):
    together = sites.cluster(tmp_path / "a", "http://127.0.0.1:9/", ["forward", "backward"])
    alone = sites.cluster(tmp_path / "b", "http://127.0.0.1:9/", ["forward"], together=False)
    for place, order in zip(together, ("forward", "backward"), strict=True):
        assert load(str(place.configuration), place.name).mirrors[sites.MIRROR].order.value == order
    assert sites.peer_port(together[0]) != sites.peer_port(together[1])
    assert load(str(alone[0].configuration)).sites["site1"].peer is None


# -- verdicts and the file


@pytest.mark.parametrize(
    ("found", "holds"), [(0.9, True), (1.0, True), (1.001, False), (float("inf"), False)]
)
def test_a_limit_holds_up_to_itself(found, holds):
    verdict = Verdict("time", found, 1.0)
    assert verdict.holds is holds
    assert str(verdict).endswith("holds" if holds else "**MISSED**")


def test_a_missed_limit_and_a_failure_are_the_exit_status(tmp_path, monkeypatch, capsys):
    def missed(_bench: Bench, table: Table) -> None:
        table.verdicts.append(Verdict("time", 2, 1))

    def broken(_bench: Bench, _table: Table) -> None:
        raise Unusable("lftp: exit 1: no route")

    def kept(_bench: Bench, table: Table) -> None:
        table.verdicts.append(Verdict("time", 1, 1))

    for fill, status in ((missed, 1), (broken, 1), (kept, 0)):
        monkeypatch.setitem(bench.TABLES, 6, ("Siblings", fill))
        assert bench.main(["--only", "6", "--scale", "0.01", "--work", str(tmp_path)]) == status
    assert "**not measured**: lftp: exit 1: no route" in capsys.readouterr().out


def test_writing_replaces_the_tables_of_this_run_and_keeps_others(tmp_path):
    file, about = tmp_path / "b.md", "today."
    at = Bench(tmp_path)
    bench._write(file, about, at, [Table(2, "Two", "old two"), Table(6, "Six", "old six")])
    file.write_text(file.read_text().replace("# Benchmarks\n", "# Benchmarks\n\nHow to read them.\n"))
    bench._write(file, about, at, [Table(1, "One", "new one"), Table(2, "Two", "new two")])
    text = file.read_text()
    assert re.findall(r"^## (\d)", text, re.MULTILINE) == ["1", "2", "6"]
    assert "How to read them." in text
    assert "new two" in text
    assert "old six" in text
    assert "old two" not in text
    bench._write(file, about, at, [Table(1, "One", "new one"), Table(2, "Two", "new two")])
    assert file.read_text() == text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--only", "99"],
        ["--only", "x"],
        ["--rounds", "0"],
        ["--scale", "0"],
        ["--scale", "x"],
        ["--sites", "1,2"],
        ["--trees", "T1,T9"],
    ],
)
def test_a_wrong_argument_is_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        bench.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("python -m tests.bench: error: ")


def test_tables_of_several_trees_need_less_disk_without_the_largest():
    needed = [bench._needed(12, Bench(Path(), sites=(4,), trees=trees)) for trees in (("T1",), ("T1", "T3"))]
    assert needed[0] < 5e9 < needed[1]


def test_a_full_disk_is_said_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench.shutil, "disk_usage", lambda _: bench.shutil._ntuple_diskusage(10, 9, 1e9))
    assert bench.main(["--only", "3", "--work", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path}: 1.0 GB free, these tables need 9.0 GB; see --work and --scale\n"
    )
    assert not (tmp_path / "trees").exists()


# -- how soon a published file is everywhere


def test_table_11_waits_until_every_site_has_each_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(spread, "COUNT", 2)
    monkeypatch.setattr(spread, "PUBLISHED", 3)
    monkeypatch.setattr(spread, "EVERYWHERE", 1000.0)
    assert bench.main(["--only", "11", "--scale", SCALE, "--work", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert float(cells(printed, 11, "to all of them")["longest s"]) > 0
    assert "push to all sites, 95 %" in printed


@pytest.mark.parametrize(("part", "least"), [(0.0, 1), (0.5, 10), (0.95, 19), (0.96, 20), (1.0, 20)])
def test_a_share_of_times_is_not_exceeded_by_that_many(part, least):
    assert spread.share(list(range(20, 0, -1)), part) == least

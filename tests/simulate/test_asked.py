"""What an operator types, what the configuration says, and what is shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.cli import cli
from cluster.errors import ConfigErrors, UsageError
from cluster.model import Order
from cluster.simulate.asked import Asked, counts, scenarios
from cluster.simulate.scenario import Cut, Share, Tells
from cluster.simulate.show import table_head, table_row
from cluster.simulate.table import Cell

SMALL = ("--files", "40", "--bytes", "400MB", "--largest", "20%")


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    (tmp_path / "config/mirrors").mkdir(parents=True)
    (tmp_path / "sites").mkdir()
    (tmp_path / "config/cluster.toml").write_text('name = "test"\n')
    for name in ("kent", "lima", "oslo"):
        more = '[mirrors.gnu.limits]\nconnections = 9\nbandwidth = "3MB/s"\n' if name == "oslo" else ""
        (tmp_path / f"sites/{name}.toml").write_text(
            f'name = "{name}"\ndata = "../data-{name}"\nstate = "../state-{name}"\n{more}'
        )
    (tmp_path / "config/mirrors/gnu.xml").write_text(
        '<mirror name="gnu"><path>/pub/gnu</path><origin url="http://ftp.example.org/gnu/"/>'
        '<walk order="shuffled"/><limits connections="2"/><sideways patience="9s"/>'
        '<sites><site name="kent"/><site name="oslo"/></sites></mirror>'
    )
    (tmp_path / "data-oslo/pub/gnu/b").mkdir(parents=True)
    (tmp_path / "data-oslo/pub/gnu/b/f").write_bytes(b"x" * 70)
    (tmp_path / "data-oslo/pub/gnu/a").write_bytes(b"x" * 30)
    (tmp_path / "data-oslo/pub/gnu/link").symlink_to("a")
    return tmp_path


def one(folder: Path | str = "/nonexistent", **asked):
    (found,) = scenarios(str(folder), Asked(**{"files": 40, "largest": "20%", **asked}))
    return found


def test_a_mirror_brings_its_sites_with_what_each_says_of_it(configured):
    found = one(configured, mirror="gnu")
    assert [(m.name, m.slots, m.limit) for m in found.members] == [("kent", 2, None), ("oslo", 9, 3e6)]
    assert found.orders == (Order.SHUFFLED, Order.SHUFFLED)
    assert found.patience == 9.0


def test_of_limits_that_all_share_each_site_has_its_fair_share(configured):
    descriptor = configured / "config/mirrors/gnu.xml"
    limits = '<limits connections="5" bandwidth="8MB/s" shared="yes"/>'
    descriptor.write_text(descriptor.read_text().replace('<limits connections="2"/>', limits))
    (configured / "sites/oslo.toml").write_text('name = "oslo"\ndata = "../a"\nstate = "../b"\n')
    found = one(configured, mirror="gnu")
    assert [(m.name, m.slots, m.limit) for m in found.members] == [("kent", 3, 4e6), ("oslo", 2, 4e6)]


def test_options_have_the_last_word(configured):
    found = one(configured, mirror="gnu", slots=5, orders=("backward",), patience="2m", sites="kent,rome")
    assert [(m.name, m.slots) for m in found.members] == [("kent", 5), ("rome", 5)]
    assert (found.orders, found.patience) == ((Order.BACKWARD,), 120.0)


def test_without_a_mirror_all_sites_of_the_configuration_take_part(configured):
    assert [m.name for m in one(configured).members] == ["kent", "lima", "oslo"]


def test_without_a_configuration_there_are_four_sites():
    assert len(one().members) == 4


def test_the_tree_may_be_what_a_site_holds_or_any_folder(configured):
    files = ((b"a", 30), (b"b/f", 70))
    assert one(configured, mirror="gnu", held="oslo").files == files
    assert one(tree=str(configured / "data-oslo/pub/gnu")).files == files


def test_every_option_reaches_the_scenario():
    found = one(
        sites="a,b,c",
        origin="2Gbit/s",
        links=("b:8Mbit/s:16Mbit/s", "c:10MB/s"),
        connection="5MB/s",
        latency="0.1s",
        share="file",
        tells="held",
        every="30s",
        stealing=False,
        ranges=False,
        spread="60s",
        dies=("a:30%", "c:50%:10m"),
        cuts=("a:b:10s:2m",),
        slow=("b:10",),
    )
    a, b, c = found.members
    assert (a.up, b.up, b.down, c.up, c.down) == (125e6, 1e6, 2e6, 10e6, 10e6)
    assert (a.connection, b.connection, b.sideways) == (5e6, 0.5e6, 5e6)
    assert (a.dies, a.starts, b.starts, c.starts) == (0.3, 0.0, 30.0, 60.0)
    assert (a.returns, c.dies, c.returns) == (None, 0.5, 600.0)
    assert found.cuts == (Cut("a", "b", 10.0, 120.0),)
    assert (found.origin, found.latency, found.every) == (250e6, 0.1, 30.0)
    assert (found.share, found.tells, found.stealing, found.ranges) == (Share.FILE, Tells.HELD, False, False)


def test_each_seed_is_another_tree():
    first, second = scenarios("/nonexistent", Asked(seeds=2))
    assert (first.seed, second.seed) == (1, 2)
    assert first.files != second.files


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"sites": "0"}, "a number from 1 to 16"),
        ({"sites": "17"}, "a number from 1 to 16"),
        ({"sites": "a,a"}, "different names"),
        ({"sites": "a,\x1b[1m"}, "different names"),
        ({"origin": "1Gb"}, "--origin: '1Gb' is not a rate"),
        ({"latency": "-1"}, "--latency"),
        ({"links": ("rome:1MB/s",)}, "--link: 'rome:1MB/s'"),
        ({"links": ("site1:",)}, "--link"),
        ({"slow": ("site1:0",)}, "how many times slower"),
        ({"slow": ("site1:²",)}, "how many times slower"),
        ({"dies": ("site1:half",)}, "--dies"),
        ({"dies": ("site1:30%:soon",)}, "--dies"),
        ({"cuts": ("site1:site2:1m",)}, "--cut: 'site1:site2:1m'"),
        ({"cuts": ("site1:site2:1m:later",)}, "--cut"),
        ({"cuts": ("site1:site2:2m:1m",)}, "begins before it ends"),
        ({"cuts": ("site1:rome:1m:2m",)}, "site1 and rome"),
        ({"cuts": ("site1:site1:1m:2m",)}, "name two sites"),
        ({"largest": "1%"}, "even equal ones"),
        ({"files": -1}, "1 to"),
        ({"files": 10**9}, "1 to"),
        ({"bytes": "3"}, "too few"),
        ({"tail": float("nan")}, "exponent"),
        ({"directories": 41}, "directories"),
        ({"tree": "/nonexistent"}, "/nonexistent: No such file"),
        ({"tree": "/dev/null"}, "/dev/null: Not a directory"),
        ({"sites": "-1"}, "--sites: '-1': a number from 1"),
        ({"sites": ""}, "--sites: '': a number from 1"),
        ({"held": "oslo"}, "name the mirror as well"),
        ({"mirror": "gnu"}, "there is no folder config/ in "),
    ],
)
def test_what_makes_no_sense_is_one_line(asked, words):
    with pytest.raises((UsageError, ConfigErrors)) as refused:
        one(**asked)
    assert words in str(refused.value)
    assert all(line.isprintable() for line in str(refused.value).splitlines())
    assert isinstance(refused.value, ConfigErrors) or "\n" not in str(refused.value)


def test_a_tree_without_files_is_named(tmp_path):
    with pytest.raises(UsageError, match=f"^{tmp_path}: there are no files in it$"):
        one(tree=str(tmp_path))


def test_a_mirror_or_holder_that_there_is_not_is_named(configured):
    with pytest.raises(UsageError, match="x: no such mirror; there are: gnu"):
        one(configured, mirror="x")
    with pytest.raises(UsageError, match="'lima' does not carry gnu; it is carried by: kent, oslo"):
        one(configured, mirror="gnu", held="lima")
    with pytest.raises(UsageError, match="name the mirror as well"):
        one(configured, held="oslo")


def test_the_command_tells_people_and_programs_the_same(configured):
    run = CliRunner()
    words = ["-C", str(configured), "simulate", *SMALL, "--dies", "lima:50%", "--seeds", "2"]
    said = run.invoke(cli, words, standalone_mode=False).output
    told = json.loads(run.invoke(cli, [*words, "--json"], standalone_mode=False).output)
    assert told["sites"] == ["kent", "lima", "oslo"]
    assert [r["seed"] for r in told["runs"]] == [1, 2]
    assert [s["finished"] is None for s in told["runs"][0]["sites"]] == [False, True, False]
    assert f"{told['dup']:.2f} times what it has" in said
    assert "lima" in said
    assert "died" in said


def test_a_bad_word_is_one_line_and_exit_2(configured):
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "-C", configured, "simulate", "--slow", "kent:fast"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"--slow: 'fast': how many times slower, from 1 to 1000\n"


# -- the table


def test_the_table_is_for_these_numbers_of_sites():
    assert counts(None, (2, 4)) == [2, 4]
    assert counts("3,16", (2, 4)) == [3, 16]
    for wrong in ("0", "17", "", "a", "2,", "²"):
        with pytest.raises(UsageError, match="--sites"):
            counts(wrong, (2,))


def test_what_the_table_would_not_heed_is_refused():
    for words in (["--origin", "2Gbit/s"], ["--slow", "site1:2"], ["gnu"], ["--seeds", "3"]):
        with pytest.raises(UsageError, match="of its own"):
            CliRunner().invoke(
                cli, ["simulate", "--table", *words], standalone_mode=False, catch_exceptions=False
            )


def test_columns_stand_below_their_heads():
    head = list(table_head([2, 16]))[-1]
    row = table_row("alone", [Cell(2, 2.0, 2.02), Cell(16, 16.0, 16.0)])
    assert len(head) == len(row)
    assert row.split() == ["alone", "2.00", "2.02", "16.00", "16.00"]

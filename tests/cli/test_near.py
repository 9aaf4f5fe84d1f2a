"""What a command leaves to the daemon that runs, and what it reads and says itself."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from cluster.control import ControlServer
from cluster.errors import StoreError

PASS = ("pass", "--site", "kent", "m")
RESULT = {
    "mirror": "m",
    "site": "kent",
    "outcome": "complete",
    "files": {"unchanged": 3},
    "bytes": {"origin": 0, "sideways": 0, "listings": 1},
    "requests": {"origin": 1, "sideways": 0},
    "directories": 1,
    "seconds": 0.1,
}


class Daemon:
    """Answers on a control socket, and remembers what it was asked."""

    def __init__(self, **commands) -> None:
        self.asked: list[dict] = []
        self._commands = commands

    async def said(self, desk, *words, status=0):
        server = ControlServer(
            str(desk.root / "state"), {n: self._by(answer) for n, answer in self._commands.items()}
        )
        await server.start()
        try:
            return await asyncio.to_thread(desk, *words, status=status)
        finally:
            await server.stop()

    def _by(self, answer):
        async def told(request, tell):
            self.asked.append(request)
            for event in answer[:-1]:
                tell(event)
            if isinstance(answer[-1], Exception):
                raise answer[-1]
            return answer[-1]

        return told

    @property
    def names(self) -> list[str]:
        return [request["command"] for request in self.asked]


async def test_a_daemon_that_finds_all_files_valid_does_the_pass_and_the_command_shows_it(desk):
    daemon = Daemon(valid=[{"valid": True}], **{"pass": [{"event": "progress"} | _COUNTS, RESULT]})
    said = await daemon.said(desk, *PASS, "a%20b", "--json")
    assert said.json() == RESULT
    assert daemon.asked == [
        {"command": "valid", "folder": str(desk.root.resolve()), "site": "kent", "mirror": "m"},
        {"command": "pass", "mirror": "m", "path": "a%20b", "dry": False},
    ]


_COUNTS = {"files": 3, "bytes": 0, "sideways": 0, "directories": 1}


async def test_a_dry_pass_of_a_daemon_shows_its_plan(desk):
    planned = {"event": "planned", "action": "fetch", "path": "a", "href": "a", "detail": ""}
    daemon = Daemon(valid=[{"valid": True}], **{"pass": [planned, RESULT]})
    said = await daemon.said(desk, *PASS, "--dry-run", "--json")
    assert said.json()["planned"] == [{"action": "fetch", "path": "a", "href": "a", "detail": ""}]
    assert [request.get("dry") for request in daemon.asked] == [None, True]


@pytest.mark.parametrize("valid", [[{"valid": False}], [StoreError("it is being stopped")], None])
async def test_where_the_daemon_does_not_say_that_they_are_the_command_reads_the_files(desk, valid):
    """As an older daemon cannot, which knows no such question."""
    daemon = Daemon(**({} if valid is None else {"valid": valid}), **{"pass": [RESULT]})
    assert (await daemon.said(desk, *PASS, "--json")).json() == RESULT
    desk.mirror("n", "<orign/>")
    said = await daemon.said(desk, *PASS, status=2)
    assert said.err == b"config/mirrors/n.xml:5: <orign>: no such element; did you mean <origin>?\n"
    assert daemon.names.count("pass") == 1


async def test_what_a_pass_ends_with_is_the_daemons_own_word(desk):
    daemon = Daemon(valid=[{"valid": True}], **{"pass": [StoreError("the disk is full")]})
    said = await daemon.said(desk, *PASS, status=1)
    assert (said.out, said.err) == (b"", b"the disk is full\n")


async def test_the_folder_for_records_may_be_the_clusters_default(desk):
    site = desk.root / "sites/kent.toml"
    site.write_text(site.read_text().replace('state = "../state"\n', ""))
    with (desk.root / "config/cluster.toml").open("a") as file:
        file.write('[defaults.site]\nstate = "../state"\n')
    daemon = Daemon(valid=[{"valid": True}], push=[{"message": "a pass is due"}])
    assert (await daemon.said(desk, "push", "--site", "kent", "m")).out == b"m: a pass is due\n"
    assert daemon.names == ["valid", "push"]


def test_a_running_daemon_vouches_for_its_own_folder_as_it_is_now_and_for_no_other(desk):
    (desk.source / "a").write_bytes(b"x")
    desk.run()
    assert desk(*PASS, "--json").json()["files"]["origin"] == 1
    other = desk.root.with_name("other")
    for name in ("config", "sites"):
        shutil.copytree(desk.root / name, other / name)
    site = other / "sites/kent.toml"
    site.write_text(site.read_text().replace('"../', f'"{desk.root}/'))
    assert desk("-C", str(other), *PASS, "--json").json()["files"]["unchanged"] == 1
    (other / "config/mirrors/n.xml").write_text("<miror/>")
    line = b"config/mirrors/n.xml:1: <miror>: a descriptor is one <mirror>, without a namespace\n"
    assert desk("-C", str(other), *PASS, status=2).err == line
    assert desk(*PASS).err == b""
    shutil.copy(other / "config/mirrors/n.xml", desk.root / "config/mirrors/n.xml")
    assert desk(*PASS, status=2).err == line
    assert desk("pass", "--site", "kent", "x", status=2).err.endswith(line)


@pytest.mark.parametrize("name", ["../../etc", "\x01", "x" * 300])
def test_a_name_that_is_no_sites_leads_nowhere(desk, name):
    assert desk("pass", "--site", name, "m", status=2).err.endswith(b": no such site; allowed: kent\n")


def test_a_file_that_is_no_table_of_words_is_told_as_ever(desk):
    (desk.root / "sites/kent.toml").write_bytes(b"state = [\n" * 2)
    assert desk(*PASS, status=2).err.startswith(b"sites/kent.toml:")
    (desk.root / "sites/kent.toml").write_bytes(b"state = 1\n")
    assert desk(*PASS, status=2).err.startswith(b"sites/kent.toml:")

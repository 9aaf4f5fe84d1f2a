"""One tree behind FTP servers, mirrored by a real site: the copy is rsync's, and stays so without a body."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests import servers
from tests.origin.ftp_servers import open_to_all
from tests.scenarios.test_cluster import sites
from tests.scenarios.trees import many_small, write
from tests.servers import program


def differing(one: Path, other: Path) -> str:
    """What rsync would have to do to make `other` the same: contents, links, and times of files."""
    command = [program("rsync"), "-rlni", "--checksum", "--delete", "--times", "--omit-dir-times"]
    command += ["--omit-link-times", f"{one}/", f"{other}/"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", ["vsftpd", "proftpd"])
async def test_the_copy_is_that_of_rsync_and_a_second_pass_reads_no_body(tmp_path: Path, name: str) -> None:
    with (
        open_to_all() as origin,
        sites(tmp_path, "kent") as cluster,
        getattr(servers, name)(origin) as server,
    ):
        many_small(origin, 300)
        (origin / "empty").mkdir()
        write(Path(os.fsdecode(os.fsencode(origin) + b"/latin-\xe9 and more")), b"bytes", at=1_650_000_000)
        write(origin / ".hidden", b"seen all the same", at=1_650_000_000)
        write(origin / "large", bytes(range(256)) * 40_000, at=1_650_000_000)
        write(origin / "young", b"a minute that may still run", at=int(time.time()) - 30)
        (origin / "link").symlink_to("d000")
        cluster.ledger.tree(origin)
        cluster.mirror("m", server.url, extra='<delete sightings="1" grace="0s" emptied-after="0s"/>')
        await cluster.start()
        first = await cluster.one_pass("kent", "m")
        assert first["outcome"] == "complete", first
        assert differing(origin, cluster.public("kent", "m")) == ""
        again = await cluster.one_pass("kent", "m")
        assert (again["outcome"], again["bytes"]["origin"]) == ("complete", 0)
        write(origin / "d001" / "file-00050", b"another", at=1_700_000_000 + 51)
        (origin / "d002" / "file-00081").unlink()
        cluster.ledger.tree(origin)
        last = await cluster.one_pass("kent", "m")
        assert (last["files"]["origin"], last["files"]["deleted"]) == (1, 1)
        assert differing(origin, cluster.public("kent", "m")) == ""
        await cluster.check("m")

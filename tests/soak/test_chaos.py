"""Sites as real processes through random changes at the origin, deaths and partitions.

    CHAOS_SITES=3 CHAOS_SECONDS=60 CHAOS_SEED=7 pytest -m soak -s tests/soak/test_chaos.py

A story that fails tells its seed, its last steps and what was different. Odd seeds make large files small
and their parts many, even ones leave them as large as they are.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.scenarios.test_parts import SHRUNK
from tests.servers import nginx
from tests.soak import accounts
from tests.soak.changing import Changing
from tests.soak.chaos import CYCLE, POLICY, SCHEDULE, Chaos, Sites
from tests.soak.network import Network

NAMES = ("kent", "oslo", "york", "bath", "hull", "leeds", "lancaster", "ulster")
LIMIT = 1.05  # times the unique bytes, without what deaths cost
SITES = int(os.environ.get("CHAOS_SITES", "8"))
SECONDS = float(os.environ.get("CHAOS_SECONDS", "3600"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
LOG = f"""log_format versions escape=none '{accounts.FORMAT}';"""


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_sites_come_through_changes_deaths_and_partitions(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    shrunk = SEED % 2 == 1  # parts of files by the hundred, or files as large as they are
    (tmp_path / "cluster").mkdir()
    with Network() as network, Sites(tmp_path / "cluster", NAMES[:SITES], network) as cluster:
        origin = Changing(tmp_path, cluster.ledger, chance, large=3 * 2**20 if shrunk else 130 * 2**20)
        for _ in range(60):
            origin.step()
        log = "access_log versions.log versions;"
        with nginx(Path(os.fsdecode(origin.root)), http=LOG, extra=log) as server:
            if shrunk:
                cluster.entry = ("-c", SHRUNK)
            cluster.mirror("m", server.url, schedule=SCHEDULE, extra=POLICY)
            cluster.spread()
            chaos = Chaos(cluster, origin, server, chance, print)
            await cluster.start()
            log_file = server.folder / "versions.log"
            try:
                until = time.monotonic() + SECONDS
                await chaos.rest()
                while time.monotonic() < until:
                    await chaos.trouble(min(CYCLE, until - time.monotonic()))
                    await chaos.rest()
                account = chaos.account()
                assert account.inexcusable <= (LIMIT - 1) * account.unique, str(account)
                # Of few sites, two that are apart have nobody between them: each asks the origin.
                assert SITES < 8 or account.dup <= LIMIT, str(account)
            except BaseException as error:
                told = "\n".join(chaos.steps)
                raise AssertionError(
                    f"seed {SEED}, {SITES} sites, step {chaos.number}: {error}\n{told}"
                ) from error
            finally:
                shutil.copy(log_file, tmp_path)

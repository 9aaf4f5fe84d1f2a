"""The configuration of a daemon: read again whenever its files change, and taken up as far as it is valid."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable

from cluster.config.expiry import ending
from cluster.config.load import load, load_tolerant
from cluster.daemon.notify import notify
from cluster.errors import ConfigError, ConfigErrors, UsageError
from cluster.model import Cluster, Site

log = logging.getLogger("sideways.daemon")

SETTLE = 0.5  # s of quiet in the configuration folder before it is read again


class Configuration:
    """What holds for the site `name`. `take` takes up another one; it may raise ConfigError for what cannot
    be taken up while the site runs. Raises ConfigErrors and UsageError where it cannot be read at first."""

    def __init__(self, folder: str, name: str, take: Callable[[Cluster], Awaitable[None]]) -> None:
        self._folder, self._name, self._take = folder, name, take
        self.cluster, self.bad = load_tolerant(folder, name)
        self._reload = asyncio.Event()
        self._problem: list[str] = []

    @property
    def site(self) -> Site:
        return self.cluster.sites[self._name]

    def errors(self) -> list[str]:
        """One line for each error of what was read last."""
        return [*self._problem, *(str(e) for errors in self.bad.values() for e in errors)]

    async def valid(self, folder: str) -> set[str]:
        """The mirrors that the files of this folder (its real path) give the site as they are now; none
        unless it is the one that is read here, and every file is valid."""
        if folder != os.path.realpath(self._folder):
            return set()
        try:
            cluster = await asyncio.to_thread(load, self._folder, self._name)
        except (ConfigErrors, UsageError):
            return set()
        return {mirror.name for mirror in cluster.mirrors_of(self._name)}

    def reload_soon(self) -> None:
        """Read the configuration again (SIGHUP)."""
        self._reload.set()

    async def run(self) -> None:
        """Read the configuration again after every change of it; what is invalid keeps its old definition."""
        watching = asyncio.create_task(self._watch(), name="configuration")
        try:
            while True:
                await self._reload.wait()
                self._reload.clear()
                await asyncio.sleep(SETTLE)
                await self.read()
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        from watchfiles import awatch

        folders = [os.path.join(self._folder, name) for name in ("config", "sites")]
        async for _ in awatch(*folders, step=200):
            self._reload.set()

    async def read(self) -> None:
        """Read it, and have it taken up. What is invalid is logged and told by `errors`."""
        notify("RELOADING=1")
        try:
            cluster, self.bad = load_tolerant(self._folder, self._name, self.cluster.mirrors)
        except (ConfigErrors, UsageError) as error:
            self._problem = str(error).splitlines()
            for line in self._problem:
                log.error("%s (the old definition stays)", line)  # noqa: TRY400  # its line says all
            notify("READY=1")
            return
        self._problem = []
        self.cluster = cluster
        self.say_bad()
        try:
            await self._take(cluster)
        except ConfigError as error:
            self._problem = [str(error)]
            log.error("%s", error)  # noqa: TRY400  # its line says all
        notify("READY=1")
        count = len(cluster.mirrors_of(self._name))
        log.info("%s: configuration read: %d mirror%s", self._name, count, "" if count == 1 else "s")

    def say_bad(self) -> None:
        """Log what is not valid, and what ends soon."""
        for errors in self.bad.values():
            for error in errors:
                log.error("%s", error)
        for line in ending(self.cluster.sites.values(), time.time()):
            log.warning("%s", line)

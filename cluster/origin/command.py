"""An origin that is made by an operator's own program: run once for each pass, before its first listing.

What is in its folder then is read as any other folder of this machine. The folder is kept between passes, for
programs that go on from what they have. A program that fails proves nothing, and nor does an empty folder.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from urllib.parse import quote

from cluster.errors import SourceMissing, UsageError
from cluster.model import Limits, Listing, OriginSpec
from cluster.origin.command_run import run
from cluster.origin.local import LocalOrigin


class CommandOrigin(LocalOrigin):
    """See the module. Files may be read and asked about before the first listing: they are those of the
    program's last run. Raises UsageError where this site has no folder for it."""

    def __init__(self, spec: OriginSpec, limits: Limits) -> None:
        if spec.command is None or not spec.command.folder:
            raise UsageError(f"{spec.url}: no site runs this program")
        self._command = spec.command
        self._turn = asyncio.Lock()
        self._ran: SourceMissing | bool = False
        super().__init__(replace(spec, url="file://" + quote(spec.command.folder) + "/"), limits)
        self.url = spec.url

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        async with self._turn:
            if not self._ran:
                try:
                    await run(self._command, {"SIDEWAYS_ORIGIN": self.url})
                    self._ran = True
                except SourceMissing as error:
                    self._ran = error
        if isinstance(self._ran, SourceMissing):
            raise SourceMissing("", self._ran.message)
        return await super().listing(directory, known)

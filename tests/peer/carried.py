"""The carrier's process with a folder of its own, and what it brings as bytes."""

from __future__ import annotations

import os
import stat
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cluster.courier.carrier import Carrier
from cluster.peer.client import Told, Wish
from cluster.store.small import name

MTIME = 1_600_000_000 * 10**9


class Carried:
    """`async with Carried(folder) as carried`: at the end there is nothing in the folder that was not
    reported, and the process has gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: set[str] = set()  # what may lie there
        self._asked = 0

    async def __aenter__(self) -> Self:
        self.folder.mkdir()
        self._directory = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        self.carrier = await Carrier.start(self._directory)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.carrier.close()
        os.close(self._directory)
        if kind is None:
            assert set(os.listdir(self.folder)) == self.known

    async def bundle(
        self,
        sibling: Any,
        wishes: list[Wish],
        got: dict[int, bytes] | None = None,
        patience: float = 60.0,
    ) -> tuple[Told, dict[int, bytes]]:
        """Everything that it offers is ordered. What has come is in `got`, also where it then breaks."""
        got = {} if got is None else got
        self._asked += 1
        prefix = b"t%d" % self._asked
        async with sibling.carried("debian", wishes, patience, self.carrier) as answer:
            held = {place: offer.sha256 for place, offer in answer.told.held.items() if wishes[place].send}
            orders = [(place, sha256, 0o640, -1, -1, MTIME) for place, sha256 in held.items()]
            async with aclosing(answer.files(prefix, orders)) as parts:
                async for written in parts:
                    got |= {one[0]: self._body(prefix, *one) for one in written}
        return answer.told, got

    def _body(self, prefix: bytes, place: int, inode: int, on_disk: int) -> bytes:
        temporary = os.fsdecode(name(prefix, place))
        assert temporary not in self.known, "reported twice"
        self.known.add(temporary)
        found = os.lstat(self.folder / temporary)
        assert (found.st_ino, found.st_mtime_ns) == (inode, on_disk) == (found.st_ino, MTIME)
        assert stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o640
        return (self.folder / temporary).read_bytes()

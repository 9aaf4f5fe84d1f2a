"""Reading an origin by the rsync program: from a daemon, from one behind TLS, or over ssh.

The program lists and transfers; what is taken of it, and what goes, is decided by us (HAZARDS 94). See
`rsync_subtrees` for listings, `rsync_batch` for many files, `rsync_file` for single ones, `rsync_command` and
`rsync_child` for how it is run.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from cluster.model import Facts, Limits, Listing, OriginSpec
from cluster.origin import rsync_batch, rsync_file
from cluster.origin.base import Batch, Brought, Properties, Traffic, Want
from cluster.origin.rsync_command import Access
from cluster.origin.rsync_errors import Wish, failure
from cluster.origin.rsync_subtrees import Subtrees


class RsyncOrigin:
    """See the module. Sizes are exact, times of listings in seconds, those of bodies as the origin has them.

    Hard links are told where the whole tree was listed by one child, and nothing is said of them elsewhere:
    an entry without `link` may have one.
    """

    properties = Properties(exact_sizes=True, modes=True, symlinks=True, batches=True, scheme="rsync")

    def __init__(self, spec: OriginSpec, limits: Limits, private: str = "") -> None:
        """`private`: see `cluster.origin.open.open_origin`."""
        self._private = private
        self._access, self._limits = Access(spec, limits), limits
        self.url, self.traffic = self._access.url, Traffic()
        self._subtrees = Subtrees(self._access, limits, self.traffic)

    def __repr__(self) -> str:
        return f"<RsyncOrigin {self.url} {self.traffic.requests} requests>"

    async def listing(self, directory: bytes, known: bytes = b"") -> Listing:
        """Each is given out once: who asks again in the same pass is told what the origin says by then."""
        return await self._subtrees.listing(directory, known)

    async def facts(self, path: bytes) -> Facts:
        return await rsync_file.facts(self._access, self.traffic, path)

    def read(self, path: bytes, want: Want) -> rsync_file.Reading:
        return rsync_file.Reading(self._access, self.traffic, path, want, self._private)

    async def bring(self, batch: Batch) -> AsyncGenerator[Sequence[Brought], None]:
        """See `Batching`."""
        reach = await self._access.reach(b"")
        remote = rsync_batch.Remote(
            reach.program,
            reach.source,
            self.url,
            self._limits.timeout,
            tuple(reach.more.items()),
            self._access.base,
        )
        bringing = rsync_batch.bring(remote, batch, self.traffic, lambda e: failure(e, b"", Wish.FILE))
        async with aclosing(bringing) as reports:
            async for report in reports:
                yield report

    async def close(self) -> None:
        await self._subtrees.close()

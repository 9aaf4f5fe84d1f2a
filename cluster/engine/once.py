"""Files whose content this site has already, under another name or in another mirror: by policy they are not
fetched where their digest is known beforehand, and take no room of their own where the disk can share it.

The digest is known from the index of a repository, or from a sibling that holds the listed version. What
came without one is looked up when it is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.engine.context import SMALL, Stage
from cluster.model import Held, Stamp
from cluster.store.once import Need, Place

if TYPE_CHECKING:
    from cluster.engine.context import Context, Job
    from cluster.store.tree import Staged

MANY = 64  # small files that are dealt with in one go; of larger ones, each by itself

Ready = Sequence[tuple["Job", "Staged"]]


class Here:
    """See the module. Where the policy says no, everything is left as it is."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._coming: dict[bytes, Job] = {}  # by SHA-256: the first file with it, which is on its way
        self._digests: dict[int, bytes] = {}  # of these

    @property
    def sought(self) -> bool:
        """Whether content is looked for at all."""
        return self._context.once is not None

    async def staged(self, wanted: Sequence[tuple[Job, Held]]) -> list[tuple[Job, Staged]]:
        """Temporaries of those of these files that need not be fetched; their records have the SHA-256 that
        they are to have, and no size where that was not listed. Raises DiskFull, StoreError."""
        once, report = self._context.once, self._context.report
        found: list[tuple[Job, Staged]] = []
        for some in _groups(wanted) if once is not None else ():
            assert once is not None
            known = await once.find([held.sha256 or b"" for _, held in some])
            needs = [_need(job, held, places) for (job, held), places in zip(some, known, strict=True)]
            shared = await once.stage(needs, known, copy=True)
            for (job, _), one in zip(some, shared, strict=True):
                if one is not None:
                    found.append((job, one.staged))
                    report.bytes_saved += one.staged.held.size
                    report.bytes_shared += one.room
        return found

    async def instead(self, ready: Ready) -> Ready:
        """The same files, those that share what was here before in their place: or what came a moment ago."""
        once = self._context.once
        if once is None:
            return ready
        result = list(ready)
        seen: set[bytes | None] = set()
        first: list[int] = []
        again: list[int] = []
        for at, (_, staged) in enumerate(ready):
            (again if staged.held.sha256 in seen else first).append(at)
            seen.add(staged.held.sha256)
        for places in (first, again) if again else (first,):
            asked = [(_need(ready[at][0], ready[at][1].held, ()), ready[at][1]) for at in places]
            found, room = await once.instead(asked)
            self._context.report.bytes_shared += room
            for at, one in zip(places, found, strict=True):
                result[at] = ready[at][0], one
            self.note([result[at] for at in places] if again else ())
        return result

    def note(self, ready: Ready) -> None:
        """These are about to be published."""
        if self._context.once is not None:
            self._context.once.note((job.path, staged) for job, staged in ready)

    # -- the same content twice in one pass

    def begun(self, job: Job, sha256: bytes | None) -> bool:
        """False where a file with this content is on its way already: it is waited for. Before the last
        stages, since what is put off there would come too late for the state that names it."""
        if not self.sought or sha256 is None or job.visit.stage >= Stage.LAST or not job.entry.size:
            return True
        if self._coming.setdefault(sha256, job) is not job:
            return False
        self._digests[id(job)] = sha256
        return True

    def over(self, job: Job) -> None:
        """Whatever became of it."""
        sha256 = self._digests.pop(id(job), None)
        if sha256 is not None:
            del self._coming[sha256]


def _need(job: Job, held: Held, places: Sequence[Place]) -> Need:
    """With the size where it was not listed, and the time as the file that is here has it, where that is the
    listed one told more exactly."""
    previous = job.wanted.previous
    avoid = previous.inode if previous is not None else 0
    if places:
        here = places[0].held
        held = replace(held, size=held.size or here.size, mtime=_finer(held.mtime, here.mtime))
    return Need(job.path, held, avoid)


def _finer(listed: Stamp | None, here: Stamp | None) -> Stamp | None:
    finer = listed is not None and here is not None and here.precision < listed.precision
    return here if finer and listed is not None and here is not None and listed.agrees(here) else listed


def _groups(wanted: Sequence[tuple[Job, Held]]) -> list[list[tuple[Job, Held]]]:
    groups: list[list[tuple[Job, Held]]] = []
    small: list[tuple[Job, Held]] = []
    for job, held in wanted:
        if held.size > SMALL:
            groups.append([(job, held)])
        else:
            small.append((job, held))
    return groups + [small[at : at + MANY] for at in range(0, len(small), MANY)]

"""What siblings have fetched is copied beside the walk, as soon as they tell that they have it.

What this site does not rank first for, or what somebody was fetching, lies in the records for a later stage.
A sibling that stops claiming such a file has published it, and is asked for it, many files to a question.
What does not come this way comes in its stage; nothing is claimed for it, and nothing asked of the origin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from cluster.engine.asking import Asking
from cluster.engine.context import Context, Job, Stage, Visit
from cluster.model import Order, Trust, value
from cluster.plan.compare import Wanted
from cluster.plan.order import owner
from cluster.plan.source import FromSibling
from cluster.plan.steal import RANGE
from cluster.plan.trail import Trail

GATHER = 0.05  # s in which what siblings tell makes one question
FILES, BYTES = 512, 8 * 2**20  # of one question
TOGETHER = 3  # questions on their way at once
ENOUGH = 128  # files for which somebody is asked who has not answered the last question yet


@value
class Accounts:
    """How the fetcher is told of these jobs, and what it does for them. `left` ends one that did not come;
    `larger` reads one by itself, False where it was not delivered; `book` records which are over."""

    begun: Callable[[Job], None]
    left: Callable[[Job], None]
    larger: Callable[[Job, FromSibling], Awaitable[bool]]
    book: Callable[[], Awaitable[None]]


class Trailing:
    """Goes on from `start` to `end`; what is under way then still arrives. `broken` is told what the store
    said when it failed."""

    def __init__(
        self, context: Context, asking: Asking, accounts: Accounts, broken: Callable[[Exception], None]
    ) -> None:
        self._context, self._asking, self._accounts, self._broken = context, asking, accounts, broken
        self._trail: Trail[_Directory] = Trail(len(context.siblings) + 1)
        self._going = False
        self._copying: dict[bytes, set[bytes]] = {}  # by directory: names, until they are booked
        self.under_way = 0  # files
        self._more = asyncio.Event()
        self._rounds: dict[asyncio.Task[None], str] = {}  # who is being asked
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        context = self._context
        mirror = context.mirror
        shared = mirror.sideways.enabled and mirror.sideways.trust is Trust.SIBLINGS
        if shared and mirror.order is Order.RENDEZVOUS and context.siblings and not context.dry:
            self._going = True
            context.claims.heard.ended.listen(mirror.name, self._fetched)
            self._task = asyncio.create_task(self._run(), name="trailing")

    def end(self) -> None:
        """Nothing more is begun."""
        if self._going:
            self._going = False
            self._context.claims.heard.ended.ignore(self._context.mirror.name)
            self._trail = Trail(0)

    async def close(self) -> None:
        """Whatever is under way is given up."""
        self.end()
        tasks = [*self._rounds, *([self._task] if self._task else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __repr__(self) -> str:
        return f"<Trailing {self.under_way} under way, {self._trail!r}>"

    # -- what happens

    def left(self, visit: Visit, stage: Stage, wanted: Mapping[str, Sequence[Wanted]]) -> None:
        """The walk leaves these to others, by who ranks first; they are in the records for this stage."""
        if not self._going or visit.stage is not Stage.WALK:
            return
        where = _Directory(visit, stage)
        sites = [self._context.site, *(sibling.name for sibling in self._context.up())]
        for first, some in wanted.items():
            mine = owner(visit.path, [site for site in sites if site != first]) == self._context.site
            self._trail.left(visit.path, where, first, filter(_may_come, some), next_in_rank=mine)
        if self._trail.ready():
            self._more.set()

    def _fetched(self, site: str, directory: bytes, names: Sequence[bytes]) -> None:
        self._trail.told(site, directory, names)
        if self._trail.ready():
            self._more.set()

    # -- what is under way

    def names(self, directory: bytes) -> AbstractSet[bytes]:
        """What is left in the records of a directory, and has to be left to us, for now."""
        return frozenset(self._copying.get(directory, ()))

    def over(self, job: Job) -> None:
        """One of all files is published, put off or has failed; ours are booked soon."""
        if job.entry.name in self._copying.get(job.visit.path, ()):
            self.under_way -= 1
            self._more.set()

    def booked(self, directory: bytes, name: bytes) -> None:
        """It is in the records no longer, or left to its stage."""
        copying = self._copying.get(directory)
        if copying is not None:
            copying.discard(name)
            if not copying:
                del self._copying[directory]

    # -- copying

    async def _run(self) -> None:
        while self._going:
            await self._more.wait()
            await self._context.clock.sleep(GATHER)
            self._more.clear()
            try:
                await self._accounts.book()
            except Exception as error:  # noqa: BLE001  # a broken store ends the pass, whatever broke it
                self._broken(error)
            while len(self._rounds) < TOGETHER and (site := self._next()) is not None:
                jobs = [where.job(want) for where, want in self._trail.take(site, FILES, BYTES)]
                for job in jobs:
                    self._copying.setdefault(job.visit.path, set()).add(job.entry.name)
                    self.under_way += 1
                    self._accounts.begun(job)
                task = asyncio.create_task(self._round(site, jobs), name=f"trailing {site}")
                self._rounds[task] = site
                task.add_done_callback(self._ended)

    def _next(self) -> str | None:
        """Who is asked next. What is urgent goes first, and always finds a place soon."""
        busy, urgent = self._rounds.values(), self._trail.urgent()
        others = self._trail.ready() if len(self._rounds) < TOGETHER - 1 else {}
        for ready in (urgent, others):
            for site, files in ready.items():
                if files >= ENOUGH or site not in busy:
                    return site
        return None

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._rounds[task]
        self._more.set()

    async def _round(self, site: str, jobs: Sequence[Job]) -> None:
        try:
            await self._copy(site, jobs)
        except Exception as error:  # noqa: BLE001  # a broken store ends the pass, whatever broke it
            self._broken(error)

    async def _copy(self, site: str, jobs: Sequence[Job]) -> None:
        larger, left = await self._asking.copy(site, jobs)
        for job, source in larger:
            if not (self._going and await self._accounts.larger(job, source)):
                left.append(job)
        for job in left:
            self._accounts.left(job)
            self.booked(job.visit.path, job.entry.name)


class _Directory:
    """A directory as the walk has listed it, and the stage that some of its files wait for."""

    def __init__(self, visit: Visit, stage: Stage) -> None:
        self._path, self._own, self._listed_at, self._stage = visit.path, visit.own, visit.listed_at, stage

    def job(self, wanted: Wanted) -> Job:
        return Job(Visit(self._path, self._stage, self._own, listed_at=self._listed_at), wanted)


def _may_come(want: Wanted) -> bool:
    """Whether a sibling can have it as a whole, and no other name of ours has to be looked at."""
    entry = want.entry
    return (
        entry.size is not None and entry.size <= 2 * RANGE and entry.mtime is not None and entry.link is None
    )

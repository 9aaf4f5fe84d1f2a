"""The repositories of a mirror in one pass: from state to state, and never anything in between.

Before the walk, the newest state of each root is fetched apart (`cluster.engine.candidates`), so that what
the walk brings can be verified against it. After the walk, what the state names and is not here is looked
for; when nothing is missing, the state is switched to. What does not become complete is tried again for a
while, and the state that is published stays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cluster.engine.candidates import Candidates, Rollback, Unsettled
from cluster.engine.context import Context, Stage, Visit
from cluster.errors import NotAListing, OriginError, RepositoryError, Vanished
from cluster.model import SECOND, Entry, Kind, join, shown, split
from cluster.plan.compare import Wanted
from cluster.repository.base import Group, Role
from cluster.store import states
from cluster.store.states import Name, Stand, State

if TYPE_CHECKING:
    from cluster.engine.fetcher import Fetcher

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # s before a state that does not fit together is looked at again
LACKING = 10_000  # files that are looked for at once
SHOWN = 5  # of them that are told by name

Revisit = Callable[[AbstractSet[bytes]], Awaitable[None]]


class Repositories:
    """See the module. `revisit` lists directories again, and brings what is new in them."""

    def __init__(self, context: Context, fetcher: Fetcher, revisit: Revisit) -> None:
        self._context, self._fetcher, self._revisit = context, fetcher, revisit
        self._verdicts, self._books = context.verdicts, context.store.repositories
        self._candidates = Candidates(context, fetcher)
        self._found: dict[bytes, State | None] = {}  # by root: its candidate, or that there is none
        self._trouble: dict[bytes, str] = {}
        self._final: set[bytes] = set()  # roots whose trouble does not go away by waiting

    async def before(self) -> None:
        """Before the walk: the newest state of every root that is known."""
        for group, type_ in self._verdicts.groups():
            await self._look(group, type_)

    async def after(self) -> None:
        """After the walk: publish what is complete. What is not is told, with the reason."""
        if not self._verdicts.active:
            return
        await self._verdicts.note()
        pauses = iter(PAUSES)
        while True:
            for group, type_ in self._verdicts.groups():
                await self._settle(group, type_)
            if not self._trouble.keys() - self._final:
                break
            pause = next(pauses, None)
            if pause is None:
                break
            await self._context.clock.sleep(pause)
        await self._tell()

    # -- one root

    async def _look(self, group: Group, type_: str) -> None:
        """Its newest state; what is wrong with it is its trouble."""
        name = group.name
        self._trouble.pop(name, None)
        self._found.pop(name, None)
        try:
            self._found[name] = await self._candidates.newest(group, type_)
        except Vanished as error:
            self._trouble[name] = str(error)
            if error.path == shown(group.read[0]):
                self._final.add(name)
        except Rollback as error:
            self._trouble[name] = str(error)
            self._final.add(name)
        except (OriginError, RepositoryError, Unsettled) as error:
            self._trouble[name] = str(error)

    async def _settle(self, group: Group, type_: str) -> None:
        """Switch to its newest state, if that is complete."""
        name = group.name
        if name in self._final:
            return
        ahead = await self._books.ask(states.names_some, name, sorted(self._verdicts.ahead))
        moved = name in self._verdicts.new or bool(ahead)
        if name in self._trouble or name not in self._found or (self._found[name] is None and moved):
            self._verdicts.new.discard(name)
            await self._look(group, type_)
        state = self._found.get(name)
        if state is None:
            if ahead and name not in self._trouble:
                self._trouble[name] = f"{shown(ahead[0])}: not what {shown(group.read[0])} names"
            return
        try:
            await self._complete(state)
            await self._not_busy(group)
        except (OriginError, Unsettled) as error:
            self._trouble[name] = str(error)
            return
        now = int(self._context.clock.now())
        failed = await self._books.switch(state, now)
        if failed:
            self._trouble[name] = f"{shown(failed[0][0])}: {failed[0][1]}"
            return
        self._found[name] = None
        self._context.report.published += 1
        self._context.report.files.origin += len(group.files)  # the rest was counted as it came

    async def _not_busy(self, group: Group) -> None:
        """Raises Unsettled where the origin says that it is in the middle of an update (HAZARDS 43)."""
        spec = self._verdicts.spec_of(group.files[0])
        assert spec is not None
        form = self._verdicts.format_of(spec.type)
        try:
            listing = await self._context.origin.listing(spec.path)
        except NotAListing:
            return
        for entry in listing.entries:
            if form.busy(join(spec.path, entry.name)):
                raise Unsettled(f"{shown(join(spec.path, entry.name))}: the origin is being updated")

    # -- what a state lacks

    async def _complete(self, state: State) -> None:
        """Bring what the walk did not. Raises Unsettled with what cannot be had."""
        for look in (self._visit, self._ask):
            lacking = await self._lacking(state)
            if not lacking:
                return
            self._verdicts.lacking.clear()
            self._verdicts.wanted |= (paths := {name.path for name in lacking})
            try:
                await look(lacking)
            finally:
                self._verdicts.wanted -= paths
        lacking = await self._lacking(state)
        if lacking:
            raise Unsettled(self._said(lacking))

    def _said(self, lacking: Sequence[Name]) -> str:
        some = []
        for name in lacking[:SHOWN]:
            why = self._verdicts.lacking.get(name.path, "is not here, or another version than is named")
            some.append(f"{shown(name.path)}: {why}")
        more = [f"and {len(lacking) - SHOWN} more"] if len(lacking) > SHOWN else []
        return "; ".join([*some, *more])

    async def _lacking(self, state: State) -> list[Name]:
        found: list[Name] = []
        after: bytes | None = None
        while len(found) < LACKING and (page := await self._page(state, after)):
            after = page[-1].path
            found += [name for name in page if name.sha256 is not None or not await self._books.prove(name)]
        return found

    async def _page(self, state: State, after: bytes | None) -> list[Name]:
        return await self._books.ask(states.missing, state.id, tuple(Role), after)

    async def _visit(self, lacking: Sequence[Name]) -> None:
        """List the directories of what is lacking once more: it may have come since."""
        directories = {await self._above(split(name.path)[0]) for name in lacking}
        await self._revisit(directories)

    async def _above(self, directory: bytes) -> bytes:
        """The nearest directory that is here."""
        while directory:
            held = await self._context.store.held(directory)
            if held is not None and held.kind is Kind.DIRECTORY:
                break
            directory = split(directory)[0]
        return directory

    async def _ask(self, lacking: Sequence[Name]) -> None:
        """Ask for what is lacking by its name: it may be there though no listing shows it."""
        by_directory: dict[bytes, list[Wanted]] = {}
        for name in lacking:
            directory, last = split(name.path)
            if await self._above(directory) == directory:
                entry = Entry(last, Kind.FILE, name.size)
                have = await self._context.store.held(name.path)
                want = Wanted(entry, have, named=True, sha256=name.sha256)
                by_directory.setdefault(directory, []).append(want)
        for directory, wanted in by_directory.items():
            asked = int(self._context.clock.now() * SECOND)
            await self._fetcher.take(Visit(directory, Stage.NAMED, listed_at=asked), wanted)
        await self._fetcher.drained()

    # -- what people are told

    async def _tell(self) -> None:
        """What is not published, and what is but is too old."""
        report, now = self._context.report, int(self._context.clock.now())
        for group, _ in self._verdicts.groups():
            reason = self._trouble.get(group.name, "")
            known = await self._books.ask(states.states, group.name)
            published = next((one for one in known if one.stand is Stand.PUBLISHED), None)
            until = published.valid_until if published is not None else None
            if not reason and until is not None and until < now:
                reason = f"{shown(group.read[0])}: stale: was valid until {_day(until)}"
            await self._books.note(states.set_trouble, group.name, reason, now)
            if reason:
                report.failed(reason)
                self._context.reporter.failed(group.name, reason)

    async def spared(self) -> list[bytes]:
        """Subtrees of which nothing is deleted: no state of a root in them has ever been published, so that
        nobody knows what their clients use."""
        spared = []
        for group, _ in self._verdicts.groups():
            known = await self._books.ask(states.states, group.name)
            spec = self._verdicts.spec_of(group.files[0])
            if spec is not None and not any(one.stand is Stand.PUBLISHED for one in known):
                spared.append(spec.path)
        return spared


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

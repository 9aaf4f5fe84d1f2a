"""What a pass does with files of repositories: which it leaves alone, and what becomes of what has arrived.

`Verdicts` stands between whatever brings a file (the origin, a sibling, ranges, a process beside ours) and
the next batch. For mirrors without repositories it is never asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from cluster.model import Entry, Kind, Mirror, Repository, join, split
from cluster.plan.compare import Policy, Wanted
from cluster.plan.select import ancestors
from cluster.plan.states import Fate, fate
from cluster.repository.base import Format, Group, Role
from cluster.repository.formats import FORMATS
from cluster.store import states
from cluster.store.states import Expected, Name
from cluster.store.tree import Staged

if TYPE_CHECKING:
    from cluster.engine.context import Job
    from cluster.store.mirror import MirrorStore

TOLD = 1000  # files that a state lacks, of which the reason is remembered


class Verdicts:
    """See the module. One for each pass; `start` it first."""

    def __init__(self, mirror: Mirror, store: MirrorStore, policy: Policy, *, dry: bool) -> None:
        self._store, self._policy = store, policy
        self._specs = () if dry else mirror.repositories
        self._groups: dict[bytes, tuple[Group, str]] = {}
        self._parts: set[bytes] = set()  # of all roots
        self._kinds: dict[bytes, bool] = {}  # directories, and whether they are left out
        self.new: set[bytes] = set()  # roots that this pass has found, or that have other parts than before
        self.wanted: set[bytes] = set()  # what states lack, and is being asked for
        self.lacking: dict[bytes, str] = {}  # what of it could not be had, and why
        self.ahead: set[bytes] = set()  # files that are another version than the published state names

    async def start(self) -> None:
        """Which roots are known from before, of repositories that the descriptor still names."""
        for known in await self._store.repositories.ask(states.roots) if self._specs else ():
            spec = self.spec_of(known.group.files[0])
            if spec is not None and spec.type == known.type:
                self._know(known.group, known.type)
            else:
                await self._store.repositories.forget(known.group.name)

    @property
    def active(self) -> bool:
        return bool(self._specs)

    @property
    def specs(self) -> Sequence[Repository]:
        return self._specs

    def groups(self) -> list[tuple[Group, str]]:
        """Every root and its type, by name."""
        return [self._groups[name] for name in sorted(self._groups)]

    def spec_of(self, path: bytes) -> Repository | None:
        """The repository that a path belongs to: the innermost."""
        around = [s for s in self._specs if not s.path or path == s.path or path.startswith(s.path + b"/")]
        return max(around, key=lambda s: len(s.path), default=None)

    def format_of(self, type_: str) -> Format:
        return FORMATS[type_]

    def left_out(self, path: bytes, size: int | None = None) -> bool:
        """Whether the descriptor leaves this file out, or a directory that it is in."""
        if size is not None and size > self._policy.file_size:
            return True
        directory, name = split(path)
        if self._policy.excluded(path, Entry(name, Kind.FILE, size)) is not None:
            return True
        known = self._kinds.get(directory)
        if known is None:
            known = any(
                self._policy.excluded(above, Entry(split(above)[1], Kind.DIRECTORY)) is not None
                for above in ancestors(path)
            )
            if len(self._kinds) > TOLD:
                self._kinds.clear()
            self._kinds[directory] = known
        return known

    # -- what the walk finds

    def listed(self, directory: bytes, entries: Sequence[Entry]) -> None:
        """A directory was listed: the roots in it."""
        spec = self.spec_of(join(directory, b"x"))
        if spec is None:
            return
        form = self.format_of(spec.type)
        paths = [join(directory, entry.name) for entry in entries if entry.kind is Kind.FILE]
        if not any(form.root_part(path) is not None for path in paths):
            return
        for group in form.roots(path for path in paths if not self.left_out(path)):
            known = self._groups.get(group.name)
            if known is None or known[0] != group:
                self.new.add(group.name)
            self._know(group, spec.type)

    def _know(self, group: Group, type_: str) -> None:
        self._groups[group.name] = group, type_
        self._parts.update(group.files)

    async def note(self) -> None:
        """Record the roots that are new, before anything rests on them."""
        if self.new:
            found = [self._groups[name] for name in sorted(self.new)]
            await self._store.repositories.note(states.know, found)

    def forget(self, name: bytes) -> None:
        group, _ = self._groups.pop(name)
        self._parts.difference_update(group.files)

    async def ours(self, directory: bytes, wanted: Sequence[Wanted]) -> list[Wanted]:
        """Of these files, those that are to be fetched now, with the digests that they must have. Roots are
        left out, and what waits for the switch already, and what says that the origin is being updated."""
        spec = self.spec_of(join(directory, b"x"))
        if spec is None:
            return list(wanted)
        form = self.format_of(spec.type)
        paths = [join(directory, want.entry.name) for want in wanted]
        expected = await self._expected(paths)
        kept: list[Wanted] = []
        for want, path in zip(wanted, paths, strict=True):
            if path in self._parts or form.busy(path):
                continue
            said = expected.get(path)
            name = _named(said)
            if name is not None and name.sha256 is not None:
                waiting = await self._store.repositories.ask(states.waiting, path)
                if waiting is not None and waiting.held.sha256 == name.sha256:
                    continue
            kept.append(want if name is None else replace(want, named=True, sha256=name.sha256))
        return kept

    async def _expected(self, paths: Iterable[bytes]) -> Mapping[bytes, Expected]:
        return await self._store.repositories.ask(states.expected, list(paths))

    # -- what has arrived

    async def landed(self, ready: Sequence[tuple[Job, Staged]]) -> list[tuple[Job, Staged, Fate]]:
        """What becomes of each. Those that match a digest of their state say so from now on; those that are
        kept are, when this returns, and those that are refused are gone."""
        inside = [job.path for job, _ in ready if self.spec_of(job.path) is not None]
        expected = await self._expected(inside) if inside else {}
        result: list[tuple[Job, Staged, Fate]] = []
        for job, staged in ready:
            said = expected.get(job.path)
            result.append(
                (job, staged, Fate.PUBLISH) if said is None else await self._judged(job, staged, said)
            )
        self.ahead.difference_update(inside)
        store = self._store
        kept = [(job.visit.path, staged) for job, staged, fate in result if fate is Fate.KEEP]
        if kept:
            await store.repositories.keep(kept)
        refused = [(job, staged) for job, staged, fate in result if fate is Fate.REFUSE]
        if refused:
            await store.repositories.refuse([(job.visit.path, staged) for job, staged in refused])
            self.ahead.update(job.path for job, _ in islice(refused, max(0, TOLD - len(self.ahead))))
            for job, _ in refused:
                self.could_not(job.path, "the origin's file is not what is named")
        return result

    async def _judged(self, job: Job, staged: Staged, said: Expected) -> tuple[Job, Staged, Fate]:
        published = await self._all(staged, said.published) if said.published else None
        candidate = None
        if said.candidates:
            candidate = any([await self._is(staged, one) for one in said.candidates])
        previous = job.wanted.previous
        found = fate(
            published,
            candidate,
            beside=any(one.role > Role.FILE for one in said.candidates),
            replaces=previous is not None and previous.sha256 != staged.held.sha256,
            ahead=job.visit.ahead,
        )
        if found is not Fate.REFUSE:
            staged = replace(staged, held=replace(staged.held, verified="digest"))
        return job, staged, found

    async def _all(self, staged: Staged, names: Sequence[Name]) -> bool:
        return all([await self._is(staged, one) for one in names])

    async def _is(self, staged: Staged, name: Name) -> bool:
        if name.size is not None and name.size != staged.held.size:
            return False
        if name.sha256 is not None:
            return name.sha256 == staged.held.sha256
        repositories = self._store.repositories
        if not await repositories.matches(staged, name):
            return False
        assert staged.held.sha256 is not None
        await repositories.note(states.proven, name, staged.held.sha256)
        return True

    def quiet(self, path: bytes, error: str) -> bool:
        """Whether a file that could not be had is told as what its state lacks, and not by itself."""
        if path not in self.wanted:
            return False
        self.could_not(path, error)
        return True

    def could_not(self, path: bytes, error: str) -> None:
        if len(self.lacking) < TOLD:
            self.lacking[path] = error


def _named(said: Expected | None) -> Name | None:
    """What a file should be: as the newest candidate says, else the published state."""
    if said is None:
        return None
    names = said.candidates or said.published
    return names[-1]

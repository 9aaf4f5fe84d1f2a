"""The newest state of a root, as the origin has it: fetched apart, checked, and what it names in the records.

Nothing here becomes public. A root is read, its signature is checked; then the indexes that it names are
fetched, each must have the digest that the root gives it, and what they name is recorded. `Unsettled` is
raised where the parts do not fit together, as in the middle of an update: it is looked at again soon.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from cluster.engine.context import Context, Stage, Visit
from cluster.errors import BadSignature, NotAListing, Vanished
from cluster.model import SECOND, Entry, Facts, Held, Kind, Listing, Stamp, join, shown, split
from cluster.origin.base import Want
from cluster.plan.compare import Evidence, Wanted, answer, fetched, validator
from cluster.repository.base import MAX_ROOT, STRONG, Format, Group, Named, Order, Role, Root, to_read
from cluster.signatures.check import signed
from cluster.store import states
from cluster.store.once import Need
from cluster.store.states import Name, Stand, State

if TYPE_CHECKING:
    from cluster.engine.fetcher import Fetcher
    from cluster.store.tree import Staged

BATCH = 1000  # names of an index that are recorded together
BESIDE = (Role.EXTRA, Role.INDEX)


class Unsettled(Exception):
    """The parts of a state do not fit together, or are not all there: the origin may be changing them."""


class Rollback(Exception):
    """The origin has an older state than the one that is published here (HAZARDS 46)."""


class Candidates:
    """See the module. Raises OriginError, RepositoryError and StoreError as well."""

    def __init__(self, context: Context, fetcher: Fetcher) -> None:
        self._context, self._fetcher = context, fetcher
        self._verdicts, self._books = context.verdicts, context.store.repositories

    async def newest(self, group: Group, type_: str) -> State | None:
        """The candidate of a root, all its names known; None where what is published is the newest."""
        known = await self._books.ask(states.states, group.name)
        candidate = next((one for one in known if one.stand is Stand.CANDIDATE), None)
        published = next((one for one in known if one.stand is Stand.PUBLISHED), None)
        whole = candidate.read if candidate is not None else published is not None
        if whole and await self._unchanged(group):
            return candidate
        return await self._read(group, self._verdicts.format_of(type_), published)

    async def _unchanged(self, group: Group) -> bool:
        """Whether each part of the root is the one that waits or is published here, as the origin says."""
        for path in group.files:
            waiting = await self._books.ask(states.waiting, path)
            have = waiting.held if waiting is not None else await self._context.store.held(path)
            if have is None or have.unknown:
                return False
            if answer(await self._context.origin.facts(path), have) is not Evidence.SAME:
                return False
        return True

    # -- the root

    async def _read(self, group: Group, form: Format, published: State | None) -> State:
        bodies: dict[bytes, bytes] = {}
        kept: list[tuple[bytes, Held, bytes]] = []
        for path in group.files:
            body, held = await self._part(path)
            bodies[path] = body
            kept.append((split(path)[0], held, body))
        spec = self._verdicts.spec_of(group.files[0])
        texts = {path: bodies[path] for path in group.read}
        if spec is not None and spec.keyring is not None and group.signatures:
            texts = await asyncio.to_thread(_signed, group, bodies, spec.keyring)
        root, *others = [form.read_root(path, text) for path, text in texts.items()]
        if root.itself is not None and any(one.order is None for one in (root, *others)):
            await asyncio.to_thread(_agreed, form, root, bodies, group.read)
        if form.dated and root.order is None:
            times = {join(directory, held.name): held.mtime for directory, held, _ in kept}
            root, *others = [_dated(one, times[root.path]) for one in (root, *others)]
        for other in others:
            if set(other.named) != set(root.named) or not _at_once(root.order, other.order):
                raise Unsettled(f"{shown(other.path)} does not say what {shown(root.path)} says")
        if published and published.order and root.order and root.order.before(published.order):
            await self._older(group, root, root.order, bodies, published.order)
        state = await self._propose(group, root, bodies, published)
        staged = await self._context.store.stage_small([(held, body) for _, held, body in kept])
        await self._books.keep(
            [(directory, one) for (directory, _, _), one in zip(kept, staged, strict=True)]
        )
        await self._beside(state, root)
        await self._indexes(state, root, form, bodies)
        return state

    async def _older(
        self, group: Group, root: Root, now: Order, bodies: Mapping[bytes, bytes], published: Order
    ) -> None:
        """Raises Rollback for what no operator has approved."""
        told = hashlib.sha256(bodies[root.path]).digest()
        if not await self._books.note(states.hold, group.name, told):
            raise Rollback(
                f"{shown(root.path)}: rollback: {now.kind} {now.key}, in the published state "
                f"{published.key}; held until it is approved (`sideways repositories`)"
            )

    async def _part(self, path: bytes) -> tuple[bytes, Held]:
        """One file of a root, and its record."""
        context = self._context
        asked = int(context.clock.now() * SECOND)
        pieces, size = [], 0
        async with context.origin.read(path, Want(limit=MAX_ROOT)) as body:
            async for chunk in body.chunks():
                pieces.append(chunk)
                size += len(chunk)
            facts = body.facts
        entry = Entry(split(path)[1], Kind.FILE, size, mtime=facts.mtime)
        return b"".join(pieces), self._held(entry, facts, size, asked)

    def _held(self, entry: Entry, facts: Facts, size: int, asked: int) -> Held:
        context = self._context
        return fetched(
            entry,
            context.mirror.attributes,
            size=size,
            sha256=None,
            mtime=facts.mtime,
            etag=validator(facts, asked),
            source="origin",
            verified="origin",
            copied=int(context.clock.now()),
            settled=facts.mtime is None or facts.mtime.over(asked),
            keep_ids=context.policy.keep_ids,
        )

    async def _propose(
        self, group: Group, root: Root, bodies: dict[bytes, bytes], published: State | None
    ) -> State:
        parts = {
            path: _known(path, Role.ROOT, turn, bodies[path])
            for turn, path in enumerate(group.files, int(Role.ROOT))
        }
        others = (one for one in root.named if one.path not in parts)
        now = int(self._context.clock.now())
        new = State(
            0,
            group.name,
            Stand.CANDIDATE,
            hashlib.sha256(bodies[root.path]).digest(),
            root.label,
            root.order,
            root.valid_until,
            now,
            False,
        )
        return await self._books.propose(new, [*parts.values(), *self._names(others)])

    def _names(self, named: Iterable[Named]) -> Iterator[Name]:
        """Those of them that the descriptor does not leave out."""
        for one in named:
            if not self._verdicts.left_out(one.path, one.size):
                yield _name(one)

    # -- the indexes

    async def _beside(self, state: State, root: Root) -> None:
        """Bring what the root itself names. What is optional, and neither here nor at the origin, is left
        out of the state."""
        lacking = await self._lacking(state)
        if lacking:
            copies = {one.path: one.copies for one in root.named}
            await self._ask_listed(state, lacking)
            lacking = await self._lacking(state)
            for name in lacking:
                await self._by_copy(state, name, copies.get(name.path, ()))
            lacking = await self._lacking(state)
        if lacking:
            first = lacking[0].path
            why = self._verdicts.lacking.get(first, "is not there, or another version than is named")
            more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            raise Unsettled(f"{shown(first)}: {why}{more}")
        await self._copies(state, root)

    async def _lacking(self, state: State) -> list[Name]:
        """What the root names beside files and is not in place. What may be absent counts where it is
        here."""
        found: list[Name] = []
        after: bytes | None = None
        while page := await self._books.ask(states.missing, state.id, BESIDE, after):
            after = page[-1].path
            for name in page:
                if await self._in_place(name):
                    continue
                found.append(name)
        return found

    async def _in_place(self, name: Name) -> bool:
        """Whether it waits, or is here: also where it is named by another digest, or its directory is to be
        made by the walk."""
        if name.sha256 is None:
            return await self._books.prove(name)
        waiting = await self._books.ask(states.waiting, name.path)
        return waiting is not None and waiting.held.sha256 == name.sha256

    async def _ask_listed(self, state: State, lacking: Sequence[Name]) -> None:
        """Fetch those that are listed."""
        by_directory: dict[bytes, list[Name]] = {}
        for name in lacking:
            by_directory.setdefault(split(name.path)[0], []).append(name)
        for directory, names in by_directory.items():
            listed = await self._listing(directory)
            wanted: list[Wanted] = []
            for name in names:
                entry = listed.get(split(name.path)[1])
                have = await self._context.store.held(name.path)
                if entry is None:
                    if name.optional and have is None:
                        await self._books.note(states.leave_out, state.id, name.path)
                elif entry.size is None or entry.size == name.size:
                    wanted.append(Wanted(entry, have, named=True, sha256=name.sha256))
            await self._take(directory, wanted)

    async def _listing(self, directory: bytes) -> dict[bytes, Entry]:
        try:
            listing: Listing = await self._context.origin.listing(directory)
        except (Vanished, NotAListing):
            return {}
        return {entry.name: entry for entry in listing.entries if entry.kind is Kind.FILE}

    async def _take(self, directory: bytes, wanted: Sequence[Wanted]) -> None:
        """Fetch these, like everything else; what cannot be had is in `lacking` afterwards."""
        if not wanted:
            return
        verdicts = self._verdicts
        paths = {join(directory, want.entry.name) for want in wanted}
        verdicts.wanted |= paths
        try:
            asked = int(self._context.clock.now() * SECOND)
            visit = Visit(directory, Stage.NAMED, listed_at=asked, ahead=True)
            await self._fetcher.take(visit, wanted)
            await self._fetcher.drained()
        finally:
            verdicts.wanted -= paths

    async def _by_copy(self, state: State, name: Name, copies: Sequence[bytes]) -> None:
        """The origin has gone on: an index of this state may still be had under a name by its digest."""
        copy = _best(copies)
        if copy is None or name.sha256 is None:
            return
        one = Name(copy, Role.EXTRA, name.turn, name.size, name.algorithm, name.digest, name.sha256)
        await self._books.note(states.add, state.id, [one])
        directory, last = split(copy)
        have = await self._context.store.held(copy)
        if have is None or have.sha256 != name.sha256:
            entry = Entry(last, Kind.FILE, name.size)
            await self._take(directory, [Wanted(entry, have, named=True, sha256=name.sha256)])
        await self._copied(copy, name, None)

    async def _copied(self, source: bytes, name: Name, listed: Entry | None) -> bool:
        """Let `name` wait with the bytes that are here under another name. Whether they are."""
        context = self._context
        entry = listed or Entry(split(name.path)[1], Kind.FILE, name.size)
        asked = int(context.clock.now() * SECOND)
        facts = Facts(size=name.size, mtime=entry.mtime)
        held = self._held(entry, facts, name.size or 0, asked)
        found = await self._books.ask(states.waiting, source)
        known = found.held if found is not None else await context.store.held(source)
        if known is None or known.sha256 != name.sha256:
            return False
        held = replace(held, sha256=known.sha256, mtime=entry.mtime or known.mtime, verified="digest")
        staged = await self._here(name, held) or await self._books.copy(source, held)
        if staged is not None:
            await self._books.keep([(split(name.path)[0], staged)])
        return staged is not None

    async def _here(self, name: Name, held: Held) -> Staged | None:
        """The same where the copy takes no room, as far as the descriptor asks for that."""
        once, report = self._context.once, self._context.report
        if once is None or not held.size:
            return None
        need = Need(name.path, held)
        (shared,) = await once.stage([need], await once.find([held.sha256 or b""]), copy=False)
        if shared is None:
            return None
        report.bytes_shared += shared.room
        return shared.staged

    async def _copies(self, state: State, root: Root) -> None:
        """Names by digest under which clients ask for what the root names, made of the bytes that are here.
        Where there are such names in a directory, at the origin or here, all of a state belong to it: an
        origin in the middle of an update may not have them yet, or no longer."""
        listed: dict[bytes, dict[bytes, Entry]] = {}
        for one in root.named:
            original = _name(one)
            if not one.copies or self._verdicts.left_out(one.path, one.size):
                continue
            waiting = await self._books.ask(states.waiting, one.path)
            held = waiting.held if waiting is not None else await self._context.store.held(one.path)
            if held is None or held.sha256 is None or held.sha256 != original.sha256:
                continue
            for copy in one.copies:
                if self._verdicts.left_out(copy, one.size):
                    continue
                directory, last = split(copy)
                have = await self._context.store.held(copy)
                here = have is not None and have.sha256 == held.sha256
                if not here and directory not in listed:
                    listed[directory] = await self._listing(directory)
                if not here and not listed[directory] and await self._context.store.held(directory) is None:
                    continue
                name = Name(copy, Role.EXTRA, original.turn, one.size, "sha256", held.sha256, held.sha256)
                await self._books.note(states.add, state.id, [name])
                if not here and await self._books.ask(states.waiting, copy) is None:
                    await self._copied(one.path, name, listed[directory].get(last))

    async def _indexes(self, state: State, root: Root, form: Format, bodies: dict[bytes, bytes]) -> None:
        """Record what the indexes name."""
        if root.itself is not None:
            await self._index(state, root, form, root.itself, io.BytesIO(bodies[root.path]))
        present = {name.path for name in await self._books.ask(states.names, state.id, Role.INDEX)}
        for index in to_read(one for one in root.named if one.path in present):
            stream = await self._books.open(index.path)
            if stream is None:
                raise Unsettled(f"{shown(index.path)}: was here a moment ago")
            with stream:
                await self._index(state, root, form, index, stream)
        await self._books.note(states.mark_read, state.id)

    async def _index(self, state: State, root: Root, form: Format, index: Named, stream: BinaryIO) -> None:
        named = self._names(form.read_index(root, index, stream))
        while some := await asyncio.to_thread(lambda: list(islice(named, BATCH))):
            await self._books.note(states.add, state.id, some)


def _signed(group: Group, bodies: Mapping[bytes, bytes], keyring: str) -> dict[bytes, bytes]:
    """What of a root is signed, the best to be read first. One that has no signature of its own is not
    believed beside one that has. Raises BadSignature, Unverifiable."""
    ways = {way.signed: way for way in group.signatures}
    texts: dict[bytes, bytes] = {}
    for path in group.read:
        way = ways.get(path)
        apart = [bodies[other] for other in way.detached if other in bodies] if way is not None else []
        if way is not None and (way.inline or apart):
            texts[path] = signed(path, bodies[path], None if way.inline else apart[0], keyring).text
    if not texts:
        raise BadSignature(shown(group.read[0]), "there is no signature of it")
    return texts


def _at_once(one: Order | None, other: Order | None) -> bool:
    """Whether two parts of a root stand at the same place, as far as both say where."""
    return one is None or other is None or one == other


def _agreed(form: Format, root: Root, bodies: Mapping[bytes, bytes], paths: Sequence[bytes]) -> None:
    """Parts that are each an index, and do not all say where they stand, are of one state where they name the
    same files. Raises Unsettled where they do not, as between two steps of an update; RepositoryError."""
    assert root.itself is not None
    first = bodies[root.path]
    others = {bodies[path]: path for path in reversed(paths) if bodies[path] != first}
    if not others:
        return
    said = _named(form, root, root.itself, first)
    for body, path in others.items():
        told = _named(form, root, replace(root.itself, path=path), body)
        if said.keys() != told.keys() or not all(_alike(one, told[name]) for name, one in said.items()):
            raise Unsettled(f"{shown(path)} does not name the files that {shown(root.path)} names")


def _named(form: Format, root: Root, index: Named, body: bytes) -> dict[bytes, Named]:
    """What must be there of what an index names."""
    return {one.path: one for one in form.read_index(root, index, io.BytesIO(body)) if not one.optional}


def _alike(one: Named, other: Named) -> bool:
    return all(other.digest(algorithm) in (None, digest) for algorithm, digest in one.digests)


def _dated(root: Root, at: Stamp | None) -> Root:
    """With the time that the origin tells of its file, where that is told to the second."""
    exact = at is not None and at.precision <= SECOND
    return replace(root, order=Order("mtime", at.ns // SECOND)) if at is not None and exact else root


def _known(path: bytes, role: Role, turn: int, body: bytes) -> Name:
    digest = hashlib.sha256(body).digest()
    return Name(path, role, turn, len(body), "sha256", digest, digest)


def _name(one: Named) -> Name:
    """With the one digest by which it is judged: SHA-256, else the strongest."""
    told = sorted((name for name, _ in one.digests), key=lambda name: (name != "sha256", name not in STRONG))
    kind = told[0] if told else ""
    digest = one.digest(kind) or b""
    sha256 = digest if kind == "sha256" else None
    return Name(one.path, one.role, int(one.role), one.size, kind, digest, sha256, one.optional)


def _best(copies: Sequence[bytes]) -> bytes | None:
    """By SHA-256 where there is such a name: every origin that has any has that."""
    return next((copy for copy in copies if b"/SHA256/" in copy), copies[0] if copies else None)

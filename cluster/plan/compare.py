"""Compare what an origin lists with what we hold.

Pure: a listing and our records in, a difference out. Times compare by inequality at the coarser precision
of the two, never by "newer": a clock that was wrong once must not hide a change for ever (TUF's
fast-forward). A rounded size proves no equality.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from cluster.model import (
    SECOND,
    STATUS_FILE,
    Attributes,
    Entry,
    Facts,
    Held,
    Kind,
    Listing,
    Skipped,
    Stamp,
    depth,
    join,
    value,
)
from cluster.plan import links
from cluster.plan.select import Decide, reason_of


class Evidence(enum.Enum):
    """What a listed row says about the version that we hold."""

    SAME = "same"
    CHANGED = "changed"
    ASK = "ask"  # nothing that proves either: the origin is asked about this file (HEAD)


def evidence(entry: Entry, held: Held, *, foreign: bool = False) -> Evidence:
    """Whether a listed file is the version we hold, by the row that it was fetched by.

    `foreign`: the row may be another origin's. Sizes are not rounded alike everywhere, and the time that a
    file came with is as good as the one that was listed.
    """
    if entry.ambiguous:
        return Evidence.ASK
    if entry.size is not None:
        if entry.size != held.size:
            return Evidence.CHANGED
    elif (
        not foreign
        and entry.rounded is not None
        and held.row.rounded is not None
        and entry.rounded != held.row.rounded
    ):
        return Evidence.CHANGED
    then = held.row.mtime or held.mtime
    if entry.mtime is None or then is None:
        return Evidence.ASK
    came = foreign and held.mtime is not None and entry.mtime.agrees(held.mtime)
    if not (came or entry.mtime.agrees(then)):
        return Evidence.CHANGED
    return Evidence.SAME if held.settled else Evidence.ASK


SKEW = 2 * SECOND  # between an origin's clock and ours, at most, where both are kept
YOUNG = ""  # the validator of what was read within the second of its own Last-Modified


def young(mtime: Stamp | None, listed_at: int) -> bool:
    """Whether what is read now may change once more without a sign of it in its time, as far as clocks can be
    trusted. `listed_at`: ns."""
    return mtime is not None and mtime.ns + mtime.precision > listed_at - SKEW


def validator(facts: Facts, listed_at: int) -> str | None:
    """What can prove later that a file is still the one that was read after `listed_at` (ns). A time that
    lies further ahead than clocks differ is an old file's."""
    mtime = facts.mtime
    young = mtime is not None and mtime.ns - SKEW <= listed_at and not mtime.over(listed_at)
    return YOUNG if young else facts.etag


def answer(facts: Facts, held: Held, *, foreign: bool = False) -> Evidence:
    """The same, once the origin was asked about the file alone. Never ASK. The validator of a `foreign`
    record may be another origin's, and proves nothing here.

    A strong validator decides where both are known; else size and time must be told and agree. What was
    read within the second of its own Last-Modified may have been changed again in that second, and has no
    validator that could tell (RFC 9110 section 8.8.2.2; nginx's is made of size and second).
    """
    if held.etag == YOUNG or (facts.size is not None and facts.size != held.size):
        return Evidence.CHANGED
    if facts.etag is not None and held.etag is not None and not foreign:
        return Evidence.SAME if facts.etag == held.etag else Evidence.CHANGED
    if facts.mtime is not None and held.mtime is not None:
        return Evidence.SAME if facts.mtime.agrees(held.mtime) else Evidence.CHANGED
    return Evidence.CHANGED


# -- attributes ------------------------------------------------------------------------------


def mode_for(kind: Kind, told: int | None, attributes: Attributes) -> int:
    """The permission bits of a name here: what the origin tells without set-id, sticky and write bits for
    others; 0644 and 0755 where it tells none; the descriptor's word above both (HAZARDS 26).
    """
    directory = kind is Kind.DIRECTORY
    asked = attributes.directory_mode if directory else attributes.file_mode
    if asked is None:
        asked = told if told is not None else (0o755 if directory else 0o644)
    return asked & 0o775


def is_private(kind: Kind, told: int | None) -> bool:
    """Whether the origin keeps this from the world: it is mirrored and shared sideways, never served."""
    if told is None or kind is Kind.SYMLINK:
        return False
    needed = 0o005 if kind is Kind.DIRECTORY else 0o004
    return told & needed != needed


def record(
    entry: Entry,
    attributes: Attributes,
    *,
    settled: bool = True,
    base: Held | None = None,
    keep_ids: bool = False,
) -> Held:
    """The record of a listed name as it should be here; `base` lends what describes its bytes, and to a row
    in doubt that tells none its mode."""
    doubted = base if base and entry.ambiguous and entry.mode is None else None
    mode = doubted.mode if doubted else mode_for(entry.kind, entry.mode, attributes)
    return Held(
        name=entry.name,
        kind=entry.kind,
        size=base.size if base else entry.size or 0,
        sha256=base.sha256 if base else None,
        mtime=(base.mtime if base and entry.kind is Kind.FILE else None) or entry.mtime,
        row=entry.row,
        mode=None if entry.kind is Kind.SYMLINK else mode,
        uid=entry.uid if keep_ids else None,
        gid=entry.gid if keep_ids else None,
        target=entry.target,
        link=entry.link,
        etag=base.etag if base else None,
        settled=settled,
        source=base.source if base else "origin",
        verified=base.verified if base else "",
        copied=base.copied if base else 0,
        disk_mtime=base.disk_mtime if base else 0,
        inode=base.inode if base else 0,
        private=doubted.private if doubted else is_private(entry.kind, entry.mode),
    )


def fetched(
    entry: Entry,
    attributes: Attributes,
    *,
    size: int,
    sha256: bytes | None,
    mtime: Stamp | None,
    etag: str | None,
    source: str,
    verified: str,
    copied: int,
    settled: bool,
    keep_ids: bool,
    disk_mtime: int = 0,
    inode: int = 0,
) -> Held:
    """The record of a file whose bytes have just arrived from `source`."""
    return Held(
        name=entry.name,
        kind=entry.kind,
        size=size,
        sha256=sha256,
        mtime=mtime,
        row=entry.row,
        mode=mode_for(entry.kind, entry.mode, attributes),
        uid=entry.uid if keep_ids else None,
        gid=entry.gid if keep_ids else None,
        link=entry.link,
        etag=etag,
        settled=settled,
        source=source,
        verified=verified,
        copied=copied,
        disk_mtime=disk_mtime,
        inode=inode,
        private=is_private(entry.kind, entry.mode),
    )


def same_attributes(want: Held, held: Held) -> bool:
    """Whether nothing but bytes could differ on disk."""
    return (
        want.mode == held.mode
        and want.private == held.private
        and (want.uid is None or (want.uid, want.gid) == (held.uid, held.gid))
        and (want.kind is not Kind.DIRECTORY or want.mtime is None or want.mtime == held.mtime)
    )


# -- one directory ---------------------------------------------------------------------------


@value
class Wanted:
    """A file whose bytes are needed (or whose record must be settled: `ask`), and what we hold of it.
    `named`: a repository says what its bytes must be, which is `sha256` where that is known."""

    entry: Entry
    previous: Held | None = None
    ask: bool = False
    named: bool = False
    sha256: bytes | None = None


def again(entry: Entry, have: Held) -> Wanted:
    """A file whose bytes are fetched from the origin, whatever its record says: its validator and its time
    came with the bytes, from a sibling that was caught, and `answer` finds nothing to go by.
    """
    return Wanted(entry, replace(have, etag=None, mtime=None), ask=True)


@dataclass(slots=True)
class Difference:
    """What one directory needs. Lists are in the order of names."""

    unchanged: int = 0
    unchanged_bytes: int = 0
    directories: list[Held] = field(default_factory=list)  # to walk into
    made: list[Held] = field(default_factory=list)  # directories and symlinks to make or to point anew
    attributes: list[Held] = field(default_factory=list)  # on disk as to bytes; mode, owner or time differ
    wanted: list[Wanted] = field(default_factory=list)
    adopt: list[Entry] = field(default_factory=list)  # on disk, not (or no longer surely) in our records
    relink: list[Held] = field(default_factory=list)  # the origin's hard-link group is another one now
    skipped: list[Skipped] = field(default_factory=list)
    missing: set[bytes] = field(default_factory=set)  # held, and proven absent or of another kind
    waiting: int = 0  # listed names that cannot appear before what stands there has gone


@value
class Policy:
    """What of a mirror's descriptor bears on comparing."""

    attributes: Attributes
    excluded: Decide
    file_size: int
    max_depth: int
    keep_ids: bool = False
    foreign: bool = False  # what is held may have been recorded from another origin
    links: bool = True  # the origin tells symbolic links


def compare(
    path: bytes,
    listing: Listing,
    held: Mapping[bytes, Held],
    policy: Policy,
    *,
    damaged: Collection[bytes] = (),
    worn: Collection[bytes] = (),
    strangers: Collection[bytes] = (),
    suspects: Collection[bytes] = (),
    hard_links: bool = False,
) -> Difference:
    """What to do so that directory `path` becomes what `listing` says. Decides nothing about deletion:
    `missing` is evidence that a later judgement needs. `suspects` are wanted again though their rows agree.
    `hard_links`: the origin tells which names are one file, so that saying nothing means that none are. A
    list that it publishes tells less than its listings: as if it were another origin's.
    """
    if listing.secondhand:
        policy, hard_links = replace(policy, foreign=True), False
    difference = Difference()
    difference.skipped.extend(Skipped(r.name, r.kind, r.reason) for r in listing.rejected)
    mirrored: set[bytes] = set()
    for entry in listing.entries:
        reason = _left_out(path, entry, policy)
        if reason:
            difference.skipped.append(Skipped(entry.name, entry.kind, reason, entry.size, entry.mtime))
            continue
        mirrored.add(entry.name)
        have = held.get(entry.name)
        if have is not None and _seen_through(entry, have, policy) and entry.name not in damaged:
            continue
        if have is not None and _other_kind(entry.kind, have.kind) and entry.name not in damaged:
            if not entry.ambiguous:
                difference.missing.add(entry.name)
            difference.waiting += 1
        elif entry.kind is Kind.FILE:
            _file(difference, entry, have, policy, damaged, strangers, suspects, hard_links)
        else:
            _made(difference, entry, have, policy, entry.name in damaged, entry.name in worn)
    difference.missing.update(name for name in held if name not in mirrored)
    return difference


def _other_kind(listed: Kind, held: Kind) -> bool:
    """A directory for something else, or the reverse. A file and a link replace each other by one rename."""
    return (listed is Kind.DIRECTORY) != (held is Kind.DIRECTORY)


def _seen_through(entry: Entry, have: Held, policy: Policy) -> bool:
    """A link that another origin told, where this one shows what it leads to: it stays a link."""
    linked = have.kind is Kind.SYMLINK and entry.kind is not Kind.SYMLINK
    return linked and policy.foreign and not policy.links


def _as_told(want: Held, entry: Entry, have: Held, policy: Policy) -> Held:
    """What another origin told and this one does not say, or says less exactly, stays as it is."""
    if not policy.foreign:
        return want
    directory = entry.kind is Kind.DIRECTORY
    asked = policy.attributes.directory_mode if directory else policy.attributes.file_mode
    if entry.mode is None and asked is None and want.mode is not None:
        want = replace(want, mode=have.mode, private=have.private)
    if directory and have.mtime is not None and want.mtime is not None and want.mtime.agrees(have.mtime):
        want = replace(want, mtime=have.mtime)
    return want


def _left_out(path: bytes, entry: Entry, policy: Policy) -> str:
    rule = policy.excluded(join(path, entry.name), entry)
    if rule is not None:
        return reason_of(rule)
    if entry.name == STATUS_FILE:
        return "the name is taken by status files"
    if entry.kind is Kind.SPECIAL:
        return "neither file, directory nor link"
    if entry.kind is Kind.SYMLINK:
        return links.refusal(path, entry.target or b"")
    if entry.kind is Kind.FILE and entry.size is not None and entry.size > policy.file_size:
        return f"larger than {policy.file_size} bytes"
    if entry.kind is Kind.DIRECTORY and depth(path) >= policy.max_depth:
        return "depth-limit"
    return ""


def _file(
    difference: Difference,
    entry: Entry,
    have: Held | None,
    policy: Policy,
    damaged: Collection[bytes],
    strangers: Collection[bytes],
    suspects: Collection[bytes],
    hard_links: bool,
) -> None:
    if have is None or have.kind is not Kind.FILE:
        if entry.name in strangers:
            difference.adopt.append(entry)
        else:
            difference.wanted.append(Wanted(entry, have))
        return
    seen = evidence(entry, have, foreign=policy.foreign)
    if entry.name in suspects and seen is not Evidence.CHANGED:
        difference.wanted.append(again(entry, have))
        return
    if have.unknown or entry.name in damaged:
        difference.adopt.append(entry)
        return
    told = entry.link is not None or hard_links
    relink = seen is not Evidence.CHANGED and told and entry.link != have.link
    if seen is not Evidence.SAME and not relink:
        difference.wanted.append(Wanted(entry, have, ask=seen is Evidence.ASK))
        return
    want = record(entry, policy.attributes, base=have, settled=have.settled, keep_ids=policy.keep_ids)
    want = _as_told(want, entry, have, policy)
    if relink:
        difference.relink.append(want)
    elif not same_attributes(want, have):
        difference.attributes.append(want)
    else:
        difference.unchanged += 1
        difference.unchanged_bytes += have.size


def _made(
    difference: Difference, entry: Entry, have: Held | None, policy: Policy, damaged: bool, worn: bool
) -> None:
    want = record(
        entry,
        policy.attributes,
        keep_ids=policy.keep_ids,
        base=have if have and have.kind is entry.kind else None,
    )
    if have is not None and have.kind is entry.kind:
        want = _as_told(want, entry, have, policy)
    if entry.kind is Kind.DIRECTORY:
        difference.directories.append(want)
    if (
        have is None
        or have.kind is not entry.kind
        or damaged
        or (entry.kind is Kind.SYMLINK and have.target != entry.target)
    ):
        difference.made.append(want)
    elif worn or not same_attributes(want, have):
        difference.attributes.append(want)

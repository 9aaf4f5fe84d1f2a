"""The nouns: what origins say, what we hold, and what an operator decided.

Values only. Names and paths are bytes: a path is relative to the mirror's root, its components joined
by `/`, and the root itself is `b""`. Sizes are bytes, times are nanoseconds since 1970 UTC.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform
from urllib.parse import quote_from_bytes, unquote_to_bytes

from cluster.errors import UnsafeName

SECOND = 10**9
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND

MAX_NAME = 255  # NAME_MAX of every file system we run on
MAX_PATH = 4095
MAX_DEPTH = 64

STATUS_FILE = b".sideways.json"  # our name in the status tree; an origin's entry of that name is refused


_UNRESERVED = re.compile(rb"[A-Za-z0-9._~/-]*").fullmatch  # most paths: RFC 3986, section 2.3

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(noun: type[_T]) -> type[_T]:
    """A frozen dataclass with slots, where the type checker is what keeps it frozen.

    A pass makes about twelve of them for each file. Python's own `frozen=True` sets every field through
    `object.__setattr__`, which made them a fifth of the processor time of a first copy. And each method that
    `dataclass` writes is compiled whenever a program starts: for all nouns together that took longer than
    some passes do, so they share these. What is left out of a comparison is left out of the text as well.
    """
    made = dataclass(slots=True, eq=False, repr=False)(noun)
    names = [one.name for one in fields(made) if one.compare]  # type: ignore[arg-type]  # it is one now
    told: Any = made
    if len(names) > 1:
        told._told = attrgetter(*names)
    else:
        told._told = staticmethod(lambda one: tuple(getattr(one, name) for name in names))
    told._form = f"{made.__qualname__}({', '.join(f'{name}=%r' for name in names)})"
    told.__eq__, told.__hash__, told.__repr__ = _equal, _hash, _repr
    return made


def _equal(one: Any, other: Any) -> Any:  # noqa: ANN401  # a noun, and whatever stands beside it
    return one._told(one) == one._told(other) if other.__class__ is one.__class__ else NotImplemented


def _hash(one: Any) -> int:  # noqa: ANN401
    return hash(one._told(one))


def _repr(one: Any) -> str:  # noqa: ANN401
    return str(one._form % one._told(one))


class Kind(enum.StrEnum):
    """What a name is. SPECIAL (device, socket, FIFO) is never opened and never made."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    SPECIAL = "special"


# -- names -----------------------------------------------------------------------------------


def checked_name(name: bytes) -> bytes:
    """`name`, if it is one plain path component.

    Raises UnsafeName for an empty name, `.`, `..`, a slash, NUL, or more than 255 bytes (HAZARDS 1-5).
    """
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name or len(name) > MAX_NAME:
        raise UnsafeName(f"{shown(name)!r}: not a plain file name")
    return name


def checked_path(path: bytes) -> bytes:
    """`path`, if every component is plain; `b""` is the root. Raises UnsafeName."""
    if path:
        if len(path) > MAX_PATH:
            raise UnsafeName(f"{shown(path[:40])!r}...: longer than {MAX_PATH} bytes")
        for name in path.split(b"/"):
            checked_name(name)
    return path


def join(directory: bytes, name: bytes) -> bytes:
    """The path of `name` in `directory`."""
    return directory + b"/" + name if directory else name


def split(path: bytes) -> tuple[bytes, bytes]:
    """`(directory, name)` of a path that is not the root."""
    directory, _, name = path.rpartition(b"/")
    return directory, name


def depth(path: bytes) -> int:
    """0 for the root, 1 for what it holds."""
    return path.count(b"/") + 1 if path else 0


def shown(path: bytes) -> str:
    """For people: UTF-8 where it is, everything unprintable escaped. One line, no control characters."""
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def href(path: bytes) -> str:
    """The key of a path in URLs and JSON: percent-encoded bytes, slashes kept."""
    if _UNRESERVED(path):
        return path.decode("ascii")
    return quote_from_bytes(path, safe="/~")


def from_href(text: str) -> bytes:
    """The path that `href` encoded, checked. Raises UnsafeName."""
    return checked_path(unquote_to_bytes(text))


# -- what an origin says ---------------------------------------------------------------------


@value
class Stamp:
    """A time as it was told. `precision` is the width in ns of the interval that begins at `ns`."""

    ns: int
    precision: int = 1

    def agrees(self, other: Stamp) -> bool:
        """Whether both can be the same instant, at the coarser precision of the two. Never "newer"."""
        if self.ns == other.ns:
            return True
        width = max(self.precision, other.precision)
        return self.ns // width == other.ns // width

    def over(self, now: int) -> bool:
        """Whether the interval had ended at `now` (ns): a file changed later cannot carry this stamp."""
        return self.ns + self.precision <= now


@value
class Row:
    """What one listing shows of a name's version: the evidence that a later listing is compared with.

    `size` is exact or None; `rounded` is a size as displayed ("1.2M"), which proves no equality.
    """

    size: int | None = None
    rounded: str | None = None
    mtime: Stamp | None = None


@value
class Entry:
    """One name in a listing. None means that the listing did not say."""

    name: bytes
    kind: Kind = Kind.FILE
    size: int | None = None
    rounded: str | None = None
    mtime: Stamp | None = None
    mode: int | None = None  # permission bits, 0o7777
    uid: int | None = None
    gid: int | None = None
    target: bytes | None = None  # of a symlink
    link: str | None = None  # equal values in one pass: hard links to one file
    links: int = 1  # how many names that file has at the origin
    ambiguous: bool = False  # listed twice with different facts: the origin is asked (HAZARDS 21)

    @property
    def row(self) -> Row:
        return Row(self.size, self.rounded, self.mtime)


@value
class Rejected:
    """Something in a listing that is not mirrored, and why. `name` is as it was found."""

    name: bytes
    reason: str
    kind: Kind = Kind.FILE


@value
class Listing:
    """A complete, recognised listing of one directory: unique names, sorted by their bytes.

    `zone_known` is False where the server shows its wall clock without saying its zone: `mtime` is then
    that wall clock read as UTC. `own` carries the directory's own attributes where they are told.
    """

    entries: tuple[Entry, ...]
    rejected: tuple[Rejected, ...] = ()
    zone_known: bool = True
    format: str = ""
    size: int = 0  # bytes received
    own: Entry | None = None
    token: bytes = b""  # the same for the same page; empty where the origin has none
    same: bool = False  # the page is the one whose token was given: its entries are left out
    age: float = 0.0  # s before it was asked for here that the origin had been asked: with other directories
    secondhand: bool = False  # out of a list that the origin publishes: what it lacks proves nothing


@value
class Facts:
    """What the origin says of one file when asked about it alone (HEAD, stat). None: not told."""

    size: int | None = None
    mtime: Stamp | None = None
    etag: str | None = None  # a strong validator with its quotes, or None
    kind: Kind = Kind.FILE
    ranges: bool = False  # parts may be asked for
    copy: str = ""  # the host that sends it, where that is an origin for bytes only


# -- what we hold ----------------------------------------------------------------------------


@value
class Held:
    """One name as the store has it: what is on disk, and the row it was fetched by.

    `sha256` and `size` belong to files; `target` to symlinks. `settled` is False when the listed interval
    was not over when the origin was asked: the next pass asks again. `unknown` marks a name that must be
    verified on disk before it is believed (HAZARDS 3.4). `disk_mtime` and `inode` are what lstat told
    after publication: a mismatch means that somebody else changed it (HAZARDS 109).
    """

    name: bytes
    kind: Kind
    size: int = 0
    sha256: bytes | None = None
    mtime: Stamp | None = None
    row: Row = field(default_factory=Row)
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    target: bytes | None = None
    link: str | None = None
    etag: str | None = None
    settled: bool = True
    unknown: bool = False
    source: str = "origin"  # or the sibling's name
    verified: str = ""  # by what the bytes were accepted: "origin", "sibling kent", "digest"
    copied: int = 0  # s since 1970
    disk_mtime: int = 0  # ns
    inode: int = 0
    private: bool = False  # unreadable for the world at the origin: shared sideways, never served


@value
class Skipped:
    """A name of the origin that is left out, and why. Shown to users with a link to the origin's copy."""

    name: bytes
    kind: Kind
    reason: str
    size: int | None = None
    mtime: Stamp | None = None


@value
class Failure:
    """An update that failed. `name` is `b""` for the directory itself."""

    name: bytes
    error: str
    at: int  # s since 1970
    since: int  # first of this run of failures


# -- what a sibling says ---------------------------------------------------------------------


@value
class Offer:
    """One name that a sibling holds, from its committed store. A hint until its bytes have been checked."""

    name: bytes
    kind: Kind
    size: int = 0
    sha256: bytes | None = None
    mtime: Stamp | None = None
    row: Row = field(default_factory=Row)
    etag: str | None = None
    source: str = "origin"  # where the sibling got it
    verified: str = ""


@value
class Claim:
    """A file, or the bytes from `first` to `end` (exclusive) of one, that a site is fetching right now.

    `idle` is seconds without progress, `etag` the origin's strong validator where it is known. `started` is
    False while that site still asks its siblings whether anybody else has the file.
    """

    name: bytes
    row: Row
    received: int = 0
    idle: float = 0.0
    started: bool = True
    first: int = 0
    end: int | None = None  # None: to the end of the file
    etag: str | None = None


@value
class Offered:
    """Everything one sibling told about one directory in one answer."""

    site: str
    held: dict[bytes, Offer]
    claims: dict[bytes, Claim]
    known: bool = True  # it has this directory at all


# -- what an operator decided ----------------------------------------------------------------


class Order(enum.StrEnum):
    FORWARD = "forward"
    BACKWARD = "backward"
    SHUFFLED = "shuffled"
    RENDEZVOUS = "rendezvous"


class Trust(enum.StrEnum):
    """What a sibling's bytes are accepted by: `HAZARDS.md` section 4."""

    SIBLINGS = "siblings"
    STRICT = "strict"


class Role(enum.StrEnum):
    """What an origin is asked for."""

    REFERENCE = "reference"  # facts: listings, sizes, times, deletions; and bytes
    BYTES = "bytes"  # nothing but the bytes of files, of the version that the reference lists


class Delta(enum.StrEnum):
    """When a new version of a large file is made from an older one that is here and what differs."""

    NO = "no"
    AUTO = "auto"  # where the measured link makes that faster than the whole file
    ALWAYS = "always"


class Once(enum.StrEnum):
    """What becomes of content that a site holds already, under another name or in another mirror."""

    NO = "no"  # nobody looks
    REFLINK = "reflink"  # its blocks are shared where the file system can, and it is never fetched again
    YES = "yes"  # and where it cannot, one file gets both names if both look alike


@value
class Storage:
    once: Once = Once.NO


@value
class CommandSpec:
    """A program that makes an origin, and its limits: s, bytes, processes of its user. None: no limit."""

    arguments: tuple[str, ...]
    time: float = 21_600.0
    space: int | None = None
    memory: int | None = None
    processes: int | None = None
    user: str | None = None
    folder: str = ""  # where it works, at one site


@value
class OriginSpec:
    """One `<origin>`. `credentials` names a file of mode 0600 with `user:password` in it."""

    url: str
    private: bool = False
    proxy: str | None = None
    bind: str | None = None
    family: str = "any"  # any, ipv4, ipv6
    user_agent: str | None = None
    credentials: str | None = None
    ca: str | None = None
    timezone: str | None = None
    downgrade: bool = False  # a redirect from https to http is followed
    watch: bool = False  # `file` only: follow changes as they happen
    marker: str | None = None  # `file` only: a name that proves that the source is mounted
    paused: bool = False
    role: Role = Role.REFERENCE
    index: str = ""  # the path of a list of the whole tree, or `auto`
    index_age: float | None = 129_600.0  # s that it may be old; None: any age
    index_walk: float | None = 604_800.0  # s after which the tree is walked all the same; None: never
    command: CommandSpec | None = None  # a program makes it: `url` is its name


@value
class Rule:
    """One line of `<select>`; the first that matches decides. Everything that it says must hold.

    `pattern` (a glob) or `regex` match the bytes of the path. Sizes are bytes, ages whole days in s. `sites`:
    only there; none: everywhere. `lists` are those that the pattern names, with their values.
    """

    include: bool
    pattern: str = ""
    reason: str = ""
    regex: str = ""
    larger: int | None = None
    smaller: int | None = None
    older: int | None = None
    newer: int | None = None
    kind: Kind | None = None
    sites: tuple[str, ...] = ()
    lists: tuple[tuple[str, tuple[str, ...]], ...] = ()
    where: str = field(default="", compare=False, repr=False)  # FILE:LINE


@value
class HourRate:
    """From `start` to `end` (minutes since local midnight, may wrap), at most `rate` bytes/s (0: none)."""

    start: int
    end: int
    rate: int


@value
class Limits:
    connections: int = 4
    bandwidth: int | None = None  # bytes/s
    hours: tuple[HourRate, ...] = ()
    timeout: float = 60.0  # s without a byte
    retries: int = 3
    file_size: int = 64 * 2**30
    directory_entries: int = 250_000
    depth: int = MAX_DEPTH
    files: int = 20_000_000
    shared: bool = False  # connections and bandwidth are those of all sites together


@value
class Deletion:
    """When names go, and when a plan is held instead: DESIGN section 3 and HAZARDS section 5."""

    hold_files: int = 100
    hold_share: float = 0.10
    sightings: int = 2
    grace: float = 86_400.0
    emptied_after: float = 3_600.0
    trash: float = 259_200.0
    window: float = 604_800.0  # cumulative rule: s, and the share of files that may go within it
    window_share: float = 0.30


@value
class Probe:
    """A small file at the origin that changes when the tree does; polled every `every` seconds."""

    path: bytes
    every: float


@value
class Schedule:
    """`every` seconds with `jitter`, or a cron line; `window` is minutes since local midnight, may wrap."""

    every: float | None = 21_600.0
    jitter: float = 0.0
    cron: str | None = None
    window: tuple[int, int] | None = None
    probes: tuple[Probe, ...] = ()
    webhook: str | None = None  # file with the secret
    paused: bool = False


@value
class Sideways:
    trust: Trust = Trust.SIBLINGS
    enabled: bool = True
    patience: float = 5.0  # s without progress after which a sibling's claim is void
    delta: Delta = Delta.AUTO
    listings: float = 0.0  # s that a sibling's listing may be old to be used instead of asking; 0: never

    @property
    def relays(self) -> bool:
        """Whether passes may rest on what siblings were told by the origin."""
        return self.enabled and self.listings > 0 and self.trust is Trust.SIBLINGS


@value
class Attributes:
    """What files and directories are given as root, whatever the origin says. None: as the origin tells."""

    owner: str | None = None
    group: str | None = None
    file_mode: int | None = None
    directory_mode: int | None = None

    @property
    def modes(self) -> tuple[int, int] | None:
        """As a descriptor says them: of files, of directories."""
        if self.file_mode is None or self.directory_mode is None:
            return None
        return self.file_mode, self.directory_mode


@value
class Hooks:
    """Commands as argument lists; run without a shell, with `SIDEWAYS_*` in the environment."""

    before: tuple[tuple[str, ...], ...] = ()
    after: tuple[tuple[str, ...], ...] = ()
    publish: tuple[tuple[str, ...], ...] = ()
    failure: tuple[tuple[str, ...], ...] = ()


@value
class Repository:
    """One `<repository>`: what lies at and below `path` is published in states that are complete. `keyring`
    is a file of the OpenPGP keys that may sign it; None: signatures are not looked at."""

    type: str
    path: bytes = b""
    keyring: str | None = None


@value
class Serve:
    http: bool = True
    ftp: bool = True
    rsync: bool = True


class Pushed(enum.StrEnum):
    """How a downstream mirror is told of what was published here, as Debian's runmirrors does it."""

    ALL = "all"  # at once, in one step
    STAGED = "staged"  # files first; indexes when all of the group have the files
    MHOP = "mhop"  # as staged, and it tells its own downstreams in between


@value
class Downstream:
    """One mirror that copies from this one and is told when there is something new: by `ssh`
    (`user@host[:port]`, with the `key`, where `hosts` has that host's key) or by `webhook`, signed with what
    the file `secret` holds. `delay`: s that it has for its first stage."""

    name: str
    type: Pushed = Pushed.ALL
    ssh: str | None = None
    key: str | None = None
    hosts: str | None = None
    webhook: str | None = None
    secret: str | None = None
    delay: float = 600.0


class Told(enum.StrEnum):
    """How much a trace file tells."""

    NONE = "none"  # there is none
    DATE = "date"  # when the last pass ended
    TERSE = "terse"  # and of which archive, from where, by whom
    FULL = "full"  # and what it cost


@value
class Trace:
    """The trace file in `project/trace`, beside the tree. `name`: its own; empty: the public host."""

    level: Told = Told.NONE
    name: str = ""


@value
class Mirror:
    """One descriptor with its defaults filled in for one site."""

    name: str
    path: str  # public, begins with a slash
    origins: tuple[OriginSpec, ...]
    title: str = ""
    description: str = ""
    homepage: str = ""
    category: str = ""
    contact: str = ""
    aliases: tuple[str, ...] = ()
    schedule: Schedule = field(default_factory=Schedule)
    order: Order = Order.RENDEZVOUS
    select: tuple[Rule, ...] = ()
    elsewhere: tuple[tuple[str, tuple[Rule, ...]], ...] = ()  # the rules of sites where they are not these
    limits: Limits = field(default_factory=Limits)
    delete: Deletion = field(default_factory=Deletion)
    sideways: Sideways = field(default_factory=Sideways)
    last: tuple[str, ...] = ()  # patterns: published after everything else
    lists: tuple[str, ...] = ()  # kinds of lists of everything that are published beside the tree
    repositories: tuple[Repository, ...] = ()
    attributes: Attributes = field(default_factory=Attributes)
    storage: Storage = field(default_factory=Storage)
    sites: tuple[str, ...] = ()  # sorted names of the sites that carry it
    serve: Serve = field(default_factory=Serve)
    hooks: Hooks = field(default_factory=Hooks)
    downstreams: tuple[Downstream, ...] = ()
    trace: Trace = field(default_factory=Trace)

    @property
    def references(self) -> tuple[OriginSpec, ...]:
        """The origins whose word counts, in order."""
        return tuple(spec for spec in self.origins if spec.role is Role.REFERENCE)


@value
class PeerAddress:
    """Where and as whom a site is reached by its siblings. Certificates are PEM text; two while rotating."""

    url: str
    listen: str
    certificates: tuple[str, ...] = ()
    certificate_file: str = ""


@value
class Site:
    name: str
    data: str
    state: str
    title: str = ""
    contact: str = ""
    web: str | None = None
    public_url: str = ""
    peer: PeerAddress | None = None
    passes: int = 2  # mirrors worked on at once
    reserve: int | None = None  # bytes of disk left free; None: max(2 %, 20 GiB)
    sponsor: str = ""  # these four are for trace files
    country: str = ""
    location: str = ""
    throughput: str = ""
    file: str = ""  # where this was read from


@value
class Cluster:
    """Everything under one configuration folder, as one site sees it."""

    name: str
    sites: dict[str, Site]
    mirrors: dict[str, Mirror]
    root: str = "."
    title: str = ""

    def mirrors_of(self, site: str) -> list[Mirror]:
        """The mirrors that `site` carries, sorted by name."""
        return [m for _, m in sorted(self.mirrors.items()) if site in m.sites]

    def stored_once(self, site: str, mirror: Mirror) -> list[str]:
        """The other mirrors of `site` whose files may be this one's as well, sorted by name."""
        others = [other for other in self.mirrors_of(site) if other.name != mirror.name]
        return [other.name for other in others if other.storage.once is not Once.NO]

    def siblings(self, site: str, mirror: Mirror) -> list[Site]:
        """Who else carries `mirror` and can be asked, sorted by name."""
        return [self.sites[n] for n in mirror.sites if n != site and n in self.sites and self.sites[n].peer]

"""Many files through one run of rsync, into a folder of ours.

rsync writes into that folder only: it deletes nothing, and of the public tree it reads older versions. Names
go in by `--files-from`, ended by NUL. A line comes back for each file, before the file gets its name: so it
is the line of the next one, or the end, that says of a file that it is there.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncGenerator, Callable, Sequence

from cluster.errors import OriginError, Refused, Unreachable, Vanished
from cluster.model import href, value
from cluster.origin.base import Batch, Brought, Traffic
from cluster.origin.rsync_child import Ended, started

SILENCE = 10  # times what rsync itself waits for the origin: then it is rsync that hangs
PAUSE = 0.05  # s between two looks at what rsync says: it says a line for each file
PARTIAL = (23, 24)  # some files could not be read; some went away meanwhile
NUMBER = 15  # digits of a number of bytes that are believed
_LINE = re.compile(rb"@(\d{1,%d}) (.+)" % NUMBER, re.DOTALL)
_RECEIVED = re.compile(rb"Total bytes received: (\d{1,%d})" % NUMBER)
_COMPLAINT = re.compile(r'"(.+)"(?: \(in [^)]*\))?(?: failed)?(?:: (.*))?$')
_ESCAPED = re.compile(rb"\\#([0-3][0-7][0-7])")

# Times as they are at the origin, which tell another version; all else of how a file looks is for the store.
_HOW = (
    "--times",
    "--omit-dir-times",
    "--perms",
    "--chmod=D700,F600",
    "--dirs",
    "--relative",
    "--files-from=-",
    "--from0",
    "--out-format=@%b %n",
    "--outbuf=L",
    "--stats",
    "--no-human-readable",
    "--info=nonreg0",
)


def options(batch: Batch) -> list[str]:
    """How rsync is to bring these files."""
    told = [*_HOW, f"--partial-dir={batch.begun}", f"--max-size={batch.largest}"]
    if batch.older is not None:
        # Without --ignore-times a file that looks like the older one would not come at all.
        told += [f"--compare-dest={batch.older}", "--ignore-times"]
    if batch.older is not None and batch.alike:
        told += ["--fuzzy", "--fuzzy"]  # twice: among what is in the public tree as well
    if batch.rate is not None:
        told.append(f"--bwlimit={max(1, batch.rate // 1024)}")
    return told


def names(batch: Batch, base: bytes = b"") -> bytes:
    """What to bring, for standard input: directories of which everything is wanted by their own names.

    `base` is the mirror's root at the source; a file gets here the path that is behind "/./". (It does not
    belong into the source: a daemon of rsync 3.5.0 without chroot looks for the names of a list there, and
    then opens the files of these names in the root of its module.)
    """
    inside = tuple(directory + b"/" if directory else b"" for directory in batch.whole)
    taken = set(batch.whole)
    files = (path for path in batch.files if path.rpartition(b"/")[0] not in taken)
    root = base + b"/./" if base else b"./"  # in front of it no name looks like a comment
    return b"".join(b"%s%s\0" % (root, one) for one in (*inside, *files))


class Said:
    """What rsync says on standard output, line by line. An origin can have it say anything: what is in here
    only tells where to look."""

    def __init__(self) -> None:
        self.bytes = 0  # that came for the files of these lines
        self.received = 0  # in all, where rsync has told it
        self._last: Brought | None = None

    def take(self, lines: Sequence[bytes]) -> list[Brought]:
        """The files that are there by now."""
        found: list[Brought] = []
        for line in lines:
            if (told := _LINE.fullmatch(line)) is not None:
                found += self.end()
                count = int(told[1])
                self.bytes += count
                if not told[2].endswith(b"/"):
                    self._last = unescaped(told[2]).removeprefix(b"./"), count
            elif (stats := _RECEIVED.fullmatch(line)) is not None:
                self.received = int(stats[1])
        return found

    def end(self) -> list[Brought]:
        """The file of the last line: nothing more is said of it."""
        last, self._last = self._last, None
        return [] if last is None else [last]


def unescaped(name: bytes) -> bytes:
    """A name as rsync shows it in the locale C, as it is."""
    return _ESCAPED.sub(lambda octal: bytes([int(octal[1], 8)]), name) if b"\\#" in name else name


def withheld(ended: Ended, batch: Batch) -> list[Brought]:
    """The files of which it says why they do not come."""
    wanted, found = set(batch.files), dict[bytes, Brought]()
    for line in ended.said.splitlines():
        if (told := _COMPLAINT.search(line)) is not None:
            name = unescaped(told[1].encode("utf-8", "surrogateescape")).lstrip(b"/")
            while name and name not in wanted:  # it may be told from the beginning of a module
                name = name.partition(b"/")[2]
            if name:
                found[name] = name, _reason(href(name), line, told[2] or "")
    return list(found.values())


def _reason(path: str, line: str, why: str) -> OriginError:
    if "has vanished" in line or why.endswith("(2)"):
        return Vanished(path, "no such name any more")
    return Refused(path, why) if why.endswith("(13)") else Unreachable(path, why or "rsync could not read it")


@value
class Remote:
    """How this origin is reached. `command` is the program with what it needs for that, `source` the module
    of a daemon, or the folder that is mirrored, with a slash behind it; `base` is the mirror's root in there.
    `more` goes into the environment. `timeout` is in s."""

    command: tuple[str, ...]
    source: str
    shown: str
    timeout: float
    more: tuple[tuple[str, str], ...] = ()
    base: bytes = b""


async def bring(
    remote: Remote, batch: Batch, traffic: Traffic, failure: Callable[[Ended], OriginError | None]
) -> AsyncGenerator[Sequence[Brought], None]:
    """See `Batching`. `failure` tells what an end means where it is more than files that did not come."""
    command = [*remote.command, *options(batch), "--", remote.source, f"{batch.folder}/"]
    said = Said()
    traffic.requests += 1
    try:
        async with started(
            command,
            shown=remote.shown,
            given=names(batch, remote.base),
            more=dict(remote.more),
            silence=SILENCE * remote.timeout,
            stirring=lambda: _written(batch.folder),
        ) as child:
            async for lines in child.lines(PAUSE):
                before = said.bytes
                found = said.take(lines)
                traffic.bytes += said.bytes - before
                if found:
                    yield found
            ended = await child.ended()
    finally:
        traffic.bytes += max(
            0, said.received - said.bytes
        )  # the list of files, and what was sent for nothing
    if last := said.end():
        yield last
    if ended.code not in (0, *PARTIAL) and (error := failure(ended)) is not None:
        raise error
    if ended.code in PARTIAL:
        yield withheld(ended, batch)


def _written(folder: str) -> int:
    """A number that changes while anything arrives there."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total

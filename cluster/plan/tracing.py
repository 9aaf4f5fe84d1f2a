"""The trace file of a site, as Debian's mirrors write it: who copied an archive, when, and from where.

The first line is that of `date -u`, for whoever reads nothing else; the rest are fields, as ftpsync names
them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from email.utils import formatdate
from urllib.parse import urlsplit

from cluster.model import Held, Kind, Mirror, Site, Told, value

DIRECTORY = b"project/trace"
MASTER = b"project/trace/master"  # the archive's own
HIERARCHY = b"_hierarchy"  # a line for each mirror from the archive down to this one
LISTED = b"_traces"  # the names of all trace files, the oldest first
MAX_HIERARCHY = 2**20  # bytes of the upstream's that are taken over; a line has a hundred
MAX_TRACE = 64 * 2**10  # bytes of the archive's own that are looked at; it has a few hundred

_INDEXES = re.compile(rb"dists/.*/(?:binary-)?((?<=/)source|(?<=binary-)[a-z0-9][a-z0-9-]{0,40})").fullmatch
_SERIAL = re.compile(rb"^Archive serial: *([0-9]{1,20}) *$", re.MULTILINE | re.IGNORECASE)


@value
class Passed:
    """The pass that a trace file tells of. Times in s since 1970, `seconds` from its beginning to its end."""

    ended: float
    seconds: float
    origin: str
    received: int  # bytes of files, from wherever they came
    trigger: str = ""
    serial: str = ""  # of the archive, as its own trace file has it
    architectures: tuple[str, ...] = ()


def file_name(mirror: Mirror, site: Site) -> bytes:
    """What the site's trace file is called: its public name."""
    return (mirror.trace.name or urlsplit(site.public_url).hostname or site.name).encode()


def serial_of(master: bytes) -> str:
    """The archive's serial in its own trace file; empty where there is none."""
    found = _SERIAL.search(master)
    return found[1].decode() if found else ""


def architectures(directories: Iterable[bytes]) -> tuple[str, ...]:
    """Those of an archive, by the directories of its indexes: `dists/**/binary-ARCH`, and `source`."""
    return tuple(sorted({found[1].decode() for path in directories if (found := _INDEXES(path))}))


def trace(mirror: Mirror, site: Site, passed: Passed, creator: str) -> bytes:
    """The file's text. Fields of which nothing is known are left out."""
    date = time.gmtime(int(passed.ended))
    day, year = time.asctime(date).rsplit(" ", 1)
    lines = [f"{day} UTC {year}"]
    fields = [("Date", _date(passed.ended))]
    if mirror.trace.level is not Told.DATE:
        fields += [
            ("Date-Started", _date(passed.ended - passed.seconds)),
            ("Archive serial", passed.serial),
            ("Creator", creator),
            ("Running on host", urlsplit(site.public_url).hostname or site.name),
            ("Maintainer", _maintainer(site)),
            ("Sponsor", site.sponsor),
            ("Country", site.country),
            ("Location", site.location),
            ("Throughput", site.throughput),
            ("Architectures", " ".join(passed.architectures)),
            ("Upstream-mirror", urlsplit(passed.origin).hostname or ""),
        ]
    if mirror.trace.level is Told.FULL:
        fields += [
            ("Trigger", passed.trigger),
            ("Total bytes received", str(passed.received)),
            ("Total time", str(round(passed.seconds))),
        ]
        if passed.received and passed.seconds >= 1:
            fields.append(("Average rate", f"{round(passed.received / passed.seconds)} B/s"))
    lines += [f"{name}: {text}" for name, text in fields if text]
    return "\n".join([*lines, ""]).encode()


def hierarchy(above: bytes, mirror: Mirror, site: Site, passed: Passed) -> bytes:
    """The upstream's list of the mirrors above, and this one: the file's name, the site's, its host, the
    upstream's host, as ftpsync has them."""
    own, host = file_name(mirror, site), urlsplit(site.public_url).hostname or site.name
    lines = [line for line in above.splitlines() if line.strip() and line.split()[0] != own]
    upstream = urlsplit(passed.origin).hostname or "unknown"
    return b"\n".join([*lines, b" ".join([own, own, host.encode(), upstream.encode()]), b""])


def names(traces: Iterable[Held], own: bytes) -> bytes:
    """The names of trace files, the oldest first, this site's last."""
    files = (one for one in traces if one.kind is Kind.FILE and not one.name.startswith(b"_"))
    known = sorted(
        (one.mtime.ns if one.mtime is not None else 0, one.name) for one in files if one.name != own
    )
    return b"".join(name + b"\n" for name in [*(name for _, name in known if b"\n" not in name), own])


def _date(seconds: float) -> str:
    """As `date -u -R` says it."""
    return formatdate(int(seconds)).removesuffix("-0000") + "+0000"


def _maintainer(site: Site) -> str:
    if site.title and "@" in site.contact:
        return f"{site.title} <{site.contact}>"
    return site.contact or site.title

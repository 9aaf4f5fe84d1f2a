"""From an `<origin>` to an origin that can be asked: the adapter that reads it, and what wraps it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cluster.errors import UsageError
from cluster.model import Limits, Mirror, OriginSpec, Role
from cluster.origin.base import Origin
from cluster.origin.copies import Copy, WithCopies
from cluster.origin.limit import Hosts, Limited
from cluster.origin.logged import Logged
from cluster.origin.retry import Quiet, Retrying


@dataclass(slots=True)
class Shared:
    """What all mirrors of a site have in common when they talk to origins; times and chance are given."""

    hosts: Hosts = field(default_factory=Hosts)
    quiet: Quiet = field(default_factory=Quiet)
    clock: Callable[[], float] = time.time  # s since 1970
    monotonic: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


def _file(spec: OriginSpec, limits: Limits, _private: str) -> Origin:
    from cluster.origin.local import LocalOrigin

    return LocalOrigin(spec, limits)


def _http(spec: OriginSpec, limits: Limits, _private: str) -> Origin:
    from cluster.origin.http import HttpOrigin

    return HttpOrigin(spec, limits)


def _ftp(spec: OriginSpec, limits: Limits, _private: str) -> Origin:
    from cluster.origin.ftp import FtpOrigin

    return FtpOrigin(spec, limits)


def _rsync(spec: OriginSpec, limits: Limits, private: str) -> Origin:
    from cluster.origin.rsync import RsyncOrigin

    return RsyncOrigin(spec, limits, private)


def _command(spec: OriginSpec, limits: Limits, _private: str) -> Origin:
    from cluster.origin.command import CommandOrigin

    return CommandOrigin(spec, limits)


SCHEMES: dict[str, Callable[[OriginSpec, Limits, str], Origin]] = {
    "command": _command,
    "file": _file,
    "ftp": _ftp,
    "ftps": _ftp,
    "http": _http,
    "https": _http,
    "rsync": _rsync,
    "rsyncs": _rsync,
    "rsync+ssh": _rsync,
}


def open_reference(
    spec: OriginSpec, mirror: Mirror, shared: Shared, lists: str = "", private: str = ""
) -> Origin:
    """The origin for facts, and for bytes together with those of the mirror that are for bytes alone. Each
    keeps its own limits. `lists`: the folder where lists of whole trees are kept; empty: nowhere. `private`
    and what is raised: see `open_origin`."""
    reference = open_origin(spec, mirror.limits, shared, private)
    copies = [one for one in mirror.origins if one.role is Role.BYTES and not one.paused]
    if copies and reference.properties.network:
        limits = mirror.limits
        opened = [
            Copy(urlsplit(c.url).hostname or c.url, open_origin(c, limits, shared, private)) for c in copies
        ]
        reference = WithCopies(reference, opened, shared.monotonic)
    return _indexed(reference, spec, mirror, shared, lists) if spec.index else reference


def _indexed(reference: Origin, spec: OriginSpec, mirror: Mirror, shared: Shared, lists: str) -> Origin:
    from cluster.listing.bulk import recent
    from cluster.origin.around import Asking
    from cluster.origin.indexed import Indexed
    from cluster.origin.recently import Recently

    place = ""
    if lists:
        told = hashlib.blake2b(f"{spec.url} {spec.index}".encode(), digest_size=6).hexdigest()
        place = os.path.join(lists, f"{mirror.name}-{told}")
    asking = Asking(mirror.limits, mirror.delete, place, shared.clock, shared.chance)
    by = Recently if recent.is_name(spec.index.encode()) else Indexed
    return by(reference, spec, asking)


def open_origin(spec: OriginSpec, limits: Limits, shared: Shared, private: str = "") -> Origin:
    """The adapter for the URL's scheme, each request logged, limited, then retried: who waits for its next
    try holds no slot. `private` is a folder for files on their way, and what a dead run leaves there is
    removed by its owner; empty, or not there: the system's. Raises UsageError for a scheme that this version
    does not read.
    """
    parts = urlsplit(spec.url)
    adapter = SCHEMES.get(parts.scheme)
    if adapter is None:
        readable = ", ".join(sorted(SCHEMES))
        raise UsageError(
            f"{parts.scheme}: origins of this scheme are not read by this version; {readable} are"
        )
    host = parts.hostname or spec.url
    limited = Limited(
        Logged(adapter(spec, limits, private), clock=shared.monotonic),
        host,
        limits,
        shared.hosts,
        clock=shared.clock,
        monotonic=shared.monotonic,
        sleep=shared.sleep,
    )
    return Retrying(
        limited,
        host,
        tries=limits.retries,
        quiet=shared.quiet,
        clock=shared.monotonic,
        chance=shared.chance,
        sleep=shared.sleep,
    )

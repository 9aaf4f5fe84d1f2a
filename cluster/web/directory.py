"""The facts of one directory: what its page shows and its JSON says, from one source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from yarl import URL

from cluster.model import SECOND, Failure, Held, Kind, Mirror, Skipped, Stamp, href, join, shown
from cluster.store.mirror import Reader
from cluster.web.context import Context
from cluster.web.resolve import link_target
from cluster.web.summary import freshness

PAGE = 1000  # entries on one page of HTML
JSON_PAGE = 10_000  # entries in one answer of JSON
LINKABLE = ("http", "https", "ftp", "ftps", "rsync")

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One directory of one mirror as it was asked for. `base` is the public path of the mirror by which it
    was reached (a path or an alias, no slash at either end); `path` is where it really is, `shown_path`
    what the URL said, both relative to the mirror."""

    mirror: Mirror
    base: bytes
    shown_path: bytes
    path: bytes
    after: bytes | None = None

    @property
    def public(self) -> bytes:
        """The path of the URL without the slashes around it."""
        return b"/".join(filter(None, (self.base, self.shown_path)))


async def directory_facts(context: Context, reader: Reader, asked: Asked, limit: int) -> Facts:
    """Everything that is known of the directory, with at most `limit` entries after `asked.after`.

    What failed, was skipped or is missing belongs to the first page. Times are seconds since 1970.
    """
    mirror, now = asked.mirror, context.clock()
    held = await reader.page(asked.path, asked.after, limit + 1)
    compared, origin = await reader.compared_at(asked.path)
    notes = await reader.notes(asked.path) if asked.after is None else ([], [], {})
    skipped, failures, missing = notes
    totals = await reader.totals(asked.path)
    more = held[limit - 1].name if len(held) > limit else None
    held = held[:limit]
    return {
        "site": context.site.name,
        "mirror": mirror.name,
        "title": mirror.title or mirror.name,
        "path": "/" + shown(asked.public) + ("/" if asked.public else ""),
        "href": "/" + href(asked.public) + ("/" if asked.public else ""),
        "generated": now,
        "compared": {"at": compared, "origin": public_origin(mirror, origin)},
        "freshness": freshness(mirror, compared, now),
        "running": mirror.name in context.view.running(),
        "total": {
            "files": totals.files,
            "bytes": totals.bytes,
            "directories": totals.directories,
            "symlinks": totals.symlinks,
            "newest": None if totals.newest is None else _seconds(totals.newest),
        },
        "entries": [_entry(asked.path, entry) for entry in held if not entry.private],
        "private": sum(entry.private for entry in held),
        "next": None if more is None else href(more).replace("/", "%2F"),
        "after": None if asked.after is None else shown(asked.after),
        "failures": [_failure(failure) for failure in failures],
        "skipped": [_skipped(mirror, origin, asked.path, entry) for entry in skipped],
        "missing": [
            {"name": shown(name), "href": href(name), "since": since}
            for name, since in sorted(missing.items())
        ],
    }


def _entry(directory: bytes, held: Held) -> Facts:
    facts: Facts = {
        "name": shown(held.name),
        "href": href(held.name),
        "kind": held.kind.value,
        "mtime": _stamp(held.mtime),
        "copied": held.copied or None,
        "source": held.source,
        "verified": held.verified,
    }
    if held.kind is Kind.FILE:
        facts["size"] = held.size
        facts["sha256"] = held.sha256.hex() if held.sha256 else None
        facts["doubted"] = held.unknown
    if held.kind is Kind.SYMLINK:
        facts["target"] = shown(held.target or b"")
        facts["outside"] = link_target(directory, held.target) is None
    return facts


def _failure(failure: Failure) -> Facts:
    return {
        "name": shown(failure.name),
        "href": href(failure.name),
        "error": printable(failure.error),
        "at": failure.at,
        "since": failure.since,
    }


def _skipped(mirror: Mirror, origin: str, directory: bytes, entry: Skipped) -> Facts:
    return {
        "name": shown(entry.name),
        "href": href(entry.name),
        "kind": entry.kind.value,
        "reason": printable(entry.reason),
        "size": entry.size,
        "mtime": _stamp(entry.mtime),
        "origin": origin_link(mirror, origin, join(directory, entry.name)),
    }


def printable(text: str) -> str:
    """A message for people, on one line and without control characters, whatever it quotes."""
    return shown(text.encode("utf-8", "surrogateescape"))


def public_origin(mirror: Mirror, told: str) -> str:
    """The origin's URL for people: what was compared with, else the first of the descriptor; no password."""
    url = told or mirror.origins[0].url
    try:
        return str(URL(url).with_user(None))
    except ValueError:  # a URL without a host, such as file:///srv/x, has no user either
        return url


def origin_link(mirror: Mirror, told: str, path: bytes) -> str | None:
    """Where the origin's own copy of `path` is. One that a browser can open is preferred to the one that was
    compared with; None where no origin of this mirror can be linked to."""
    urls = [public_origin(mirror, told), *(public_origin(mirror, spec.url) for spec in mirror.origins)]
    linkable = [url for url in urls if urlsplit(url).scheme.lower() in LINKABLE]
    opened = [url for url in linkable if urlsplit(url).scheme.lower() in ("http", "https")]
    best = next(iter(opened or linkable), None)
    return None if best is None else best.rstrip("/") + "/" + href(path)


def _stamp(stamp: Stamp | None) -> int | float | None:
    return None if stamp is None else _seconds(stamp.ns)


def _seconds(ns: int) -> int | float:
    return ns // SECOND if ns % SECOND == 0 else ns / SECOND

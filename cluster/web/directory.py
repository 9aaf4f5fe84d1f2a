"""The facts of one directory: what its page shows and its JSON says. They are those of the status file, taken
from the store as it is now, and what a reader of pages needs besides."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from yarl import URL

from cluster.model import Kind, Mirror, href, join, shown, value
from cluster.store.mirror import Reader
from cluster.store.status import directory_status
from cluster.store.summary import LOOKED_BACK, omissions
from cluster.web.context import Context
from cluster.web.freshness import freshness
from cluster.web.resolve import link_target
from cluster.web.trace import TRACES, with_own_trace

PAGE = 1000  # entries on one page of HTML
JSON_PAGE = 10_000  # entries in one answer of JSON
LINKABLE = ("http", "https", "ftp", "ftps", "rsync")

Facts = dict[str, Any]


@value
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
    first = not asked.path and asked.after is None
    repositories = await reader.repositories() if first else []
    more = held[limit - 1].name if len(held) > limit else None
    held = held[:limit]
    if asked.path == TRACES and asked.after is None:
        held = await with_own_trace(context.site, mirror, reader, held)
    shown_here = [entry for entry in held if not entry.private]
    facts: Facts = directory_status(
        mirror.name,
        asked.path,
        generated=int(now),
        compared=(compared, public_origin(mirror, origin)),
        entries=shown_here,
        totals=totals,
        skipped=skipped,
        failures=failures,
        missing=missing,
    )
    for told, entry in zip(facts["entries"], shown_here, strict=True):
        if entry.kind is Kind.SYMLINK:
            told["outside"] = link_target(asked.path, entry.target) is None
    for told, left_out in zip(facts["skipped"], skipped, strict=True):
        told["reason"] = printable(left_out.reason)
        told["origin"] = origin_link(mirror, origin, join(asked.path, left_out.name))
    for told in facts["failures"]:
        told["error"] = printable(told["error"])
    whole = not asked.path and asked.after is None
    return facts | {
        "all_left_out": await _all_left_out(reader) if whole else [],
        "site": context.site.name,
        "title": mirror.title or mirror.name,
        "public": "/" + shown(asked.public) + ("/" if asked.public else ""),
        "url": "/" + href(asked.public) + ("/" if asked.public else ""),
        "freshness": freshness(mirror, compared, now),
        "running": mirror.name in context.view.running(),
        "repositories": [one | {"trouble": printable(str(one["trouble"]))} for one in repositories],
        "private": len(held) - len(shown_here),
        "next": None if more is None else href(more),
        "after": None if asked.after is None else shown(asked.after),
    }


async def _all_left_out(reader: Reader) -> list[dict[str, Any]]:
    """How much the whole mirror leaves out for which reason."""
    told = omissions(await reader.passes(LOOKED_BACK))["left_out"]
    return [one | {"reason": printable(one["reason"])} for one in told]


def printable(text: str) -> str:
    """A message for people, on one line and without control characters, whatever it quotes."""
    return shown(text.encode("utf-8", "surrogateescape"))


def public_origin(mirror: Mirror, told: str) -> str:
    """The origin's URL for people: what was compared with, else the first of the descriptor; no password."""
    url = told or mirror.references[0].url
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

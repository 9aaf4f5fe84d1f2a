"""How the parts of a site fit together; the daemon and a pass in the foreground build the same."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

from cluster.engine.passes import Surroundings
from cluster.engine.report import Report, Reporter
from cluster.errors import UsageError
from cluster.model import Mirror, OriginSpec, Site, href, shown
from cluster.origin.base import Origin
from cluster.origin.open import Shared, open_reference
from cluster.peer import caught
from cluster.peer.claims import Claims
from cluster.peer.client import Sibling
from cluster.peer.listings import Listings
from cluster.store.tree import temporaries_of

log = logging.getLogger("sideways.pass")

PROGRESS_EVERY = 0.2  # s between two events of progress


def require_folders(site: Site) -> None:
    """Nothing makes a site's folders but its operator: one that is missing is a disk that is not mounted.

    Raises UsageError."""
    for folder in (site.data, site.state):
        if not os.path.isdir(folder):
            raise UsageError(f"{site.name}: {folder}: no such folder; make it, owned by the daemon's user")


def surroundings(
    site: Site,
    shared: Shared,
    claims: Claims,
    siblings: Callable[[Mirror], Sequence[Sibling]],
    listings: Listings,
    neighbours: Callable[[Mirror], Sequence[str]],
) -> Surroundings:
    """What passes at this site need."""

    def opened(spec: OriginSpec, mirror: Mirror) -> Origin:
        private = temporaries_of(site.data, mirror.name)
        return open_reference(spec, mirror, shared, os.path.join(site.state, "lists"), private)

    return Surroundings(
        site,
        opened,
        siblings,
        claims,
        listings=listings,
        caught=lambda: caught.known(site.state),
        neighbours=neighbours,
    )


class Events(Reporter):
    """A reporter that tells a pass as JSON-able events (`progress` now and then, `planned`, `failed`), and
    logs a line for each event: failures always, files and directories where `-v` asks for them. `recorded`
    is called when the journal has grown."""

    def __init__(
        self,
        mirror: str,
        tell: Callable[[dict[str, object]], None],
        monotonic: Callable[[], float],
        recorded: Callable[[str], None] = lambda mirror: None,
    ) -> None:
        self._mirror, self._tell, self._monotonic, self._recorded = mirror, tell, monotonic, recorded
        self._last = monotonic()
        self.directories = self.files = self.origin_bytes = self.sideways_bytes = self.failures = 0
        self.current = b""

    def started(self, report: Report) -> None:
        log.debug("%s: pass begins at %s", report.mirror, report.site)
        self._tell({"event": "started", "mirror": report.mirror, "site": report.site})

    def directory(self, path: bytes) -> None:
        self.directories += 1
        self.current = path
        log.debug("%s: compared path=%s", self._mirror, shown(path) or "/")
        self._progress()

    def file(self, path: bytes, size: int, source: str) -> None:
        self.published([(path, size)], source)

    def published(self, files: Sequence[tuple[bytes, int]], source: str) -> None:
        self.files += len(files)
        self._recorded(self._mirror)
        for path, size in files if log.isEnabledFor(logging.DEBUG) else ():
            log.debug("%s: published path=%s size=%d source=%s", self._mirror, shown(path), size, source)
        together = sum([size for _, size in files])
        if source == "origin":
            self.origin_bytes += together
        elif source != "link":
            self.sideways_bytes += together
        self._progress()

    def failed(self, path: bytes, error: str) -> None:
        self.failures += 1
        log.warning("%s: failed path=%s error=%s", self._mirror, shown(path) or "/", error)
        self._tell({"event": "failed", "path": shown(path), "href": href(path), "error": error})

    def planned(self, action: str, path: bytes, detail: str = "") -> None:
        self._tell(
            {"event": "planned", "action": action, "path": shown(path), "href": href(path), "detail": detail}
        )

    def _progress(self) -> None:
        now = self._monotonic()
        if now - self._last >= PROGRESS_EVERY:
            self._last = now
            self._tell(
                {
                    "event": "progress",
                    "files": self.files,
                    "bytes": self.origin_bytes,
                    "sideways": self.sideways_bytes,
                    "directories": self.directories,
                    "path": shown(self.current),
                }
            )


def log_report(report: Report, scope: bytes) -> None:
    """One line about a pass that has ended."""
    files = report.files
    log.info(
        "%s: %s path=%s origin=%d sideways=%d unchanged=%d deleted=%d held=%d failed=%d "
        "origin_bytes=%d sideways_bytes=%d listing_bytes=%d requests=%d seconds=%.3f",
        report.mirror,
        report.outcome,
        shown(scope) or "/",
        files.origin,
        files.sideways,
        files.unchanged,
        files.deleted,
        files.held,
        files.failed,
        report.bytes_origin,
        report.bytes_sideways,
        report.bytes_listings,
        report.requests_origin,
        report.seconds,
    )
    if report.plan:
        why = next((note for note in report.notes if note.startswith("deletions held: ")), "deletions held")
        log.warning("%s: %s; plan=%s", report.mirror, why, report.plan)

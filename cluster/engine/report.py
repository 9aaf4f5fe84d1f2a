"""What a pass did, counted; and who is told while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Files:
    origin: int = 0
    sideways: int = 0
    unchanged: int = 0
    deleted: int = 0
    held: int = 0
    skipped: int = 0
    failed: int = 0
    waiting: int = 0


@dataclass(slots=True)
class Report:
    """One pass, as `sideways pass --json` prints it. Bytes are those received, discarded ones included."""

    mirror: str
    site: str
    outcome: str = ""
    files: Files = field(default_factory=Files)
    bytes_origin: int = 0
    bytes_sideways: int = 0
    bytes_listings: int = 0
    bytes_saved: int = 0  # of new files, those that were here: in older versions, or under other names
    bytes_shared: int = 0  # of new files, those that take no room of their own
    requests_origin: int = 0
    requests_sideways: int = 0
    directories: int = 0
    seconds: float = 0.0
    origin: str = ""
    errors: list[str] = field(default_factory=list)  # the first MAX_ERRORS
    error_count: int = 0
    notes: list[str] = field(default_factory=list)
    plan: str = ""  # hash of a held deletion plan
    left_out: list[dict[str, object]] = field(default_factory=list)  # how much for which reason
    rules: str = ""  # a digest of the rules that this pass went by
    unused: list[str] | None = None  # those of `<select>` that have matched nothing so far; None: not known
    published: int = 0  # states of repositories
    followed: str = ""  # the sibling whose comparison stands for what was not looked at here

    def failed(self, message: str) -> None:
        self.error_count += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(message)

    def as_json(self) -> dict[str, object]:
        files = self.files
        return {
            "mirror": self.mirror,
            "site": self.site,
            "outcome": self.outcome,
            "files": {name: getattr(files, name) for name in Files.__slots__},
            "bytes": {
                "origin": self.bytes_origin,
                "sideways": self.bytes_sideways,
                "listings": self.bytes_listings,
            },
            "saved": self.bytes_saved,
            "shared": self.bytes_shared,
            "requests": {"origin": self.requests_origin, "sideways": self.requests_sideways},
            "directories": self.directories,
            "seconds": round(self.seconds, 3),
            "origin": self.origin,
            "errors": self.errors,
            "error_count": self.error_count,
            "notes": self.notes,
            "plan": self.plan,
            "left_out": self.left_out,
            "rules": self.rules,
            "unused": self.unused,
            "published": self.published,
            "followed": self.followed,
        }


MAX_ERRORS = 100  # kept in a report; every one is in the status of its directory


class Reporter:
    """Told as things happen. Every method does nothing: override what you care for."""

    def started(self, report: Report) -> None:
        """A pass begins."""

    def directory(self, path: bytes) -> None:
        """A directory has been compared."""

    def file(self, path: bytes, size: int, source: str) -> None:
        """A file has been published; `source` is "origin" or a sibling's name."""

    def published(self, files: Sequence[tuple[bytes, int]], source: str) -> None:
        """Several files from one source: path and size of each."""
        for path, size in files:
            self.file(path, size, source)

    def deleted(self, files: int, size: int) -> None:
        """A deletion plan has been carried out."""

    def failed(self, path: bytes, error: str) -> None:
        """Something could not be done."""

    def planned(self, action: str, path: bytes, detail: str = "") -> None:
        """A dry run would do this."""

    def ended(self, report: Report) -> None:
        """The pass is over."""

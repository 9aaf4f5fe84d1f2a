"""What every command uses: where the configuration is, exit codes, and how anything is said."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cluster.errors import ConfigError, ConfigErrors, UnsafeName, UsageError

if TYPE_CHECKING:
    from cluster.model import Cluster, Mirror, Site

DONE, FAILED, USAGE, HELD = 0, 1, 2, 3

T = TypeVar("T")

site_option = click.option("--site", "site", required=True, metavar="SITE", help="Which site this is.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object, nothing else.")


@dataclass(slots=True)
class Setup:
    """What every command gets: where the configuration is, and how much to say."""

    folder: str
    verbose: bool

    def cluster(self, site: str | None = None) -> Cluster:
        """Raises ConfigErrors where any file is not valid."""
        from cluster.config.load import load

        return load(self.folder, site)

    def site(self, name: str, *, strict: bool = False) -> tuple[Cluster, Site]:
        """As much as is valid, with a warning for each thing that is not; or (`strict`) only where everything
        is. Raises UsageError for a site that is not configured, ConfigErrors."""
        if strict:
            cluster = self.cluster(name)
        else:
            cluster, bad = self._valid(name)
            for error in sorted({str(error) for errors in bad.values() for error in errors}):
                print(f"warning: {printable(error)}", file=sys.stderr)
        return cluster, cluster.sites[name]

    def _valid(self, site: str) -> tuple[Cluster, dict[str, list[ConfigError]]]:
        from cluster.config.load import load_tolerant

        return load_tolerant(self.folder, site)

    def mirror(self, site: str, name: str, *, strict: bool = False) -> tuple[Cluster, Site, Mirror]:
        """Only this mirror has to be valid, or (`strict`) everything. Raises UsageError for a mirror that the
        site does not carry, ConfigErrors for one whose descriptor is not valid."""
        cluster, bad = (self.cluster(site), {}) if strict else self._valid(site)
        own = cluster.sites[site]
        mirrors = {m.name: m for m in cluster.mirrors_of(site)}
        if name not in mirrors:
            from cluster.model import shown

            if bad.get(name):
                raise ConfigErrors(bad[name])
            known = ", ".join(mirrors) or "none"
            raise UsageError(
                f"{shown(os.fsencode(name)) or repr(name)}: no mirror of {site}; there are: {known}"
            )
        return cluster, own, mirrors[name]


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    from cluster import eventloop

    return eventloop.run(work)


def emit(value: object) -> None:
    """One JSON object on standard output and nothing else."""
    json.dump(value, sys.stdout, ensure_ascii=True)
    sys.stdout.write("\n")


def printable(text: str) -> str:
    """One line without control characters: an argument may hold anything (HAZARDS 145)."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def counted(count: int, noun: str, nouns: str = "") -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {nouns or noun + 's'}"


def path_of(text: str | None) -> bytes:
    """A path argument: percent-encoded or as typed, relative to the mirror. Raises UsageError."""
    raw = (text or "").strip("/")
    if not raw:
        return b""
    from cluster.model import from_href, href

    try:
        return from_href(raw) if "%" in raw else from_href(href(os.fsencode(raw)))
    except UnsafeName as error:
        raise UsageError(str(error)) from None


def href_of(path: bytes) -> str:
    """A path of `path_of` for the daemon."""
    if not path:
        return ""
    from cluster.model import href

    return href(path)


def human(size: float) -> str:
    """Bytes for people, decimal units: `1.4 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError

"""Status for everybody else: one JSON file per directory, and one per mirror (`docs/design/store.md`).

`directory_status` and `mirror_status` are pure; the web pages show the same facts. In JSON a name is `name`,
for people, and `href`, its percent-encoded bytes, which is the key. Times are seconds since 1970 UTC.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cluster.errors import StoreError
from cluster.model import STATUS_FILE, Failure, Held, Kind, Skipped, Stamp, href, join, shown, split
from cluster.store import linux
from cluster.store.dirfd import make_beneath, open_beneath, store_error
from cluster.store.records import PassRecord, Plan, Totals
from cluster.store.rows import FILE, KINDS, SYMLINK, Told

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1
_SYNC_EACH = 8  # files; more are cheaper with one syncfs


def seconds(stamp: Stamp | None) -> int | float | None:
    """As a JSON number: whole where the origin tells whole seconds or less."""
    if stamp is None:
        return None
    return stamp.ns / 10**9 if stamp.ns % 10**9 else stamp.ns // 10**9


def origin_link(origin: str, path: bytes) -> str | None:
    """Where the origin has its copy; None where its URL is not one that people can follow."""
    if not origin.startswith(("http://", "https://", "ftp://", "ftps://")):
        return None
    return origin.rstrip("/") + "/" + href(path)


def directory_status(
    mirror: str,
    path: bytes,
    *,
    generated: int,
    compared: tuple[int | None, str],
    entries: Iterable[Held] | Encoded,
    totals: Totals,
    skipped: Iterable[Skipped] = (),
    failures: Iterable[Failure] = (),
    missing: Mapping[bytes, int] | None = None,
) -> dict[str, object]:
    """What is true about a directory. `compared` is when (s) and with which origin (its URL)."""
    at, origin = compared
    return {
        "format": FORMAT,
        "mirror": mirror,
        "path": shown(path),
        "href": href(path),
        "generated": generated,
        "compared": {"at": at, "origin": origin},
        "totals": totals_status(totals),
        "skipped": [_skipped(one, origin, path) for one in skipped],
        "failures": [_failure(one, path) for one in failures],
        "missing": [_named(name) | {"since": since} for name, since in sorted((missing or {}).items())],
        "entries": entries if isinstance(entries, Encoded) else [_entry(held) for held in entries],
    }


def totals_status(totals: Totals) -> dict[str, object]:
    return {
        "files": totals.files,
        "bytes": totals.bytes,
        "directories": totals.directories,
        "symlinks": totals.symlinks,
        "newest": seconds(Stamp(totals.newest)) if totals.newest is not None else None,
    }


def _named(name: bytes) -> dict[str, object]:
    return {"name": shown(name), "href": href(name)}


def _entry(held: Held) -> dict[str, object]:
    told: dict[str, object] = {
        "name": shown(held.name),
        "href": href(held.name),
        "kind": held.kind.value,
        "mtime": seconds(held.mtime),
    }
    if held.kind is Kind.FILE:
        told["size"] = held.size
        told["sha256"] = held.sha256.hex() if held.sha256 else None
        told["copied"] = held.copied
        told["source"] = held.source
        told["verified"] = held.verified
    elif held.kind is Kind.SYMLINK and held.target is not None:
        told["target"] = shown(held.target)
    if held.unknown:
        told["unknown"] = True  # in doubt after a crash; the next pass verifies it
    if held.private:
        told["private"] = True
    return told


class Encoded(tuple[bytes, ...]):
    """Entries of a directory, each as JSON already: as values, 50 000 of them take ten times the memory."""

    __slots__ = ()


def encoded(entries: Iterable[Told]) -> Encoded:
    """`_entry` of each as JSON. By hand that takes a sixth of the time, and there is one for each name of a
    tree."""
    origins: dict[tuple[int, str, str], str] = {}
    found = []
    for name, code, size, sha256, ns, unknown, private, target, copied, source, verified in entries:
        plain = _PLAIN(name)
        text = f'"{name.decode()}"' if plain else _text(shown(name))
        key = text if plain else _text(href(name))
        time = "null" if ns is None else ns / 10**9 if ns % 10**9 else ns // 10**9
        told = f'{{"name":{text},"href":{key},"kind":"{KINDS[code]}","mtime":{time}'
        if code == FILE:
            came = copied, source, verified
            how = origins.get(came)
            if how is None:
                how = f',"copied":{copied},"source":{_text(source)},"verified":{_text(verified)}'
                origins[came] = how
            digest = f'"{sha256.hex()}"' if sha256 else "null"
            told = f'{told},"size":{size},"sha256":{digest}{how}'
        elif code == SYMLINK and target is not None:
            told += f',"target":{_text(shown(target))}'
        if unknown or private:
            told += ',"unknown":true' * unknown + ',"private":true' * private
        found.append(f"{told}}}".encode())
    return Encoded(found)


_PLAIN = re.compile(rb"[A-Za-z0-9._~-]*").fullmatch  # the same for people, in URLs and in JSON
_text = json.encoder.encode_basestring_ascii
_json = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def _skipped(one: Skipped, origin: str, path: bytes) -> dict[str, object]:
    return _named(one.name) | {
        "kind": one.kind.value,
        "reason": one.reason,
        "size": one.size,
        "mtime": seconds(one.mtime),
        "origin": origin_link(origin, join(path, one.name)),
    }


def _failure(one: Failure, path: bytes) -> dict[str, object]:
    """`name` is empty where the directory itself could not be compared."""
    return _named(one.name) | {"error": one.error, "at": one.at, "since": one.since}


def mirror_status(
    mirror: str,
    *,
    generated: int,
    passes: Sequence[PassRecord],
    covered: Iterable[tuple[bytes, int, str]],
    deviations: Iterable[tuple[bytes, int | None, str]],
    totals: Totals,
    plan: Plan | None,
    repositories: Sequence[dict[str, object]] = (),
) -> dict[str, object]:
    """The mirror as a whole, and when every directory was compared.

    That time is found so: of the `deviations` whose path is the directory or above it the longest one, else
    of `covered` the newest whose path is; and the directory's own status file where that is later still.
    """
    return {
        "format": FORMAT,
        "mirror": mirror,
        "generated": generated,
        "totals": totals_status(totals),
        "passes": [_pass(one) for one in passes],
        "covered": [{"href": href(path), "at": at, "origin": origin} for path, at, origin in covered],
        "deviations": [{"href": href(path), "at": at, "origin": origin} for path, at, origin in deviations],
        "held": None if plan is None else _plan(plan),
        "repositories": list(repositories),
    }


def _pass(one: PassRecord) -> dict[str, object]:
    return {
        "id": one.id,
        "started": one.started,
        "ended": one.ended,
        "outcome": one.outcome,
        "origin": one.origin,
        "counts": one.counts,
    }


def _plan(plan: Plan) -> dict[str, object]:
    return {
        "hash": plan.hash,
        "names": plan.items,
        "files": plan.files,
        "bytes": plan.bytes,
        "because": plan.held_because,
        "sample": [
            {"href": href(one.path), "kind": one.kind.value, "files": one.files, "since": one.first_missing}
            for one in plan.sample[:100]
        ],
    }


class StatusFiles:
    """`STATE/status/MIRROR.json` and `STATE/status/MIRROR/PATH/.sideways.json`, replaced whole. Blocking.

    Raises DiskFull and StoreError; what was there before stays then (HAZARDS 99).
    """

    def __init__(self, state: str, mirror: str) -> None:
        self._mirror = os.fsencode(mirror)
        self._closing = contextlib.ExitStack()
        try:
            top = self._kept(os.open(state, os.O_RDONLY | os.O_DIRECTORY))
            self._all = self._kept(make_beneath(top, b"status"))
            self._root = self._kept(make_beneath(self._all, self._mirror))
            self._new = self._kept(make_beneath(top, b"status-new/" + self._mirror, 0o700))
        except OSError as error:
            self._closing.close()
            raise store_error(os.fsencode(state) + b"/status", error) from error

    def _kept(self, folder: int) -> int:
        self._closing.callback(os.close, folder)
        return folder

    def close(self) -> None:
        self._closing.close()

    def write(self, files: Sequence[tuple[bytes, dict[str, object]]]) -> None:
        """Replace the status of these directories. On disk when this returns."""
        with self._told(b"status of " + self._mirror):
            each = len(files) <= _SYNC_EACH
            for number, (_, status) in enumerate(files):
                self._write_new(number, status, sync=each)
            if not each:
                linux.syncfs(self._new)
            for number, (path, _) in enumerate(files):
                folder = make_beneath(self._root, path)
                try:
                    os.rename(b"%d" % number, STATUS_FILE, src_dir_fd=self._new, dst_dir_fd=folder)
                    if each:
                        os.fsync(folder)
                finally:
                    os.close(folder)
            if not each:
                linux.syncfs(self._new)

    def write_mirror(self, status: dict[str, object]) -> None:
        with self._told(b"status of " + self._mirror):
            self._write_new(0, status, sync=True)
            os.rename(b"0", self._mirror + b".json", src_dir_fd=self._new, dst_dir_fd=self._all)

    def _write_new(self, number: int, status: dict[str, object], *, sync: bool) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        descriptor = os.open(b"%d" % number, flags, 0o644, dir_fd=self._new)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            entries = status.get("entries")
            if isinstance(entries, Encoded):
                file.write(_json(status | {"entries": []}).encode().removesuffix(b"]}"))
                file.write(b",".join(entries))
                file.write(b"]}")
            else:
                file.write(_json(status).encode())
            file.flush()
            if sync:
                os.fsync(descriptor)

    def remove(self, paths: Iterable[bytes]) -> None:
        """Directories that are no more; durable."""
        for path in paths:
            above, name = split(path) if path else (b"", b"")
            with self._told(path):
                try:
                    folder = open_beneath(self._root, above)
                except FileNotFoundError:
                    continue
                try:
                    if name:
                        shutil.rmtree(os.fsdecode(name), dir_fd=folder)
                        os.fsync(folder)
                except FileNotFoundError:
                    continue
                finally:
                    os.close(folder)

    def clear(self) -> None:
        """Everything that was said about this mirror: its records are new."""
        with self._told(b"status of " + self._mirror):
            for name in os.listdir(self._root):
                try:
                    os.unlink(name, dir_fd=self._root)
                except IsADirectoryError:
                    shutil.rmtree(name, dir_fd=self._root)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._mirror + b".json", dir_fd=self._all)
            os.fsync(self._all)

    def forget(self, path: bytes) -> None:
        """No status is published for this directory."""
        with self._told(path), contextlib.suppress(FileNotFoundError):
            folder = open_beneath(self._root, path)
            try:
                os.unlink(STATUS_FILE, dir_fd=folder)
            finally:
                os.close(folder)

    @contextlib.contextmanager
    def _told(self, path: bytes) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise store_error(path, error) from error
        except ValueError as error:
            raise StoreError(f"{shown(path)}: {error}") from error

"""Installation trees: `.treeinfo`, the ini file that says where kernel, initrd and images are.

The format is productmd's. Kernel, initrd and the second stage must be there, since every installation asks
for them; the other images may be left out. A repository within is judged by its own repomd.xml.
"""

from __future__ import annotations

import configparser

from cluster.errors import Malformed, TooMuch
from cluster.model import shown
from cluster.repository.base import Digest, Named, Order, Role, Root
from cluster.repository.checksums import LENGTHS, digest_of
from cluster.repository.paths import folder, inside

NAMES = (b".treeinfo", b"treeinfo")
MAX_TREEINFO = 2**20  # bytes; the largest seen has 12 000

_NEEDED = ("kernel", "initrd", "mainimage", "instimage")


def read(path: bytes, body: bytes) -> Root:
    """What a tree names. Raises RepositoryError."""
    if len(body) > MAX_TREEINFO:
        raise TooMuch(shown(path), f"a tree's description of {len(body)} bytes")
    said = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#", ";"), strict=False)
    said.optionxform = str  # type: ignore[assignment,method-assign]  # names are paths: their case counts
    try:
        said.read_string(body.decode("utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Malformed(shown(path), f"no description of a tree: {reason}") from None
    if not (said.has_section("general") or said.has_section("header")):
        raise Malformed(shown(path), "no description of a tree: it has neither [general] nor [header]")
    base = folder(path)
    digests = _digests(path, base, said)
    needed = _needed(path, base, said)
    named = tuple(
        Named(where, None, digests.get(where, ()), Role.FILE, optional=where not in needed)
        for where in sorted(digests.keys() | needed)
        if not where.endswith(b"repodata/repomd.xml")
    )
    date = _time(said)
    order = Order("timestamp", date) if date else None
    general = dict(said["general"]) if said.has_section("general") else {}
    return Root(path, base, named, order=order, label=general.get("name", "")[:200])


def _digests(path: bytes, base: bytes, said: configparser.RawConfigParser) -> dict[bytes, tuple[Digest, ...]]:
    found: dict[bytes, tuple[Digest, ...]] = {}
    for name, text in said["checksums"].items() if said.has_section("checksums") else ():
        algorithm, _, digest = text.partition(":")
        if algorithm.lower() not in LENGTHS:
            raise Malformed(shown(path), f"says {text[:60]!r} where a digest belongs")
        found[inside(path, base, name.encode())] = (digest_of(path, algorithm.lower(), digest.encode()),)
    return found


def _needed(path: bytes, base: bytes, said: configparser.RawConfigParser) -> set[bytes]:
    return {
        inside(path, base, said[section][key].encode())
        for section in said.sections()
        if section == "stage2" or section.startswith("images-")
        for key in _NEEDED
        if said[section].get(key)
    }


def _time(said: configparser.RawConfigParser) -> int | None:
    for section, key in (("tree", "build_timestamp"), ("general", "timestamp")):
        text = said[section].get(key, "") if said.has_section(section) else ""
        whole = text.partition(".")[0]
        if whole.isascii() and whole.isdigit() and len(whole) < 15:
            return int(whole)
    return None

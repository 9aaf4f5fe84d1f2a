"""One site file, with the cluster's defaults for sites below it."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.config import units, words
from cluster.config.reading import Problems, Where, suggestion
from cluster.config.settings import Setting, parsed
from cluster.config.tables import Table, mirror_layer, read_table, scalars
from cluster.config.units import quoted
from cluster.model import PeerAddress, Site, shown

FOLDER = "sites"


def _passes(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 3 and 1 <= int(text) <= 64):
        raise ValueError(f"{quoted(text)} is not a whole number from 1 to 64")
    return int(text)


DEFAULTS: Mapping[str, Callable[[str], Any]] = {
    "title": words.line,
    "contact": words.contact,
    "data": words.file_name,
    "state": words.file_name,
    "web": words.listen,
    "public_url": words.base_url,
    "passes": _passes,
    "reserve": units.size,
    "sponsor": words.line,
    "country": words.line,
    "location": words.line,
    "throughput": words.line,
}
NUMBERS = frozenset({"passes", "reserve"})
SITE = {"name": words.name, **DEFAULTS}
PEER: Mapping[str, Callable[[str], Any]] = {
    "url": words.peer_url,
    "listen": words.listen,
    "certificate": words.file_name,
}

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s*([A-Za-z0-9+/=\s]*?)-----END \1-----", re.ASCII)


@dataclass(slots=True)
class SiteFile:
    """A site as its file says it, and what it says about mirrors."""

    site: Site
    defaults: dict[str, Setting] = field(default_factory=dict)
    mirrors: dict[str, dict[str, Setting]] = field(default_factory=dict)
    lines: dict[str, Where] = field(
        default_factory=dict
    )  # of data, state, web, public_url, peer.url, peer.listen


def site_values(table: Table | None, root: str, problems: Problems) -> dict[str, Any]:
    """`[defaults.site]`: what holds where a site's own file says nothing."""
    return {} if table is None else _placed(scalars(table, DEFAULTS, set(), problems, NUMBERS), table, root)


def read_site(
    root: str, name: str, defaults: Mapping[str, Any], mirrors: set[str], problems: Problems
) -> SiteFile | None:
    """`sites/NAME.toml`. None where it is of no use; everything wrong with it goes to `problems`."""
    file = f"{FOLDER}/{name}.toml"
    if not _named(name, file, problems):
        return None
    table = read_table(root, file, problems)
    if table is None:
        return None
    own = scalars(table, SITE, {"peer", "defaults", "mirrors"}, problems, NUMBERS)
    values = {**defaults, **_placed(own, table, root)}
    stated = values.pop("name", None)
    if "name" not in table.values:
        problems.add(Where(file, 1), "name", f'missing; write name = "{name}"')
    elif stated not in (None, name):
        problems.add(
            table.where("name"), "name", f"{quoted(stated)} is not the name of the file; write {quoted(name)}"
        )
    for needed in ("data", "state"):
        if needed not in values and needed not in table.values:
            problems.add(
                Where(file, 1), needed, "missing; a site needs a folder for it, an absolute path is best"
            )
    site = Site(
        name=name,
        data=values.pop("data", ""),
        state=values.pop("state", ""),
        peer=_peer(table, root, problems),
        file=os.path.join(root, file),
        **values,
    )
    out = SiteFile(site, lines={key: table.where(key) for key in SITE})
    if (peer := table.tables("peer", problems)) is not None:
        out.lines |= {f"peer.{key}": peer.where(key) for key in PEER}
    if (said := table.tables("defaults", problems)) is not None:
        out.defaults = parsed(mirror_layer(said, problems), root, problems)
    if (tables := table.tables("mirrors", problems)) is not None:
        out.mirrors = _mirrors(tables, root, mirrors, problems)
    return out


def _named(name: str, file: str, problems: Problems) -> bool:
    try:
        words.name(name)
    except ValueError as error:
        problems.add(Where(shown(os.fsencode(file)), 1), "", f"a file's name is the site's name: {error}")
        return False
    return True


def _placed(values: dict[str, Any], table: Table, root: str) -> dict[str, Any]:
    """Folders made absolute: a relative one is relative to the file it stands in."""
    base = os.path.join(root, os.path.dirname(table.file))
    return {
        k: os.path.normpath(os.path.join(base, v)) if k in ("data", "state") else v for k, v in values.items()
    }


def _mirrors(tables: Table, root: str, known: set[str], problems: Problems) -> dict[str, dict[str, Setting]]:
    """`[mirrors.NAME]`: this site's own word on one mirror."""
    out = {}
    for name in tables.values:
        if name not in known:
            problems.add(tables.where(name), tables.label(name), "no such mirror" + suggestion(name, known))
        elif (table := tables.tables(name, problems)) is not None:
            out[name] = parsed(mirror_layer(table, problems), root, problems)
    return out


def _peer(table: Table, root: str, problems: Problems) -> PeerAddress | None:
    if "peer" not in table.values:
        return None
    said = table.tables("peer", problems)
    if said is None:
        return None
    values = scalars(said, PEER, set(), problems)
    for needed in PEER:
        if needed not in said.values:
            problems.add(said.where(), "peer", f"{needed} is missing")
    if "certificate" not in values:
        return PeerAddress(values.get("url", ""), values.get("listen", ""))
    file = os.path.normpath(os.path.join(root, FOLDER, values["certificate"]))
    certificates: tuple[str, ...] = ()
    try:
        certificates = certificates_of(file)
    except ValueError as error:
        problems.add(said.where("certificate"), said.label("certificate"), str(error))
    return PeerAddress(values.get("url", ""), values.get("listen", ""), certificates, file)


def certificates_of(file: str) -> tuple[str, ...]:
    """The PEM texts of a certificate file: one, two while rotating, none where there is no file yet.

    Raises ValueError for anything else in it, a private key above all (HAZARDS 134).
    """
    name = os.path.basename(file)
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            text = stream.read(65_537).decode("ascii", "replace")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {(error.strerror or str(error)).lower()}") from None
    blocks = list(_PEM.finditer(text))
    if "PRIVATE KEY" in text:
        raise ValueError(
            f"{name} holds a private key; only the certificate is public, the key stays in the state folder"
        )
    if not 1 <= len(blocks) <= 2 or len(text) > 65_536 or any(b[1] != "CERTIFICATE" for b in blocks):
        raise ValueError(
            f"{name} holds {len(blocks)} PEM blocks; allowed is one certificate, or two while rotating"
        )
    for block in blocks:
        try:
            der = base64.b64decode("".join(block[2].split()), validate=True)
        except binascii.Error:
            der = b""
        if der[:1] != b"\x30":
            raise ValueError(f"{name} is damaged: what it holds is no certificate")
    return tuple(block[0] + "\n" for block in blocks)

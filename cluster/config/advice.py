"""What is valid and will still not work, or not as it is meant."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
from collections.abc import Iterator, Sequence
from urllib.parse import unquote_to_bytes, urlsplit

from cluster.config.expiry import ending
from cluster.config.settings import MOMENTS, shown_rule
from cluster.model import Cluster, Mirror, Once, OriginSpec, Rule, Site, shown
from cluster.plan.unreached import unreached
from cluster.repository.base import MAX_KEYRING
from cluster.repository.keyring import problem

MANY_RULES = 300  # of one mirror; more are not compared with each other
NEVER_SHARED = frozenset(("ext2", "ext3", "ext4", "tmpfs", "vfat", "exfat", "jfs", "reiserfs"))
_OCTAL = re.compile(r"\\([0-7]{3})")  # what mounts(5) writes for a blank
FOLDERS = {"config/mirrors": ".xml", "sites": ".toml"}


def warnings(cluster: Cluster, site: str | None = None, *, now: float = 0.0) -> list[str]:
    """One line each, with the file it is about. Looks at the disk for `site`, or for every site. `now`: s
    since 1970, by which certificates are judged."""
    out = [] if cluster.mirrors else ["config/mirrors: no descriptor, so there is nothing to mirror"]
    if len(cluster.sites) < 2:
        out.append("sites: one site has no siblings; a cluster begins with two")
    out += _ignored(cluster.root)
    for mirror in cluster.mirrors.values():
        out += [
            f"config/mirrors/{mirror.name}.xml: {text}"
            for text in (*_mirror(mirror), *_shared(cluster, mirror))
        ]
    for each in cluster.sites.values():
        out += [f"sites/{each.name}.toml: {text}" for text in _site(cluster, each)]
        if site in (None, each.name):
            out += [f"sites/{each.name}.toml: {text}" for text in _disk(each)]
            out += [
                f"config/mirrors/{m.name}.xml: {text}"
                for m in cluster.mirrors_of(each.name)
                for text in _own(m, each)
            ]
    out += ending(cluster.sites.values(), now)
    if os.geteuid() == 0:
        out.append(
            "running as root: files get their owners, but a mistake costs more; a user of its own is safer"
        )
    return list(dict.fromkeys(out))


def _no_keyring(path: str, *, pem: bool) -> str:
    """Why nothing can be checked with this file."""
    try:
        with open(path, "rb") as file:
            keys = file.read(MAX_KEYRING + 1)
    except OSError as error:
        return f"cannot be read: {(error.strerror or str(error)).lower()}"
    return "is larger than any" if len(keys) > MAX_KEYRING else problem(keys, pem=pem)


def _ignored(root: str) -> Iterator[str]:
    """Files that look like a site's or a mirror's, under names that are not read."""
    for folder, suffix in FOLDERS.items():
        try:
            names = sorted(os.listdir(os.path.join(root, folder)))
        except OSError:
            continue
        for name in names:
            if (
                not name.startswith(".")
                and name.lower().endswith(tuple(FOLDERS.values()))
                and not name.endswith(suffix)
            ):
                file = shown(os.fsencode(f"{folder}/{name}"))
                yield f"{file}: is not read; what is read here ends in {suffix}"


def _mirror(mirror: Mirror) -> Iterator[str]:
    for origin in mirror.origins:
        for clear, secured in (("http://", "https"), ("ftp://", "ftps")):
            if origin.credentials and origin.url.startswith(clear):
                yield f"origin {origin.url}: credentials are sent in clear; use {secured}"
        if origin.downgrade:
            yield f"origin {origin.url}: a redirect to http, which anybody on the way can change, is followed"
        for what, file in (("credentials", origin.credentials), ("ca", origin.ca)):
            if file and not os.path.isfile(file):
                yield f"origin {origin.url}: {what} file {file} is not on this machine"
        if origin.command is not None and not os.access(origin.command.arguments[0], os.X_OK):
            yield f"origin {origin.url}: {origin.command.arguments[0]} is not a program on this machine"
        if origin.command is not None and not _is_user(origin.command.user):
            yield f"origin {origin.url}: there is no user {origin.command.user} on this machine"
    for downstream in mirror.downstreams:
        for key in ("key", "hosts", "secret"):
            path = getattr(downstream, key)
            if path is not None and not os.path.isfile(path):
                yield f"downstream {downstream.name}: {key} file {path} is not on this machine"
    if mirror.schedule.webhook and not os.path.isfile(mirror.schedule.webhook):
        yield f"schedule: webhook secret {mirror.schedule.webhook} is not on this machine"
    for repository in mirror.repositories:
        label = f"{repository.type} repository /{repository.path.decode()}"
        if repository.keyring is None:
            yield f"{label}: no keyring: whoever can change the origin's files can change its digests as well"
        elif not os.path.isfile(repository.keyring):
            yield f"{label}: keyring {repository.keyring} is not on this machine"
        elif wrong := _no_keyring(repository.keyring, pem=repository.type == "alpine"):
            yield f"{label}: keyring {repository.keyring}: {wrong}"
    if all(origin.paused for origin in mirror.origins):
        yield "every origin is paused"
    yield from _strange(mirror)
    for rules in (mirror.select, *(rules for _, rules in mirror.elsewhere)):
        yield from _selection(mirror, rules)


def _is_user(name: str | None) -> bool:
    """Whether this machine knows a user, by name or number; None is whoever asks."""
    try:
        return name is None or bool(pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name))
    except (KeyError, OverflowError):
        return False


def _strange(mirror: Mirror) -> Iterator[str]:
    """Programs and accounts that this machine does not have."""
    for hook in dict.fromkeys(hook for moment in MOMENTS for hook in getattr(mirror.hooks, moment)):
        if shutil.which(hook[0]) is None:
            yield f"hooks: {hook[0]} is not a program on this machine"
    for key, name, known in (
        ("owner", mirror.attributes.owner, pwd.getpwnam),
        ("group", mirror.attributes.group, grp.getgrnam),
    ):
        if name and not name.isdigit():
            try:
                known(name)
            except KeyError:
                yield f"attributes: there is no {key} {name} on this machine"


def _selection(mirror: Mirror, rules: Sequence[Rule]) -> Iterator[str]:
    """Rules that never decide, as far as that can be seen without an origin."""
    if len(rules) > MANY_RULES:
        return
    for rule, before in unreached(rules):
        file, _, line = rule.where.rpartition(":")
        place = f"line {line}" if file.endswith(f"/{mirror.name}.xml") else rule.where
        text = f"select: {shown_rule(rule)} ({place})"
        if before is None:
            yield f"{text}: nothing after it is excluded, so that it changes nothing"
        else:
            yield f"{text}: is never reached, since {shown_rule(before)} comes first"


def _shared(cluster: Cluster, mirror: Mirror) -> Iterator[str]:
    if not mirror.limits.shared:
        return
    count, connections = len(mirror.sites), mirror.limits.connections
    if count < 2:
        yield "limits: shared, but one site carries the mirror"
    elif connections < count:
        yield f"limits: {connections} connections are shared by {count} sites: they take turns"
    for name in mirror.sites:
        if name in cluster.sites and cluster.sites[name].peer is None:
            yield f"limits: {name} has no [peer]: nothing of its share is lent, and it is lent nothing"
    for origin in mirror.origins:
        if origin.url.startswith("file:"):
            yield f"limits: origin {origin.url} is a folder of each machine: it is not shared"


def _site(cluster: Cluster, site: Site) -> Iterator[str]:
    if not cluster.mirrors_of(site.name) and cluster.mirrors:
        yield "no mirror names this site"
    if not site.public_url:
        yield "public_url is missing: pages and front ends cannot name this site's address"
    if site.peer is None:
        if len(cluster.sites) > 1:
            yield "no [peer]: siblings can neither reach nor serve this site"
    elif not site.peer.certificates:
        file = os.path.basename(site.peer.certificate_file)
        yield f"peer.certificate: there is no {file} yet; run `sideways keys --site {site.name}`"


def _disk(site: Site) -> Iterator[str]:
    for key, folder in (("data", site.data), ("state", site.state)):
        if not os.path.isdir(folder):
            yield f"{key}: {folder} does not exist on this machine"
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield f"{key}: {folder} is not writable for this user"


def _own(mirror: Mirror, site: Site) -> Iterator[str]:
    """What is between one mirror and this site's disk."""
    for folder in (_source(origin) for origin in mirror.origins):
        if folder and any(_within(folder, own) for own in (site.data, site.state)):
            yield f"origin {folder} lies in the data or state of {site.name}: it would mirror itself"
        elif folder and not os.path.isdir(folder):
            yield f"origin {folder} is not a folder of this machine"
    kind = _file_system(site.data) if mirror.storage.once is Once.REFLINK else ""
    if kind in NEVER_SHARED:
        yield (
            f'storage: {kind}, where {site.data} is, shares no blocks between files: once="reflink" copies '
            'there what is here already; "yes" links it'
        )
    public = site.data + mirror.path
    if os.path.islink(public):
        yield f"{public} is a symbolic link, which is not followed; mount the folder there, or move `data`"


def _file_system(folder: str) -> str:
    """The kind of file system that a folder is on; empty where that cannot be told."""
    best, kind, path = "", "", os.path.realpath(folder)
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                _, place, said, *_ = line.split(" ")
                place = _OCTAL.sub(lambda found: chr(int(found[1], 8)), place)
                if len(place) >= len(best) and os.path.commonpath((place, path)) == place:
                    best, kind = place, said
    except (OSError, ValueError):
        return ""
    return kind


def _source(origin: OriginSpec) -> str | None:
    if not origin.url.startswith("file:"):
        return None
    return os.fsdecode(unquote_to_bytes(urlsplit(origin.url).path)).rstrip("/") or "/"


def _within(path: str, folder: str) -> bool:
    """Either holds the other."""
    a, b = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath((a, b)) in (a, b)

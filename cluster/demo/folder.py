"""The demo's configuration: the shipped cluster, copied, with free ports, own folders and fresh keys; and the
same sites once more, each as a cluster of its own, as lone mirrors are."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass

from lxml import etree

from cluster.config.load import load
from cluster.demo.origin import BY_HTTP
from cluster.demo.processes import free_port
from cluster.errors import UsageError
from cluster.peer import keys

Url = Callable[[str], str]  # the mirror's name to where its origin is


@dataclass(frozen=True, slots=True)
class Place:
    """Where one site of the demo is. `root` holds its `config/` and `sites/`, `log` is its daemon's file."""

    name: str
    root: str
    data: str
    state: str
    web: str
    log: str

    def carried(self) -> list[str]:
        """The names of its mirrors."""
        return [mirror.name for mirror in load(self.root).mirrors_of(self.name)]

    def tree(self, mirror: str) -> str:
        """Where a mirror lies."""
        return os.path.join(self.data, load(self.root).mirrors[mirror].path.strip("/"))


def check(source: str) -> None:
    """Raises UsageError, ConfigErrors where there is no cluster to be played."""
    for name in ("config", "sites"):
        if not os.path.isdir(os.path.join(source, name)):
            raise UsageError(
                f"{source}: there is no {name}/ in it; run the demo in a checkout, or with -C DIR"
            )
    load(source)


def together(source: str, folder: str, url: Url) -> list[Place]:
    """Copy `config/` and `sites/` to `folder`, and rewrite what must be another one here."""
    root = _copied(source, os.path.join(folder, "cluster"))
    places = [_site(source, name, root, folder, peer=True) for name in names(source)]
    for name in sorted(os.listdir(os.path.join(root, "config", "mirrors"))):
        _mirror(os.path.join(root, "config", "mirrors", name), url)
    for site in load(root).sites.values():
        keys.make(site, site.state)
    return places


def alone(source: str, folder: str, url: Url) -> list[Place]:
    """The same sites, each in a configuration that knows no other, with the trees that come by HTTP."""
    return [_lone(source, os.path.join(folder, name), name, url) for name in names(source)]


def _lone(source: str, folder: str, name: str, url: Url) -> Place:
    root = _copied(source, os.path.join(folder, "cluster"))
    place = _site(source, name, root, os.path.dirname(folder), peer=False)
    mirrors = os.path.join(root, "config", "mirrors")
    carried = {mirror.name for mirror in load(source).mirrors_of(name)}.intersection(BY_HTTP)
    for file in sorted(os.listdir(mirrors)):
        if file.removesuffix(".xml") in carried:
            _mirror(os.path.join(mirrors, file), url, only=name)
        else:
            os.unlink(os.path.join(mirrors, file))
    return place


def names(source: str) -> list[str]:
    """The sites, in the order of their names."""
    files = sorted(os.listdir(os.path.join(source, "sites")))
    return [name.removesuffix(".toml") for name in files if name.endswith(".toml")]


def _copied(source: str, root: str) -> str:
    shutil.copytree(os.path.join(source, "config"), os.path.join(root, "config"))
    os.makedirs(os.path.join(root, "sites"))
    return root


def _site(source: str, name: str, root: str, folder: str, *, peer: bool) -> Place:
    with open(os.path.join(source, "sites", f"{name}.toml"), "rb") as opened:
        told = tomllib.load(opened)
    place = Place(
        name,
        root,
        os.path.join(folder, name, "data"),
        os.path.join(folder, name, "state"),
        f"127.0.0.1:{free_port()}",
        os.path.join(folder, f"{name}.log"),
    )
    os.makedirs(place.data)
    os.makedirs(place.state)
    with open(os.path.join(root, "sites", f"{name}.toml"), "w", encoding="utf-8") as out:
        out.write(
            f'name = "{name}"\ntitle = "{told["title"]}"\ncontact = "{told["contact"]}"\n'
            f'data = "{place.data}"\nstate = "{place.state}"\n'
            f'web = "{place.web}"\npublic_url = "http://{place.web}"\npasses = 3\nreserve = 0\n'
        )
        if peer:
            address = f"127.0.0.1:{free_port()}"
            out.write(
                f'\n[peer]\nurl = "https://{address}"\nlisten = "{address}"\ncertificate = "{name}.pem"\n'
            )
    return place


def _mirror(file: str, url: Url, only: str = "") -> None:
    """Point the descriptor at the demo's origin, for `only` this site; passes begin when the demo says so."""
    tree = etree.parse(file, etree.XMLParser(resolve_entities=False, no_network=True))
    mirror = tree.getroot()
    for element in mirror.findall("origin"):
        element.set("url", url(str(mirror.get("name"))))
    for sites in mirror.findall("sites"):
        for site in sites.findall("site"):
            if only and site.get("name") != only:
                sites.remove(site)
    schedule = mirror.find("schedule")
    if schedule is None:
        schedule = etree.SubElement(mirror, "schedule")
    schedule.set("paused", "yes")
    tree.write(file, xml_declaration=True, encoding="UTF-8")

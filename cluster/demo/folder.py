"""The demo's configuration: the shipped cluster, copied, with free ports, own folders and fresh keys."""

from __future__ import annotations

import os
import shutil
import tomllib
from dataclasses import dataclass

from cluster.config.load import load
from cluster.demo.origin import Origin
from cluster.demo.processes import free_port
from cluster.errors import UsageError
from cluster.model import Cluster
from cluster.peer import keys


@dataclass(frozen=True, slots=True)
class Place:
    """Where one site of the demo is."""

    name: str
    data: str
    state: str
    web: str


def check(source: str) -> None:
    """Raises UsageError, ConfigErrors where there is no cluster to be played."""
    for name in ("config", "sites"):
        if not os.path.isdir(os.path.join(source, name)):
            raise UsageError(
                f"{source}: there is no {name}/ in it; run the demo in a checkout, or with -C DIR"
            )
    load(source)


def copied(source: str, folder: str, origin: Origin) -> tuple[str, list[Place]]:
    """Copy `config/` and `sites/`, and rewrite what must be another one here."""
    root = os.path.join(folder, "cluster")
    shutil.copytree(os.path.join(source, "config"), os.path.join(root, "config"))
    os.makedirs(os.path.join(root, "sites"))
    places = [
        _site(os.path.join(source, "sites", name), root, folder)
        for name in sorted(os.listdir(os.path.join(source, "sites")))
        if name.endswith(".toml")
    ]
    for name in sorted(os.listdir(os.path.join(root, "config", "mirrors"))):
        _mirror(os.path.join(root, "config", "mirrors", name), origin)
    cluster = load(root)
    for site in cluster.sites.values():
        keys.make(site, site.state)
    return root, places


def _site(file: str, root: str, folder: str) -> Place:
    with open(file, "rb") as opened:
        told = tomllib.load(opened)
    name = told["name"]
    place = Place(
        name,
        os.path.join(folder, name, "data"),
        os.path.join(folder, name, "state"),
        f"127.0.0.1:{free_port()}",
    )
    os.makedirs(place.data)
    os.makedirs(place.state)
    peer = f"127.0.0.1:{free_port()}"
    with open(os.path.join(root, "sites", f"{name}.toml"), "w", encoding="utf-8") as out:
        out.write(
            f'name = "{name}"\ntitle = "{told["title"]}"\ncontact = "{told["contact"]}"\n'
            f'data = "{place.data}"\nstate = "{place.state}"\n'
            f'web = "{place.web}"\npublic_url = "http://{place.web}"\npasses = 3\nreserve = 0\n\n'
            f'[peer]\nurl = "https://{peer}"\nlisten = "{peer}"\ncertificate = "{name}.pem"\n'
        )
    return place


def _mirror(file: str, origin: Origin) -> None:
    """Point the descriptor at the demo's origin; passes begin when the demo says so."""
    from lxml import etree

    tree = etree.parse(file, etree.XMLParser(resolve_entities=False, no_network=True))
    mirror = tree.getroot()
    for element in mirror.findall("origin"):
        element.set("url", origin.url(str(mirror.get("name"))))
    schedule = mirror.find("schedule")
    if schedule is None:
        schedule = etree.SubElement(mirror, "schedule")
    schedule.set("paused", "yes")
    tree.write(file, xml_declaration=True, encoding="UTF-8")


def carried(cluster: Cluster, place: Place) -> list[str]:
    """The mirrors of one site, by name."""
    return [mirror.name for mirror in cluster.mirrors_of(place.name)]

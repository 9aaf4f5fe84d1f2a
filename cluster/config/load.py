"""A configuration folder into `model.Cluster`: every file read, every error of all of them told at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.config import conflicts, descriptor, resolve, site, words
from cluster.config.advice import warnings
from cluster.config.reading import Problems, Where, stems, suggestion
from cluster.config.settings import Setting, parsed
from cluster.config.tables import mirror_layer, read_table, scalars
from cluster.config.units import quoted
from cluster.errors import ConfigError, ConfigErrors, UsageError
from cluster.model import Cluster, Mirror, OriginSpec, Rule, Site, shown

__all__ = ["explain", "load", "load_tolerant", "warnings"]

CLUSTER_FILE = "config/cluster.toml"
MAX_SITES = 16


@dataclass(slots=True)
class _Folder:
    """Everything that was read, good and bad."""

    root: str
    name: str = ""
    title: str = ""
    defaults: dict[str, Setting] = field(default_factory=dict)
    sites: dict[str, site.SiteFile] = field(default_factory=dict)
    descriptors: dict[str, dict[str, Setting]] = field(default_factory=dict)
    site_names: list[str] = field(default_factory=list)
    pairs: list[set[str]] = field(default_factory=list)  # mirrors whose paths meet
    problems: Problems = field(default_factory=Problems)

    def layers(
        self, mirror: str, at: str | None
    ) -> tuple[resolve.Layers, Mapping[str, Setting], resolve.Layers]:
        """Below the descriptor, the descriptor, above it: `cluster.config.resolve`."""
        said = self.descriptors[mirror]
        if at is None:
            return [self.defaults], said, []
        file = self.sites[at]
        return [self.defaults, file.defaults], said, [file.mirrors.get(mirror, {})]

    def mirror(self, name: str, at: str | None) -> Mirror:
        found = resolve.mirror(name, *self.layers(name, at), self.site_names, at)
        if at is not None and any(origin.command for origin in found.origins):
            found = replace(
                found, origins=tuple(self._placed(found, n, at) for n in range(len(found.origins)))
            )
        elsewhere = ((site, self._rules(name, site)) for site in found.sites if site in self.sites)
        return replace(found, elsewhere=tuple(one for one in elsewhere if one[1] != found.select))

    def _placed(self, mirror: Mirror, number: int, at: str) -> OriginSpec:
        """An origin with the folder that its program has at this site."""
        origin = mirror.origins[number]
        if origin.command is None:
            return origin
        folder = os.path.join(self.sites[at].site.state, "commands", mirror.name, str(number + 1))
        return replace(origin, command=replace(origin.command, folder=folder))

    def _rules(self, name: str, at: str) -> tuple[Rule, ...]:
        below, said, above = self.layers(name, at)
        return resolve.selection(resolve.effective([*below, said, *above]), at)


def load(root: str, site: str | None = None) -> Cluster:
    """The cluster as `site` sees it, or with the cluster's defaults alone where `site` is None.

    Raises ConfigErrors with every error of every file, and UsageError for a site that there is not.
    Folders on disk are judged for `site` only: the others are on other machines; without one, for all.
    """
    folder = _read(root, site)
    errors = folder.problems.ordered()
    if errors:
        raise ConfigErrors(errors)
    _known(folder, site)
    sites = {name: file.site for name, file in folder.sites.items()}
    return _cluster(folder, sites, {name: folder.mirror(name, site) for name in folder.descriptors})


def load_tolerant(
    root: str, site: str, old: Mapping[str, Mirror] | None = None
) -> tuple[Cluster, dict[str, list[ConfigError]]]:
    """For a daemon that must not stop for one bad file (HAZARDS 140): what is valid, and what is not.

    A mirror whose descriptor is not valid keeps its definition in `old`, and so its paths: whoever wants them
    as well is not valid either, so that two mirrors never have one path.

    The errors are keyed by mirror; those of another site's file by its file name, and that site is left
    out. Where two mirrors' paths meet, both are. Raises ConfigErrors for errors in `cluster.toml` or in the
    site's own file, UsageError for a site that there is not.
    """
    folder = _read(root, site)
    own = (CLUSTER_FILE, f"sites/{site}.toml")
    errors = folder.problems.ordered()
    fatal = [error for error in errors if error.file in own]
    if fatal:
        raise ConfigErrors(fatal)
    _known(folder, site)
    bad: dict[str, list[ConfigError]] = {}
    for error in errors:
        bad.setdefault(_subject(error.file), []).append(error)
    for pair in folder.pairs:
        for name in pair - bad.keys():
            bad[name] = [
                e for other in pair & bad.keys() for e in bad[other] if f"mirror {name} " in e.message
            ]
    kept = _kept(folder, bad, old or {})
    sites = {n: f.site for n, f in folder.sites.items() if f"sites/{n}.toml" not in bad}
    mirrors = {name: folder.mirror(name, site) for name in folder.descriptors if name not in bad}
    return _cluster(folder, sites, mirrors | kept), bad


def _kept(folder: _Folder, bad: dict[str, list[ConfigError]], old: Mapping[str, Mirror]) -> dict[str, Mirror]:
    """The old definitions that stay. Those that they refuse are added to `bad`, and may keep their own."""
    while True:
        kept = {name: old[name] for name in bad if name in old}
        valid = {name: said for name, said in folder.descriptors.items() if name not in bad}
        problems = Problems()
        if not conflicts.taken(valid, kept, problems):
            return kept
        for error in problems.ordered():
            bad.setdefault(_subject(error.file), []).append(error)


def explain(root: str, mirror: str, site: str | None = None) -> list[tuple[str, str, str]]:
    """Every effective setting of a mirror as `(key, value, FILE:LINE or "built in")`.

    Raises ConfigErrors where the configuration is not valid, UsageError for an unknown mirror or site.
    """
    folder = _read(root, site)
    errors = folder.problems.ordered()
    if errors:
        raise ConfigErrors(errors)
    _known(folder, site)
    if mirror not in folder.descriptors:
        raise UsageError(f"{quoted(mirror)}: no such mirror" + suggestion(mirror, folder.descriptors))
    below, said, above = folder.layers(mirror, site)
    settings = resolve.effective([*below, said, *above])
    if not settings["sites"].value:
        settings["sites"] = Setting(tuple(folder.site_names))
    return resolve.shown(settings, resolve.origins(below, said, above))


def _cluster(folder: _Folder, sites: dict[str, Site], mirrors: dict[str, Mirror]) -> Cluster:
    return Cluster(name=folder.name, title=folder.title, root=folder.root, sites=sites, mirrors=mirrors)


def _known(folder: _Folder, name: str | None) -> None:
    if name is not None and name not in folder.sites:
        raise UsageError(f"{quoted(name)}: no such site" + suggestion(name, folder.site_names))


def _subject(file: str) -> str:
    """A mirror's name for its descriptor, the file itself for any other."""
    inside = file.removeprefix(descriptor.FOLDER + "/")
    return inside.removesuffix(".xml") if inside != file else file


def _read(root: str, here: str | None) -> _Folder:
    folder = _Folder(os.path.abspath(root))
    problems = folder.problems
    defaults = _cluster_file(folder)
    mirrors = stems(folder.root, descriptor.FOLDER, ".xml")
    folder.site_names = stems(folder.root, site.FOLDER, ".toml")
    for name in mirrors:
        try:
            words.name(name)
        except ValueError as error:
            file = shown(os.fsencode(f"{descriptor.FOLDER}/{name}.xml"))
            problems.add(Where(file, 1), "", f"a file's name is the mirror's name: {error}")
        else:
            folder.descriptors[name] = descriptor.read_descriptor(folder.root, name, problems)
    for name in folder.site_names:
        file_of = site.read_site(folder.root, name, defaults, set(mirrors), problems)
        if file_of is not None:
            folder.sites[name] = file_of
            conflicts.folders(file_of, here in (None, name), problems)
            if here in (None, name):
                conflicts.mounts(file_of, folder.descriptors, problems)
    if not 1 <= len(folder.site_names) <= MAX_SITES and os.path.isdir(os.path.join(folder.root, "config")):
        count = len(folder.site_names)
        problems.add(Where(CLUSTER_FILE, 1), "", f"{count} files in sites/; a cluster has 1 to {MAX_SITES}")
    folder.pairs = conflicts.paths(folder.descriptors, problems)
    conflicts.carriers(folder.descriptors, folder.site_names, problems)
    tables = (t for f in folder.sites.values() for t in (f.defaults, *f.mirrors.values()))
    conflicts.ruled([folder.defaults, *folder.descriptors.values(), *tables], folder.site_names, problems)
    conflicts.addresses(folder.sites, problems)
    for name, said in folder.descriptors.items():
        conflicts.every_view(name, [folder.defaults], said, folder.sites.values(), problems)
    return folder


def _cluster_file(folder: _Folder) -> dict[str, Any]:
    """`config/cluster.toml` into the folder; returns the defaults for sites."""
    problems = folder.problems
    if not os.path.isdir(os.path.join(folder.root, "config")):
        message = (
            f"there is no folder config/ in {shown(os.fsencode(folder.root))}; "
            "-C names the folder that holds config/ and sites/"
        )
        problems.add(Where(CLUSTER_FILE, 1), "", message)
        return {}
    table = read_table(folder.root, CLUSTER_FILE, problems)
    if table is None:
        return {}
    own = scalars(table, {"name": words.name, "title": words.line}, {"defaults"}, problems)
    folder.name, folder.title = own.get("name", ""), own.get("title", "")
    if "name" not in table.values:
        problems.add(Where(CLUSTER_FILE, 1), "name", 'missing; write name = "my-cluster"')
    defaults = table.tables("defaults", problems)
    if defaults is None:
        return {}
    scalars(defaults, {}, {"mirror", "site"}, problems)
    mirror, sites = defaults.tables("mirror", problems), defaults.tables("site", problems)
    if mirror is not None:
        folder.defaults = parsed(mirror_layer(mirror, problems), folder.root, problems)
    return site.site_values(sites, folder.root, problems)

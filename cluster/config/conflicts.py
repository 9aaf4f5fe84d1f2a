"""What no file can see alone: two mirrors with one path, a site that is not there, folders in one another.

Paths are compared by components, never as text: `/deb` and `/debian` do not meet (HAZARDS 136).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from cluster.config import resolve, units
from cluster.config.reading import Problems, Raw, Where, suggestion
from cluster.config.settings import Setting
from cluster.config.site import SiteFile
from cluster.model import Mirror, Role, Rule, Trust
from cluster.plan.pattern import Expression, Pattern

PRIVATE = ".sideways"  # in `data`: marker, temporaries, trash
Descriptors = Mapping[str, Mapping[str, Setting]]


def paths(descriptors: Descriptors, problems: Problems) -> list[set[str]]:
    """Public paths and aliases that meet: one error each, in the file that comes later by name.

    Returns the pairs of mirrors, since neither can be served.
    """
    public = sorted(
        (
            (tuple(path.split("/")), name, said.where, said.label)
            for name, settings in descriptors.items()
            for path, said in _public(settings)
        ),
        key=lambda this: (this[0], this[1], this[2].line),
    )
    pairs = []
    open_above: list[tuple[tuple[str, ...], str, Where, str]] = []
    for this in public:
        while open_above and this[0][: len(open_above[-1][0])] != open_above[-1][0]:
            open_above.pop()
        if open_above:
            first, second = sorted((open_above[-1], this), key=lambda p: (p[2].file, p[2].line))
            how = "the same as" if first[0] == second[0] else "below" if second is this else "above"
            text, other = "/".join(second[0]), "/".join(first[0])
            problems.add(second[2], second[3], f"{text} is {how} {other} of mirror {first[1]} ({first[2]})")
            pairs.append({first[1], second[1]})
        open_above.append(this)
    return pairs


def taken(descriptors: Descriptors, kept: Mapping[str, Mirror], problems: Problems) -> set[str]:
    """Which of these mirrors want a path that another has whose old definition is `kept`: one error each."""
    old = [
        (tuple(path.split("/")), mirror.name)
        for _, mirror in sorted(kept.items())
        for path in (mirror.path, *mirror.aliases)
    ]
    refused = set()
    for name, settings in sorted(descriptors.items()):
        for path, said in _public(settings):
            this = tuple(path.split("/"))
            for there, other in old:
                if name in refused or other == name or not _meet(this, there):
                    continue
                how = "the same as" if this == there else "below" if len(this) > len(there) else "above"
                problems.add(
                    said.where,
                    said.label,
                    f"{path} is {how} {'/'.join(there)} of mirror {other}, whose old definition stays "
                    f"until its descriptor is valid",
                )
                refused.add(name)
    return refused


def _meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _public(settings: Mapping[str, Setting]) -> Iterable[tuple[str, Setting]]:
    if "path" in settings:
        yield settings["path"].value, settings["path"]
    if "alias" in settings:
        for alias in settings["alias"].value:
            yield alias, settings["alias"]


def carriers(descriptors: Descriptors, sites: Iterable[str], problems: Problems) -> None:
    """`<sites>` names sites that there are, each once."""
    known = set(sites)
    for settings in descriptors.values():
        said = settings.get("sites")
        for name in said.value if said else ():
            if said and name not in known:
                problems.add(
                    said.where, "<site name>", f"no such site: {units.quoted(name)}" + suggestion(name, known)
                )
        if said and len(set(said.value)) < len(said.value):
            problems.add(said.where, said.label, "names a site twice")


def jitter(settings: Mapping[str, Setting], problems: Problems) -> None:
    """A pass cannot be put off for longer than the time between two passes."""
    every, said = settings["schedule.every"].value, settings["schedule.jitter"]
    if every is not None and said.value > every:
        shown = units.shown_duration(said.value)
        problems.add(said.where, said.label, f"{shown} is longer than every, {units.shown_duration(every)}")


def listings(settings: Mapping[str, Setting], problems: Problems) -> None:
    """Who trusts siblings with no byte does not trust them with what is to be fetched."""
    said = settings["sideways.listings"]
    if said.value and settings["sideways.trust"].value is Trust.STRICT:
        problems.add(said.where, said.label, 'goes with trust="siblings" only')


def rules(settings: Mapping[str, Setting], site: str | None, problems: Problems) -> None:
    """What a rule names is there: the lists, with as many values as a pattern may have."""
    said, lists = settings["select"], {define.name for define in settings["define"].value}
    for rule in resolve.selection(settings, site):
        where, label = _place(rule, said), "<include>" if rule.include else "<exclude>"
        unknown = [name for name in resolve.named(rule) if name not in lists]
        for name in unknown:
            how = suggestion(name, lists) if lists else f'; <define name="{name}" values="..."/> makes one'
            message = f"no list is called {units.quoted(name)}{how}"
            problems.add(where, label, message)
        if rule.lists and not unknown:
            with problems.noting(Raw("", where, label)):
                (Expression if rule.regex else Pattern).compile(rule.regex or rule.pattern, dict(rule.lists))


def _place(rule: Rule, said: Setting) -> Where:
    file, _, line = rule.where.rpartition(":")
    return Where(file, int(line)) if file else said.where


def ruled(layers: Iterable[Mapping[str, Setting]], sites: Iterable[str], problems: Problems) -> None:
    """Rules for some sites name sites that there are."""
    known = set(sites)
    for settings in layers:
        said = settings.get("select")
        for rule in said.value if said else ():
            for name in rule.sites:
                if said and name not in known:
                    message = f"no such site: {units.quoted(name)}" + suggestion(name, known)
                    where, kind = _place(rule, said), "include" if rule.include else "exclude"
                    label = f"<{kind} site>" if where.file.endswith(".xml") else f"{said.label}: {kind} site"
                    problems.add(where, label, message)


def origins(specs: Iterable[Mapping[str, Setting]], problems: Problems) -> None:
    """The same origin twice helps nobody, and bytes are of no use without facts."""
    specs = list(specs)
    roles = [attributes["role"] for attributes in specs if "role" in attributes]
    if roles and len(roles) == len(specs) and all(role.value is Role.BYTES for role in roles):
        problems.add(roles[0].where, roles[0].label, 'one origin at least must have role="reference"')
    seen: dict[str, Where] = {}
    for attributes in specs:
        url = attributes["url"]
        if url.value in seen:
            problems.add(url.where, url.label, f"the same as the origin in line {seen[url.value].line}")
        seen.setdefault(url.value, url.where)


def folders(file: SiteFile, here: bool, problems: Problems) -> None:
    """`data` and `state` are two folders, neither in the other. `here`: look at this machine's disk too."""
    site = file.site
    if not site.data or not site.state:
        return
    data, state = (os.path.realpath(p) if here else p for p in (site.data, site.state))
    where = file.lines["data"]
    if here and os.path.islink(site.data):
        problems.add(where, "data", f"{site.data} is a symbolic link; name the folder that it leads to")
    for key, folder in (("data", data), ("state", state)):
        if folder == "/":
            problems.add(file.lines[key], key, "is the root of the file system; name a folder of its own")
    if data == state:
        problems.add(where, "data", f"is the same folder as state ({file.lines['state']}): {site.data}")
    elif _below(state, data):
        problems.add(file.lines["state"], "state", f"{site.state} lies inside data, {site.data} ({where})")
    elif _below(data, state):
        problems.add(where, "data", f"{site.data} lies inside state, {site.state} ({file.lines['state']})")


def mounts(file: SiteFile, descriptors: Descriptors, problems: Problems) -> None:
    """Temporaries are renamed into the public trees: all of `data` is one file system (HAZARDS 112)."""
    site = file.site
    device = _device(site.data)
    if device is None:
        return
    public = [said["path"].value for said in descriptors.values() if "path" in said]
    for folder in (os.path.join(site.data, PRIVATE), *(site.data + path for path in public)):
        if _device(folder) not in (None, device):
            message = (
                f"{folder} is another file system than {site.data}; files could not be renamed into place"
            )
            problems.add(file.lines["data"], "data", message)


def _device(path: str) -> int | None:
    try:
        return os.stat(path, follow_symlinks=False).st_dev
    except OSError:
        return None


def _below(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder


def addresses(files: Mapping[str, SiteFile], problems: Problems) -> None:
    """Siblings tell each other apart by address and by certificate."""
    urls: dict[str, SiteFile] = {}
    keys: dict[str, SiteFile] = {}
    for file in files.values():
        peer = file.site.peer
        if peer is None:
            continue
        if file.site.web and file.site.web == peer.listen:
            problems.add(
                file.lines["peer.listen"], "peer.listen", f"{peer.listen} is where web listens already"
            )
        other = urls.setdefault(peer.url, file)
        if peer.url and other is not file:
            message = f"{peer.url} is the address of {other.site.name} too ({other.lines['peer.url']})"
            problems.add(file.lines["peer.url"], "peer.url", message)
        for text in peer.certificates:
            other = keys.setdefault(text, file)
            if other is not file:
                message = f"holds the certificate of {other.site.name} ({other.lines['peer.certificate']})"
                problems.add(file.lines["peer.certificate"], "peer.certificate", message)


def every_view(
    name: str,
    cluster: resolve.Layers,
    descriptor: Mapping[str, Setting],
    files: Iterable[SiteFile],
    problems: Problems,
) -> None:
    """What can only be judged when the layers of a site are laid on one another."""
    views: list[tuple[str | None, resolve.Layers, resolve.Layers]] = [(None, cluster, [])]
    views += [(f.site.name, [*cluster, f.defaults], [f.mirrors.get(name, {})]) for f in files]
    for site, below, above in views:
        effective = resolve.effective([*below, descriptor, *above])
        jitter(effective, problems)
        listings(effective, problems)
        rules(effective, site, problems)
    origins(resolve.origins(cluster, descriptor, []), problems)

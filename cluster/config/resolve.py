"""From layers of settings to one mirror as one site sees it.

Later wins: what is built in; `[defaults.mirror]` of `cluster.toml`; `[defaults]` of the site file; the
descriptor; `[mirrors.NAME]` of the site file. So defaults come from the cluster, are overridden per site,
then per mirror, and the last word on one mirror at one site is that site's. Without a site its two layers
are left out. A list replaces the list below it; of `<define>` only those of the same name are replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cluster.config.settings import FIELDS, LIMITED, LISTS, ORIGIN, Setting, built_in
from cluster.model import (
    Attributes,
    CommandSpec,
    Deletion,
    Hooks,
    Limits,
    Mirror,
    OriginSpec,
    Rule,
    Schedule,
    Serve,
    Sideways,
    Storage,
    Trace,
)
from cluster.plan.pattern import variables

Layers = Sequence[Mapping[str, Setting]]  # the descriptor's is last but one
_GROUPS: Mapping[str, type] = {
    "schedule": Schedule,
    "limits": Limits,
    "delete": Deletion,
    "sideways": Sideways,
    "attributes": Attributes,
    "storage": Storage,
    "serve": Serve,
    "hooks": Hooks,
    "trace": Trace,
}
_IDENTITY = ("title", "description", "homepage", "category", "contact", "path")


def effective(cluster: Layers) -> dict[str, Setting]:
    """Every setting but the origins, with where its value comes from.

    `cluster` is the layers from the lowest to the highest. A cron line hides the `every` of a lower layer,
    and the reverse.
    """
    out = {key: Setting(built_in(key)) for key in (*FIELDS, *LISTS)}
    for layer in cluster:
        if "schedule.cron" in layer:
            out["schedule.every"] = Setting(None, layer["schedule.cron"].where)
        if "schedule.every" in layer:
            out["schedule.cron"] = Setting(None, layer["schedule.every"].where)
        out |= {key: setting for key, setting in layer.items() if key in out and key != "define"}
        if "define" in layer:
            out["define"] = _defined(out["define"], layer["define"])
    return out


def _defined(below: Setting, said: Setting) -> Setting:
    """Of all lists only one is replaced name by name: what a layer defines, and what is left from below."""
    lists = {define.name: define for define in (*below.value, *said.value)}
    return Setting(tuple(lists.values()), said.where, said.label)


def selection(settings: Mapping[str, Setting], site: str | None) -> tuple[Rule, ...]:
    """The rules as `site` has them, with what their lists stand for. Without a site, those of all sites."""
    lists = {define.name: define.values for define in settings["define"].value}
    return tuple(
        replace(rule, lists=tuple((name, lists[name]) for name in named(rule) if name in lists))
        for rule in settings["select"].value
        if not rule.sites or site in rule.sites
    )


def named(rule: Rule) -> list[str]:
    """The lists that its pattern names, each once."""
    return list(dict.fromkeys(name for _, name in variables(rule.regex or rule.pattern)))


def origins(below: Layers, descriptor: Mapping[str, Setting], above: Layers) -> list[dict[str, Setting]]:
    """Every attribute of every origin: its element's own, else a default, unless the site says otherwise."""
    lower, upper = effective(below), {k: v for layer in above for k, v in layer.items()}
    out = []
    for said in descriptor["origin"].value if "origin" in descriptor else ():
        if "url" in said:
            attributes = {
                name: said.get(name, lower.get(f"origin.{name}", Setting(built_in(f"origin.{name}"))))
                for name in ORIGIN
            }
            attributes |= {name: upper[f"origin.{name}"] for name in ORIGIN if f"origin.{name}" in upper}
            out.append(attributes)
    return out


def mirror(
    name: str,
    below: Layers,
    descriptor: Mapping[str, Setting],
    above: Layers,
    sites: Sequence[str],
    site: str | None = None,
) -> Mirror:
    """The mirror that these layers make. `sites` are all there are, for a descriptor that names none; `site`
    is whose layers they are."""
    settings = effective([*below, descriptor, *above])
    values: dict[str, Any] = {key: settings[key].value for key in _IDENTITY}
    for group, kind in _GROUPS.items():
        fields: dict[str, Any] = {}
        for key, setting in settings.items():
            if key.startswith(group + "."):
                fields |= _fields(key[len(group) + 1 :], setting.value)
        values[group] = kind(**fields)
    return Mirror(
        name=name,
        origins=tuple(_spec(attributes) for attributes in origins(below, descriptor, above)),
        aliases=settings["alias"].value,
        order=settings["walk.order"].value,
        select=selection(settings, site),
        last=settings["publish.last"].value,
        lists=settings["publish.lists"].value,
        downstreams=settings["downstream"].value,
        repositories=settings["repository"].value,
        sites=tuple(sorted(set(settings["sites"].value or sites))),
        **values,
    )


def _fields(attribute: str, said: Any) -> dict[str, Any]:  # noqa: ANN401  # every setting has its own type
    """What an attribute of an element is called in the model."""
    if attribute == "modes":
        files, directories = said or (None, None)
        return {"file_mode": files, "directory_mode": directories}
    return {"probes" if attribute == "probe" else attribute.replace("-", "_"): said}


def _spec(attributes: Mapping[str, Setting]) -> OriginSpec:
    values = {name.replace("-", "_"): setting.value for name, setting in attributes.items()}
    method, arguments = values.pop("method"), values.pop("command")
    limits = {name: values.pop(name) for name in LIMITED}
    command = CommandSpec(arguments, **limits) if method == "command" else None
    return OriginSpec(downgrade=values.pop("redirect_downgrade"), command=command, **values)


def shown(
    settings: Mapping[str, Setting], specs: Sequence[Mapping[str, Setting]]
) -> list[tuple[str, str, str]]:
    """`(key, value, where)` of every setting for people; lists and origins one line each."""
    rows = [
        (key, field.show(settings[key].value), str(settings[key].where))
        for key, field in FIELDS.items()
        if not key.startswith("origin.")
    ]
    for key, listed in LISTS.items():
        said = settings[key]
        rows += [(key, listed.show(value), str(said.where)) for value in said.value] or [
            (key, "-", str(said.where))
        ]
    for number, attributes in enumerate(specs, 1):
        rows += [
            (f"origin[{number}].{name}", ORIGIN[name].show(said.value), str(said.where))
            for name, said in attributes.items()
        ]
    return rows

"""Every setting of a mirror: how its text is read, how its value is shown, where it may stand.

Keys are an element and an attribute as in the descriptor (`limits.connections`) and are the same in the
tables of `cluster.toml` and the site files. One table for both notations: a default means what a descriptor
means. Values are what `cluster.model` holds.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from cluster.config import units, words
from cluster.config.reading import BUILT_IN, Item, Layer, Problems, Raw, Where, suggestion
from cluster.model import (
    CommandSpec,
    Delta,
    Downstream,
    HourRate,
    Kind,
    Mirror,
    Once,
    Order,
    OriginSpec,
    Probe,
    Pushed,
    Repository,
    Role,
    Rule,
    Told,
    Trust,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One parsed value and where it was said."""

    value: Any
    where: Where = BUILT_IN
    label: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """How one setting is read and shown. `file`: a path, relative to the file that it stands in;
    `secret`: that file must be of mode 0600 (HAZARDS section 4). `text`: a number or true, which TOML knows
    as well, is not what it can be.
    """

    parse: Callable[[str], Any]
    show: Callable[[Any], str] = str
    file: bool = False
    secret: bool = False
    text: bool = False


@dataclass(frozen=True, slots=True)
class ListField:
    """A setting that is said several times; one layer's list replaces the one below it as a whole.

    `needs` and `may` name the attributes of an item; `kinds` the elements it may be; `files` those attributes
    that are paths, relative to the file that they stand in.
    """

    parse: Callable[[Item], Any]
    show: Callable[[Any], str]
    kinds: tuple[str, ...]
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def _whole(low: int, high: int) -> Field:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 19 and low <= int(text) <= high):
            raise ValueError(f"{units.quoted(text)} is not a whole number from {low} to {high}")
        return int(text)

    return Field(parse)


def _duration(low: float, high: float = units.MAX_DURATION) -> Field:
    def parse(text: str) -> float:
        seconds = units.duration(text)
        if not low <= seconds <= high:
            least, most = units.shown_duration(low), units.shown_duration(high)
            raise ValueError(f"{units.quoted(text)} is not from {least} to {most}")
        return seconds

    return Field(parse, units.shown_duration)


def _choice(kind: Callable[[str], Any], *values: str) -> Field:
    def parse(text: str) -> object:
        if text not in values:
            raise ValueError(f"{units.quoted(text)} is not one of {', '.join(values)}")
        return kind(text)

    return Field(parse)


def _or(word: str, meaning: object, field: Field) -> Field:
    """A setting for which one more word is allowed."""
    return replace(
        field,
        parse=lambda text: meaning if text == word else field.parse(text),
        show=lambda value: word if value == meaning else field.show(value),
    )


def _optional(field: Field) -> Field:
    """Shown as `-` where it is not set."""
    return replace(field, show=lambda v: "-" if v is None or v in ("", ()) else field.show(v))


YES = Field(words.yes, lambda v: "yes" if v else "no")
LINE = _optional(Field(words.line))
RATE = Field(units.rate, units.shown_rate)
SIZE = Field(units.size, units.shown_size)
SHARE = Field(units.share, units.shown_share)
MODES = _optional(Field(words.modes, lambda v: f"{v[0]:04o} {v[1]:04o}"))
SECRET = _optional(Field(words.file_name, file=True, secret=True, text=True))

ORIGIN: Mapping[str, Field] = {
    "url": Field(words.origin_url),
    "private": YES,
    "proxy": _or("none", None, Field(words.proxy_url)),
    "bind": _optional(Field(words.address)),
    "family": _choice(str, "any", "ipv4", "ipv6"),
    "user-agent": _optional(Field(words.agent, text=True)),
    "credentials": SECRET,
    "ca": _optional(Field(words.file_name, file=True, text=True)),
    "timezone": _optional(Field(words.zone)),
    "redirect-downgrade": YES,
    "watch": YES,
    "marker": _optional(Field(lambda text: words.relative_path(text).decode(), text=True)),
    "paused": YES,
    "role": _choice(Role, *Role),
    "index": _optional(Field(words.index, text=True)),
    "index-age": _or("any", None, _duration(600)),
    "index-walk": _or("never", None, _duration(3600)),
    "method": _choice(str, "url", "command"),
    "command": _optional(Field(words.command, shlex.join, text=True)),
    "time": _duration(1, 7 * 86_400),
    "space": _or("unlimited", None, SIZE),
    "memory": _or("unlimited", None, SIZE),
    "processes": _or("unlimited", None, _whole(1, 100_000)),
    "user": _optional(Field(words.account)),
}
NAMED = ("url", "method", "command")  # what makes an origin this one and no other: never a default
PROXIED = ("http", "https", "rsync", "rsyncs")
BOUND = ("http", "https", "ftp", "ftps", "rsync", "rsync+ssh")  # rsync-ssl knows no address to come from
LIMITED = ("time", "space", "memory", "processes", "user")  # of a command

FIELDS: Mapping[str, Field] = {
    "title": LINE,
    "description": LINE,
    "homepage": _optional(Field(words.web_url)),
    "category": _optional(Field(words.category)),
    "contact": _optional(Field(words.contact)),
    "path": Field(words.public_path),
    **{f"origin.{name}": field for name, field in ORIGIN.items() if name not in NAMED},
    "schedule.every": _or("never", None, _duration(60)),
    "schedule.jitter": _duration(0),
    "schedule.cron": _optional(Field(words.cron)),
    "schedule.window": _optional(Field(units.hours, units.shown_hours)),
    "schedule.webhook": SECRET,
    "schedule.paused": YES,
    "walk.order": _choice(Order, *Order),
    "publish.lists": _optional(Field(words.lists, " ".join)),
    "limits.connections": _whole(1, 64),
    "limits.bandwidth": _or("unlimited", None, RATE),
    "limits.shared": YES,
    "limits.timeout": _duration(1, 3600),
    "limits.retries": _whole(0, 20),
    "limits.file-size": SIZE,
    "limits.directory-entries": _whole(1, 10_000_000),
    "limits.depth": _whole(1, 64),
    "limits.files": _whole(1, 10**9),
    "delete.hold-files": _whole(0, 10**9),
    "delete.hold-share": SHARE,
    "delete.sightings": _whole(1, 100),
    "delete.grace": _duration(0),
    "delete.emptied-after": _duration(0),
    "delete.trash": _duration(0),
    "delete.window": _duration(0),
    "delete.window-share": SHARE,
    "sideways.trust": _choice(Trust, *Trust),
    "sideways.enabled": YES,
    "sideways.patience": _duration(0.1, 600),
    "sideways.delta": _choice(Delta, *Delta),
    "sideways.listings": _or("no", 0.0, _duration(1, 900)),
    "attributes.owner": _optional(Field(words.account)),
    "attributes.group": _optional(Field(words.account)),
    "attributes.modes": MODES,
    "storage.once": _choice(Once, *Once),
    "serve.http": YES,
    "serve.ftp": YES,
    "serve.rsync": YES,
    "trace.level": _choice(Told, *Told),
    "trace.name": _optional(Field(words.name)),
}

DOWNSTREAM: Mapping[str, Field] = {
    "name": Field(words.name),
    "type": _choice(Pushed, *Pushed),
    "ssh": Field(words.account_at_host),
    "key": SECRET,
    "hosts": _optional(Field(words.file_name, file=True)),
    "webhook": Field(words.web_url),
    "secret": SECRET,
    "delay": _duration(1, 86_400),
}


KINDS = {"file": Kind.FILE, "directory": Kind.DIRECTORY, "link": Kind.SYMLINK}
CONDITIONS = ("larger", "smaller", "older", "newer")


def _rule(item: Item) -> Rule:
    said = {name: raw.text for name, raw in item.fields.items()}
    kind = said.get("kind")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind: {units.quoted(kind)} is not one of {', '.join(KINDS)}")
    if ("pattern" in said) and ("regex" in said):
        raise ValueError("either pattern or regex, not both")
    facts = {
        name: (units.size if name in CONDITIONS[:2] else units.age)(said[name])
        for name in CONDITIONS
        if name in said
    }
    if not ({"pattern", "regex"} & said.keys() or facts or kind):
        raise ValueError(
            "says of nothing what it is about; write pattern, regex, larger, smaller, older, newer or kind"
        )
    rule = Rule(
        item.kind == "include",
        "" if "regex" in said else words.rule_pattern(said.get("pattern", "**")),
        words.line(said["reason"]) if "reason" in said else "",
        regex=words.regex(said["regex"]) if "regex" in said else "",
        kind=KINDS[kind] if kind else None,
        sites=tuple(sorted({words.name(name) for name in words.several(said["site"])}))
        if "site" in said
        else (),
        larger=facts.get("larger"),
        smaller=facts.get("smaller"),
        older=facts.get("older"),
        newer=facts.get("newer"),
        where=str(item.where),
    )
    _possible(rule)
    return rule if rule.reason or rule.include else replace(rule, reason=_reason(said))


def _possible(rule: Rule) -> None:
    """Raises ValueError for what no name can be."""
    if rule.smaller == 0:
        raise ValueError("nothing is smaller than 0 bytes")
    if rule.larger is not None and rule.smaller is not None and rule.larger + 1 >= rule.smaller:
        raise ValueError("nothing is larger than that and smaller than this")
    if rule.older is not None and rule.newer is not None and rule.older >= rule.newer:
        raise ValueError("nothing is older than that and newer than this")
    sized, aged = (rule.larger, rule.smaller) != (None, None), (rule.older, rule.newer) != (None, None)
    if rule.kind is Kind.DIRECTORY and (sized or aged):
        raise ValueError("sizes and ages are of files and links, never of directories")
    if rule.kind is Kind.SYMLINK and sized:
        raise ValueError("sizes are of files")
    directories = rule.pattern.endswith("/")
    if directories and (sized or aged or rule.kind not in (None, Kind.DIRECTORY)):
        raise ValueError(
            f"{rule.pattern} matches directories only; write {rule.pattern}** for what is in them"
        )


def _reason(said: dict[str, str]) -> str:
    """What users are told where the rule says more than a pattern and its author did not say why."""
    facts = [f"{name} than {said[name]}" for name in CONDITIONS if name in said]
    if not facts:
        return ""
    about = said.get("regex") or said.get("pattern")
    return ", ".join([*facts, *([f"and matches {about}"] if about else [])])


@dataclass(frozen=True, slots=True)
class Define:
    """A list that patterns may name."""

    name: str
    values: tuple[str, ...]


def _define(item: Item) -> Define:
    return Define(words.list_name(item.fields["name"].text), words.values(item.fields["values"].text))


def _hour(item: Item) -> HourRate:
    start, end = units.clock(item.fields["from"].text), units.clock(item.fields["to"].text)
    if start == end:
        raise ValueError("from and to are the same; write 00:00 and 24:00 for the whole day")
    bandwidth = item.fields["bandwidth"].text
    return HourRate(start, end, 0 if bandwidth == "0" else units.rate(bandwidth))


def _probe(item: Item) -> Probe:
    every = _duration(10).parse(item.fields["every"].text)
    return Probe(words.relative_path(item.fields["path"].text), every)


def _command(item: Item) -> tuple[str, ...]:
    said = item.fields.get("command")
    if (said is None) == (not item.words):
        raise ValueError('either command="..." or <arg> elements, not both and not neither')
    arguments = tuple(raw.text for raw in item.words) if said is None else tuple(shlex.split(said.text))
    if not arguments or not arguments[0].strip() or not all(a.isprintable() for a in arguments):
        raise ValueError("a command has a program, and no control characters")
    return arguments


def _downstream(item: Item) -> Downstream:
    """Its files are made absolute by `parsed`, which knows where the item stands."""
    values = {name: DOWNSTREAM[name].parse(raw.text) for name, raw in item.fields.items()}
    made = Downstream(**values)
    if (made.ssh is None) == (made.webhook is None):
        raise ValueError('either ssh="user@host" or webhook="https://...", not both and not neither')
    if (made.webhook is None) != (made.secret is None):
        raise ValueError("webhook goes with secret, the file of what signs it; ssh goes with key")
    if made.webhook is not None and (made.key or made.hosts):
        raise ValueError("key and hosts go with ssh")
    return made


def _rooted(item: Item, root: str) -> Item:
    """A downstream's files, relative to the file that they stand in. Raises ValueError for a secret that
    others can read."""
    fields = dict(item.fields)
    for name in ("key", "hosts", "secret"):
        if (raw := fields.get(name)) is not None:
            folder = os.path.join(root, os.path.dirname(raw.where.file))
            path = os.path.normpath(os.path.join(folder, words.file_name(raw.text)))
            if name != "hosts":
                _private(path)
            fields[name] = replace(raw, text=path)
    return replace(item, fields=fields)


def _shown_hour(hour: HourRate) -> str:
    return f"{units.shown_hours((hour.start, hour.end))} {units.shown_rate(hour.rate)}"


def shown_rule(rule: Rule) -> str:
    said = [f"regex {rule.regex}" if rule.regex else rule.pattern]
    said += [f"larger {units.shown_size(rule.larger)}"] if rule.larger is not None else []
    said += [f"smaller {units.shown_size(rule.smaller)}"] if rule.smaller is not None else []
    said += [f"older {units.shown_duration(rule.older)}"] if rule.older is not None else []
    said += [f"newer {units.shown_duration(rule.newer)}"] if rule.newer is not None else []
    said += [f"kind {rule.kind}"] if rule.kind is not None else []
    said += [f"site {' '.join(rule.sites)}"] if rule.sites else []
    said += [f"({rule.reason})"] if rule.reason else []
    return f"{'include' if rule.include else 'exclude'} {' '.join(said)}"


REPOSITORIES = ("alpine", "apt", "arch", "plain-digests", "pypi", "yum")  # as `cluster.repository` has them


def _repository(item: Item) -> Repository:
    kind, path, keyring = (item.fields.get(name) for name in ("type", "path", "keyring"))
    assert kind is not None
    if kind.text not in REPOSITORIES:
        raise ValueError(f"{units.quoted(kind.text)} is not one of {', '.join(REPOSITORIES)}")
    if path is not None and not path.text:
        raise ValueError("path is empty; leave it out where the repository is all of the mirror")
    below = words.relative_path(path.text.strip("/")) if path is not None and path.text.strip("/") else b""
    return Repository(kind.text, below, keyring.text if keyring is not None else None)


def _shown_repository(one: Repository) -> str:
    place = "/" + one.path.decode()
    return f"{one.type} {place}" + (f" keyring {one.keyring}" if one.keyring else "")


MOMENTS = ("before", "after", "publish", "failure")
HOOKS = ListField(_command, shlex.join, ("hook",), (), ("command",))

LISTS: Mapping[str, ListField] = {
    "alias": ListField(lambda i: words.public_path(i.fields["path"].text), str, ("alias",), ("path",)),
    "define": ListField(
        _define, lambda d: f"{d.name}: {' '.join(d.values)}", ("define",), ("name", "values")
    ),
    "select": ListField(
        _rule,
        shown_rule,
        ("include", "exclude"),
        (),
        ("pattern", "regex", *CONDITIONS, "kind", "site", "reason"),
    ),
    "schedule.probe": ListField(
        _probe,
        lambda p: f"{p.path.decode()} every {units.shown_duration(p.every)}",
        ("probe",),
        ("path", "every"),
    ),
    "limits.hours": ListField(_hour, _shown_hour, ("hours",), ("from", "to", "bandwidth")),
    "publish.last": ListField(
        lambda i: words.pattern(i.fields["pattern"].text), str, ("last",), ("pattern",)
    ),
    "downstream": ListField(
        _downstream,
        lambda d: f"{d.name} {d.type} {d.ssh or d.webhook}",
        ("downstream",),
        ("name",),
        tuple(name for name in DOWNSTREAM if name != "name"),
    ),
    "repository": ListField(
        _repository, _shown_repository, ("repository",), ("type",), ("path", "keyring"), ("keyring",)
    ),
    "sites": ListField(lambda i: words.name(i.fields["name"].text), str, ("site",), ("name",)),
    **{f"hooks.{moment}": HOOKS for moment in MOMENTS},
}

ONCE: Mapping[str, Callable[[Any], object]] = {  # what may stand once among the items of a list
    "define": lambda one: one.name,
    "downstream": lambda one: one.name,
    "repository": lambda one: (one.type, one.path),
    "schedule.probe": lambda one: one.path,
}

TEXTS = frozenset(
    {"pattern", "regex", "reason", "path", "name", "values", "command"}
    | {"ssh", "key", "hosts", "webhook", "secret"}
)  # of list items: as `Field.text`

# What names a mirror belongs to its descriptor alone: it is the same at every site.
DESCRIPTOR_ONLY = frozenset(
    {"title", "description", "homepage", "category", "path", "alias", "sites", "repository"}
)


def parsed(layer: Layer, root: str, problems: Problems) -> dict[str, Setting]:
    """The values of one file's words about a mirror; what is wrong goes to `problems` and is left out."""
    out: dict[str, Setting] = {}
    for key, said in layer.items():
        if isinstance(said, Raw):
            _put(out, key, FIELDS[key], said, root, problems)
        elif key == "origin":
            out[key] = Setting(tuple(_origin(item, root, problems) for item in said.items), said.where)
        else:
            values = []
            first: dict[object, Where] = {}
            for item in said.items:
                if not _sound(item, problems):
                    continue
                with problems.noting(item):
                    placed = _rooted(item, root) if key == "downstream" else item
                    values.append(LISTS[key].parse(_with_files(placed, LISTS[key].files, root)))
                    if (
                        key in ONCE
                        and (other := first.setdefault(ONCE[key](values[-1]), item.where)) is not item.where
                    ):
                        raise ValueError(f"stands twice; first in line {other.line}")
            out[key] = Setting(tuple(values), said.where, said.label)
    _exclusive(out, problems)
    return out


def _sound(item: Item, problems: Problems) -> bool:
    """Whether every word of an item can be one; else its errors are in `problems`."""
    before = len(problems.errors)
    for raw in (*item.fields.values(), *item.words):
        _short(raw, problems)
    return len(problems.errors) == before


def _short(raw: Raw, problems: Problems) -> bool:
    if len(raw.text) > words.MAX_TEXT:
        problems.add(
            raw.where, raw.label, f"{len(raw.text)} characters; at most {words.MAX_TEXT} are allowed"
        )
    return len(raw.text) <= words.MAX_TEXT


def _with_files(item: Item, names: tuple[str, ...], root: str) -> Item:
    """The same with these attributes as whole paths. Raises ValueError."""
    fields = dict(item.fields)
    for name in names:
        if name in fields:
            said = words.file_name(fields[name].text)
            whole = os.path.normpath(os.path.join(root, os.path.dirname(fields[name].where.file), said))
            fields[name] = replace(fields[name], text=whole)
    return replace(item, fields=fields)


def _put(out: dict[str, Setting], key: str, field: Field, raw: Raw, root: str, problems: Problems) -> None:
    if not _short(raw, problems):
        return
    with problems.noting(raw):
        value = field.parse(raw.text)
        if field.file:
            value = os.path.normpath(os.path.join(root, os.path.dirname(raw.where.file), value))
        if field.secret:
            _private(value)
        out[key] = Setting(value, raw.where, raw.label)


def _private(path: str) -> None:
    """Whoever else can read a file of secrets makes it none. An absent file is a warning, not an error:
    it belongs to one site's machine."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is not a file")
    if stat.S_IMODE(mode) & 0o077:
        raise ValueError(f"{path} has mode {stat.S_IMODE(mode):04o}; a secret must have 0600")


def _origin(item: Item, root: str, problems: Problems) -> dict[str, Setting]:
    out: dict[str, Setting] = {}
    for name, raw in item.fields.items():
        _put(out, name, ORIGIN[name], raw, root, problems)
    _method(out, item, problems)
    if "url" in out and not out["url"].value.startswith("file:"):
        for name in ("watch", "marker"):
            if name in out and out[name].value:
                problems.add(out[name].where, out[name].label, "only a file origin can have this")
    bytes_only = "role" in out and out["role"].value is Role.BYTES
    if bytes_only and "index" in out:
        said = out["index"]
        problems.add(said.where, said.label, "an origin for bytes alone is not asked what there is")
    if "url" in out:
        _reached(out, problems)
    return out


def _reached(out: dict[str, Setting], problems: Problems) -> None:
    """What its method cannot do for an origin is not said of it in vain."""
    scheme = out["url"].value.partition(":")[0]
    able = {"proxy": (PROXIED, "asked through a proxy; write none"), "bind": (BOUND, "asked from an address")}
    for name, (schemes, how) in able.items():
        if name in out and out[name].value and scheme not in schemes:
            said = out[name]
            listed = f"{', '.join(schemes[:-1])} and {schemes[-1]}"
            problems.add(said.where, said.label, f"only origins by {listed} can be {how}")


def _method(out: dict[str, Setting], item: Item, problems: Problems) -> None:
    """An origin has a URL, or is a program's and named after it."""
    program = "method" in out and out["method"].value == "command"
    wrong = [name for name in ("url",) if program and name in item.fields]
    wrong += [name for name in ("command", *LIMITED) if not program and name in item.fields]
    for name in wrong:
        raw = item.fields[name]
        needs = "what a program makes has no address" if program else 'goes with method="command"'
        problems.add(raw.where, raw.label, needs)
    needed = "command" if program else "url"
    if needed not in item.fields:
        problems.add(item.where, item.label, f'the attribute {needed}="..." is missing')
    elif program and "command" in out:
        name = os.path.basename(out["command"].value[0])
        out["url"] = Setting(f"command:{quote(name)}", out["command"].where, out["command"].label)


def _exclusive(out: dict[str, Setting], problems: Problems) -> None:
    """One layer says either how often or by which cron line."""
    if "schedule.every" in out and "schedule.cron" in out:
        cron = out.pop("schedule.cron")
        problems.add(cron.where, cron.label, "either every or cron, not both")


def unknown_setting(key: str) -> str:
    """What to say of a key that no table may hold."""
    if key in DESCRIPTOR_ONLY or key in {f"origin.{name}" for name in NAMED}:
        return (
            "belongs in the mirror's descriptor, config/mirrors/NAME.xml, since it is the same at every site"
        )
    known = {k for k in (*FIELDS, *LISTS) if k not in DESCRIPTOR_ONLY}
    group = key.rpartition(".")[0]
    if group and any(k.startswith(group + ".") for k in known):
        siblings = {k.removeprefix(group + ".") for k in known if k.startswith(group + ".")}
        return "no such key" + suggestion(key.rpartition(".")[2], siblings)
    return "no such key" + suggestion(key.partition(".")[0], {k.partition(".")[0] for k in known})


def built_in(key: str) -> object:
    """The value of a setting that nobody said, from the defaults of `cluster.model`."""
    if key == "define":
        return ()
    group, _, attribute = key.replace("-", "_").rpartition(".")
    if group == "origin" and attribute in ("method", "command"):
        return "url" if attribute == "method" else None
    if group == "origin" and attribute in LIMITED:
        return getattr(CommandSpec(()), attribute)
    if group == "origin":
        return getattr(_ORIGIN, "downgrade" if attribute == "redirect_downgrade" else attribute)
    whole = {
        "alias": "aliases",
        "downstream": "downstreams",
        "walk.order": "order",
        "publish.last": "last",
        "publish.lists": "lists",
        "repository": "repositories",
    }.get(key)
    if whole or not group:
        return getattr(_MIRROR, whole or attribute)
    attribute = "probes" if key == "schedule.probe" else attribute
    return getattr(getattr(_MIRROR, group), attribute)


_MIRROR = Mirror("", "", ())
_ORIGIN = OriginSpec("")

"""`config/cluster.toml` and `sites/NAME.toml`: TOML with the line of every key, and its words by key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.config.reading import Item, Layer, Many, Problems, Raw, Where, read_text, shown_name, suggestion
from cluster.config.settings import DESCRIPTOR_ONLY, FIELDS, LISTS, TEXTS, ListField, unknown_setting
from cluster.config.units import quoted

_HEADER = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*="
)
_PART = re.compile(r"[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'")
_AT_LINE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a file with where its keys stand."""

    values: Mapping[str, Any]
    file: str
    lines: Mapping[tuple[str, ...], int]
    path: tuple[str, ...] = ()

    def label(self, key: str = "") -> str:
        return ".".join(shown_name(part) for part in (*self.path, *([key] if key else ())))

    def where(self, key: str = "") -> Where:
        """The key's line; of its table where the key stands in an inline table."""
        path = (*self.path, *([key] if key else ()))
        while path and path not in self.lines:
            path = path[:-1]
        return Where(self.file, self.lines.get(path, 1))

    def raw(self, key: str, *, text: bool = False) -> Raw:
        """A scalar as text; `text`: only what is text already. Raises ValueError for anything else."""
        value = self.values[key]
        return Raw(_text(value) if text else _scalar(value), self.where(key), self.label(key))

    def tables(self, key: str, problems: Problems) -> Table | None:
        """A table inside this one, or None with an error noted where it is something else."""
        value = self.values.get(key, {})
        if isinstance(value, dict):
            return Table(value, self.file, self.lines, (*self.path, key))
        problems.add(self.where(key), self.label(key), f"is a table: write [{self.label(key)}]")
        return None


def read_table(root: str, file: str, problems: Problems) -> Table | None:
    """A TOML file, or None with the error noted."""
    text = read_text(root, file, problems)
    if text is None:
        return None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        line = int(at[1]) if at and at[1] else max(1, len(text.splitlines()))
        message = _AT_LINE.sub("", str(error))
        message = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        problems.add(Where(file, line), "", f"not TOML: {message[:1].lower()}{message[1:160]}")
        return None
    except RecursionError:
        problems.add(Where(file, 1), "", "not a configuration: nested too deeply")
        return None
    return Table(values, file, _lines(text))


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Where each key stands. tomllib does not tell; a line that only looks like a key costs nothing but
    the number in a message."""
    out: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    open_string = ""
    for number, line in enumerate(text.split("\n"), 1):
        if not open_string:
            header, key = _HEADER.match(line), _KEY.match(line)
            if header and not key:
                table = _parts(header[1])
                for length in range(1, len(table) + 1):
                    out.setdefault(table[:length], number)
            elif key:
                path = (*table, *_parts(key[1]))
                for length in range(len(table) + 1, len(path) + 1):
                    out.setdefault(path[:length], number)
        for quote in ('"""', "'''"):
            if open_string in ("", quote) and line.count(quote) % 2:
                open_string = "" if open_string else quote
    return out


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int):
        return str(value)
    raise ValueError(f"{quoted(str(value))} is neither text nor a whole number nor true or false")


def _text(value: object) -> str:
    """A folder that is called 5 is more often a slip of somebody who meant another line."""
    if isinstance(value, str):
        return value
    shown = quoted(str(value).lower() if isinstance(value, bool) else str(value))
    raise ValueError(f"{shown} is not text, which stands in quotes")


def scalars(
    table: Table,
    parsers: Mapping[str, Callable[[str], Any]],
    also: set[str],
    problems: Problems,
    numbers: Collection[str] = (),
) -> dict[str, Any]:
    """The plain keys, parsed: text, and for `numbers` numbers too. Every other one but `also` is an error."""
    out: dict[str, Any] = {}
    for key in table.values:
        if key in parsers:
            try:
                out[key] = parsers[key](table.raw(key, text=key not in numbers).text)
            except ValueError as error:
                problems.add(table.where(key), table.label(key), str(error))
        elif key not in also:
            message = "no such key" + suggestion(key, {*parsers, *also})
            problems.add(table.where(key), table.label(key), message)
    return out


def mirror_layer(table: Table, problems: Problems) -> Layer:
    """What a table such as `[defaults.mirror]` or `[mirrors.debian]` says about mirrors, by key."""
    out: Layer = {}
    _collect(table, "", out, problems)
    return out


def _collect(table: Table, prefix: str, out: Layer, problems: Problems) -> None:
    for name, value in table.values.items():
        key = f"{prefix}{name}"
        known = key not in DESCRIPTOR_ONLY
        if known and key in FIELDS:
            try:
                out[key] = table.raw(name, text=FIELDS[key].text)
            except ValueError as error:
                problems.add(table.where(name), table.label(name), str(error))
        elif known and (listed := LISTS.get(key)) is not None:
            out[key] = _items(table, name, listed, problems)
        elif isinstance(value, dict) and any(k.startswith(key + ".") for k in (*FIELDS, *LISTS)):
            _collect(Table(value, table.file, table.lines, (*table.path, name)), key + ".", out, problems)
        else:
            problems.add(table.where(name), table.label(name), unknown_setting(key))


def _items(table: Table, name: str, listed: ListField, problems: Problems) -> Many:
    """An array as the items of a list: tables, or plain texts where one attribute is all there is to say."""
    where, label, value = table.where(name), table.label(name), table.values[name]
    out = Many(where, label)
    plain = (listed.needs or listed.may)[0]
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, str) and len(listed.needs) <= 1 and len(listed.kinds) == 1:
            out.items.append(Item(listed.kinds[0], {plain: Raw(entry, where, label)}, where, label))
        elif (
            isinstance(entry, list) and listed.may == ("command",) and all(isinstance(a, str) for a in entry)
        ):
            out.items.append(Item("hook", {}, where, label, tuple(Raw(a, where, label) for a in entry)))
        elif isinstance(entry, dict):
            _item(out, entry, listed, problems)
        else:
            problems.add(where, label, f"{quoted(str(entry))} is not what this list holds; {_form(listed)}")
    return out


def _item(out: Many, entry: dict[str, Any], listed: ListField, problems: Problems) -> None:
    """One inline table. Where an element has two names, its key is one of them: { exclude = "*.tmp" }, or
    { exclude = true, larger = "4GB" } where there is no pattern."""
    renamed = dict(entry)
    kind = next((k for k in listed.kinds if k in entry), listed.kinds[0])
    allowed = (*listed.needs, *listed.may)
    known = len(listed.kinds) == 1 or (kind in entry and "pattern" not in entry)
    if len(listed.kinds) > 1 and kind in entry:
        said = renamed.pop(kind)
        renamed |= {} if said is True else {"pattern": said}
    if not known or set(renamed) - set(allowed) or set(listed.needs) - set(renamed):
        problems.add(
            out.where, out.label, f"has the keys {', '.join(sorted(entry)) or 'none'}; {_form(listed)}"
        )
        return
    try:
        fields = {
            key: Raw((_text if key in TEXTS else _scalar)(value), out.where, out.label)
            for key, value in renamed.items()
        }
    except ValueError as error:
        problems.add(out.where, out.label, str(error))
        return
    out.items.append(Item(kind, fields, out.where, out.label))


def _form(listed: ListField) -> str:
    keys = listed.needs if len(listed.kinds) == 1 else (" or ".join(listed.kinds), *listed.needs[1:])
    return "write { " + ", ".join(f'{key} = "..."' for key in (*keys, *listed.may)) + " }"

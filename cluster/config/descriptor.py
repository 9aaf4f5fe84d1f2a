"""One descriptor: hostile XML refused, its structure checked against the XSD, its words by key.

The grammar is `descriptor.xsd` alone: which elements and attributes there are is read out of it, so that
slips get a suggestion and all of them are reported at once. libxml2 validates too, last, and only what is
otherwise in order: it stops at the first slip, and follows `xsi:schemaLocation` (HAZARDS 135, section 5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Any, cast

from lxml import etree

from cluster.config.reading import Item, Layer, Many, Problems, Raw, Where, read_text, shown_name, suggestion
from cluster.config.settings import LISTS, MOMENTS, Setting, parsed
from cluster.config.units import quoted

XS = "{http://www.w3.org/2001/XMLSchema}"
FOLDER = "config/mirrors"

MAX_ERRORS = 50  # of form in one file: more are one mistake, or malice
MAX_LINE = 10_000

_PROLOG = re.compile(r"\s*(?:<\?.*?\?>\s*|<!--.*?-->\s*)*", re.DOTALL)
_ENCODING = re.compile(r"<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"']*)[\"']")
_CONTROL = re.compile(r"invalid xmlChar value (\d+)|invalid Char value|invalid character in attribute value")
_POSITION = re.compile(r",? line \d+, column \d+")

# Where the children of an element go. All else is one text, or the attributes of one element.
_LISTS = {
    "include": "select",
    "exclude": "select",
    "probe": "schedule.probe",
    "hours": "limits.hours",
    "last": "publish.last",
    "site": "sites",
}
_ALWAYS = {"select": "select", "publish": "publish.last", "sites": "sites"}  # said to be empty, when empty


@dataclass(slots=True)
class Grammar:
    """What the XSD allows in one element."""

    text: bool = False
    repeatable: bool = False
    children: dict[str, Grammar] = field(default_factory=dict)
    attributes: dict[str, bool] = field(default_factory=dict)  # name -> required
    least: int = 0  # children that there must be


@dataclass(frozen=True, slots=True)
class Source:
    """The file again, to find the line of an attribute: libxml2 tells only where a start tag ends."""

    file: str
    lines: list[str]

    def at(self, element: etree._Element, attribute: str | None = None) -> Where:
        end = min(cast("int | None", element.sourceline) or 1, len(self.lines))
        start = end
        while start > 1 and f"<{element.tag}" not in self.lines[start - 1]:
            start -= 1
        if attribute is None:
            return Where(self.file, start)
        needle = re.compile(rf"(?:^|\s){re.escape(attribute)}\s*=")
        return Where(
            self.file, next((n for n in range(start, end + 1) if needle.search(self.lines[n - 1])), start)
        )


@cache
def grammar() -> tuple[etree.XMLSchema, Grammar]:
    """The compiled schema, and what it says of `<mirror>`."""
    source = etree.fromstring(files("cluster.config").joinpath("descriptor.xsd").read_bytes())
    named = {e.get("name", ""): e for e in source.iterchildren(f"{XS}complexType")}

    def read(element: etree._Element) -> Grammar:
        body = element.find(f"{XS}complexType")
        if body is None:
            body = named.get(element.get("type", ""))
        out = Grammar(text=body is None, repeatable=element.get("maxOccurs") == "unbounded")
        if body is not None:
            choice = body.find(f"{XS}choice")
            if choice is not None:
                out.least = int(choice.get("minOccurs", "1"))
                out.children = {child.get("name", ""): read(child) for child in choice}
            for attribute in body.iterchildren(f"{XS}attribute"):
                out.attributes[attribute.get("name", "")] = attribute.get("use") == "required"
        return out

    top = source.find(f"{XS}element")
    assert top is not None
    return etree.XMLSchema(source), read(top)


def read_descriptor(root: str, name: str, problems: Problems) -> dict[str, Setting]:
    """What `config/mirrors/NAME.xml` says, by key; everything wrong with it goes to `problems`."""
    file = f"{FOLDER}/{name}.xml"
    text = read_text(root, file, problems)
    element = None if text is None else _tree(file, text, problems)
    if text is None or element is None:
        return {}
    source, before = Source(file, text.split("\n")), len(problems.errors)
    if element.tag != "mirror":
        problems.add(source.at(element), _label(element), "a descriptor is one <mirror>, without a namespace")
        return {}
    schema, mirror = grammar()
    _check(element, mirror, source, problems)
    for needed in ("path", "origin"):
        if element.find(needed) is None:
            problems.add(source.at(element), "<mirror>", f"<{needed}> is missing")
    stated = element.get("name", name)
    if stated.strip(" ") != name:
        where = source.at(element, "name")
        problems.add(
            where, "<mirror name>", f"{quoted(stated)} is not the name of the file; write {quoted(name)}"
        )
    settings = parsed(_layer(element, source, problems), root, problems)
    if len(problems.errors) == before and not schema.validate(element):
        for error in cast("Any", schema.error_log):
            problems.add(Where(file, error.line), "", f"not what the schema allows: {_plain(error.message)}")
    return settings


def _tree(file: str, text: str, problems: Problems) -> etree._Element | None:
    prolog = _PROLOG.match(text)
    end = prolog.end() if prolog else 0
    encoding = _ENCODING.match(text)
    if encoding and encoding[1].lower() not in ("utf-8", "us-ascii"):
        problems.add(
            Where(file, 1), "", f"encoding {quoted(encoding[1])} is not allowed; save the file as UTF-8"
        )
        return None
    if text.startswith("<!DOCTYPE", end):  # here or nowhere: XML allows it before the first element only
        problems.add(
            Where(file, text.count("\n", 0, end) + 1),
            "<!DOCTYPE>",
            "not allowed in a descriptor; leave it out",
        )
        return None
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        return etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        message = _plain(_POSITION.sub("", error.msg or "no element"))
        problems.add(Where(file, max(1, error.lineno or 1)), "", f"not well-formed XML: {message}")
        return None


def _check(element: etree._Element, allowed: Grammar, source: Source, problems: Problems) -> None:
    """Elements and attributes that are unknown, missing, repeated, or hold text where none belongs."""
    label = _label(element)
    for name in islice(element.attrib, MAX_ERRORS):
        if str(name) not in allowed.attributes:
            plain = etree.QName(name).localname
            where = source.at(element, plain)
            message = "no such attribute" + suggestion(plain, allowed.attributes)
            problems.add(where, f"{label[:-1]} {shown_name(plain)}>", message)
    for name, required in allowed.attributes.items():
        if required and name not in element.attrib:
            problems.add(source.at(element), label, f'the attribute {name}="..." is missing')
    if not allowed.text and any(_stray(element)):
        problems.add(source.at(element), label, f"text is not allowed here: {quoted(next(_stray(element)))}")
    seen: dict[str, Where] = {}
    before = len(problems.errors)
    for child in element:
        if len(problems.errors) - before >= MAX_ERRORS:
            break
        where, tag = source.at(child), str(child.tag)
        rule = allowed.children.get(tag)
        if rule is None:
            inside = "" if element.tag == "mirror" else f" in {label}"
            known = suggestion(etree.QName(child).localname, allowed.children, "<{}>")
            problems.add(where, _label(child), f"no such element{inside}{known}")
            continue
        if tag in seen and not rule.repeatable:
            problems.add(where, _label(child), f"stands twice; first in line {seen[tag].line}")
        seen.setdefault(tag, where)
        _check(child, rule, source, problems)
    if len(element) < allowed.least:
        first = next(iter(allowed.children))
        problems.add(source.at(element), label, f"is empty; it holds <{first}> elements, or is left out")


def _stray(element: etree._Element) -> Iterator[str]:
    for text in (element.text, *(child.tail for child in element)):
        if text and text.strip():
            yield text.strip()


def _layer(root: etree._Element, source: Source, problems: Problems) -> Layer:
    """The words of a descriptor by key. What `_check` refused is left out: it is reported already."""
    out: Layer = {}
    _, mirror = grammar()
    for element in root:
        tag = str(element.tag)
        rule = mirror.children.get(tag)
        if rule is None:
            continue
        where, label = source.at(element), _label(element)
        if tag == "alias":
            raw = Raw(_text(element), where, label)
            _many(out, tag, where, label).items.append(Item(tag, {"path": raw}, where, label))
        elif tag in ("origin", "define", "downstream", "repository"):
            said = _many(out, tag, where, label)
            if not _lacking(element, rule):
                said.items.append(_item(element, rule, source))
        elif rule.text:
            out[tag] = Raw(_text(element), where, label)
        else:
            _group(out, element, rule, source, problems)
    return out


def _group(out: Layer, element: etree._Element, rule: Grammar, source: Source, problems: Problems) -> None:
    """The attributes and the children of one element, such as `<limits>`."""
    tag, where, label = str(element.tag), source.at(element), _label(element)
    silent = tag == "publish" and "lists" in element.attrib and "last" not in element.attrib
    if tag in _ALWAYS and not (silent and not len(element)):
        _many(out, _ALWAYS[tag], where, label)
    for name, raw in _item(element, rule, source).fields.items():
        if tag == "publish" and name == "last":
            for word in [w for w in raw.text.split(" ") if w] or [""]:
                pattern = Raw(word, raw.where, raw.label)
                item = Item("last", {"pattern": pattern}, raw.where, raw.label)
                _many(out, "publish.last", where, label).items.append(item)
        else:
            out[f"{tag}.{name}"] = raw
    for child in element:
        grown = rule.children.get(str(child.tag))
        if grown is None or _lacking(child, grown):
            continue
        item = _item(child, grown, source)
        key = _LISTS.get(item.kind, "")
        if tag == "hooks":
            moment = item.fields.pop("on")
            key = f"hooks.{moment.text}"
            if key not in LISTS:
                problems.add(
                    moment.where, moment.label, f"{quoted(moment.text)} is not one of {', '.join(MOMENTS)}"
                )
                continue
        _many(out, key, item.where, item.label).items.append(item)


def _lacking(element: etree._Element, rule: Grammar) -> bool:
    """Whether an attribute that it must have is not there."""
    return any(needed and name not in element.attrib for name, needed in rule.attributes.items())


def _many(out: Layer, key: str, where: Where, label: str) -> Many:
    said = out.setdefault(key, Many(where, label))
    assert isinstance(said, Many)
    return said


def _item(element: etree._Element, rule: Grammar, source: Source) -> Item:
    """An element's attributes as they are known, and its `<arg>` children."""
    label = _label(element)
    fields = {
        name: Raw(element.get(name, "").strip(" "), source.at(element, name), f"{label[:-1]} {name}>")
        for name in rule.attributes
        if name in element.attrib
    }
    words = tuple(Raw(child.text or "", source.at(child), "<arg>") for child in element.iterchildren("arg"))
    return Item(str(element.tag), fields, source.at(element), label, words)


def _text(element: etree._Element) -> str:
    """An element's text as one line: how an editor wrapped it means nothing."""
    return re.sub(r"[ \t\r\n]+", " ", element.text or "").strip(" ")


def _label(element: etree._Element) -> str:
    return f"<{shown_name(etree.QName(element).localname)}>"


def _plain(message: str) -> str:
    """A message of libxml2 as part of one of our lines."""
    control = _CONTROL.search(message)
    if control:
        what = f"&#{control[1]}; is" if control[1] else "holds"
        return f"{what} a control character, which XML does not allow"
    text = " ".join(message.split()).rstrip(".")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 160 else text[:157] + "..."

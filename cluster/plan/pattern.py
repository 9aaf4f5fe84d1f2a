"""Patterns over the paths of a mirror, as globs and as regular expressions; both in linear time.

A glob is matched against the bytes of the path from the mirror's root. `*` and `?` stay within one
component, `**` crosses them, `[...]` is a set. Without a slash (but at its end) it matches the last
component at any depth; a slash at its beginning or inside ties it to the root; one at its end makes it
match directories only. `${name}` stands for each value of a list, `${!name}` for whatever is not in it.

A regular expression is searched for anywhere in the path. RE2 reads it, whose time grows with the length of
the path and with nothing else; so does any glob with more wildcards than backtracking stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol, cast

BACKTRACKED = 3  # wildcards that `re` may go back over: at most the cube of a name's length
ALTERNATIVES = 1000  # that the lists of one pattern make where one of them is used twice
MAX_EXPRESSION = 2**23  # bytes that RE2 may need for one

_VARIABLE = re.compile(r"\$\{(!?)([^{}/]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)

Lists = Mapping[str, Sequence[str]]


class Matcher(Protocol):
    """A compiled expression over bytes: of `re`, or of RE2."""

    def fullmatch(self, path: bytes, /) -> object: ...

    def search(self, path: bytes, /) -> object: ...


def variables(text: str) -> list[tuple[bool, str]]:
    """The `${name}` of a pattern in their order: whether it is `${!name}`, and the name. Raises ValueError
    for one that has no name, or no end."""
    found = []
    plain = text.replace("\\$", "\\-")
    if "${" in _VARIABLE.sub("", plain):
        raise ValueError(f"{text}: '${{' without '}}'; write \\$ for a dollar sign")
    for match in _VARIABLE.finditer(plain):
        if not _NAME.fullmatch(match[2]):
            raise ValueError(f"{text}: {match[0]} names no list; write ${{arch}} or ${{!arch}}")
        found.append((bool(match[1]), match[2]))
    return found


def compiled(expression: str, *, wildcards: int = BACKTRACKED + 1) -> Matcher:
    """A matcher for an expression in latin-1 text that stands for bytes. Raises ValueError."""
    pattern = expression.encode("latin-1")
    if wildcards <= BACKTRACKED:
        try:
            return re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise ValueError(str(error)) from None
    import re2  # for those who need it

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.dot_nl, options.log_errors, options.max_mem = True, False, MAX_EXPRESSION
    try:
        return cast("Matcher", re2.compile(pattern, options))
    except re2.error as error:
        raise ValueError(_said(error)) from None


def _said(error: Any) -> str:  # noqa: ANN401  # RE2's errors carry bytes
    told = error.args[0] if error.args else b""
    text = told.decode("latin-1") if isinstance(told, bytes) else str(told)
    return text or "it needs too much memory"


@dataclass(slots=True)
class _Glob:
    """A glob as an expression, and how many wildcards are in it."""

    expression: str
    wildcards: int


def _glob(text: str, lists: Lists) -> _Glob:
    """Raises ValueError. `text` is latin-1 text that stands for bytes."""
    out: list[str] = []
    wildcards = i = 0
    while i < len(text):
        variable = _VARIABLE.match(text, i)
        if text.startswith("**/", i) and (i == 0 or text[i - 1] == "/"):
            out.append("(?:.*/)?")
            i, wildcards = i + 3, wildcards + 1
        elif text.startswith("**", i):
            out.append(".*")
            i, wildcards = i + 2, wildcards + 1
        elif text[i] == "*":
            out.append("[^/]*")
            i, wildcards = i + 1, wildcards + 1
        elif text[i] == "?":
            out.append("[^/]")
            i += 1
        elif text[i] == "[":
            inside, i = _set(text, i)
            out.append(inside)
        elif variable:
            out.append("[^/]+" if variable[1] else _either(lists[variable[2]]))
            i, wildcards = variable.end(), wildcards + bool(variable[1])
        elif text[i] == "\\" and i + 1 < len(text):
            out.append(re.escape(text[i + 1]))
            i += 2
        else:
            out.append(re.escape(text[i]))
            i += 1
    return _Glob("".join(out), wildcards)


def _set(text: str, start: int) -> tuple[str, int]:
    end = text.find("]", start + 2)
    if end < 0:
        raise ValueError(f"{text}: '[' without ']'")
    inside = text[start + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
    if inside[0] in "!^":
        inside = "^/" + inside[1:]
    return f"[{inside}]", end + 1


def _either(values: Sequence[str]) -> str:
    return "(?:" + "|".join(re.escape(value) for value in values) + ")"


def _spelt(text: str, lists: Lists, *, inverted: bool = False) -> Iterator[str]:
    """The pattern, once for each value of the lists that it names more than once: there every place of one
    list has the same value. `inverted`: what is not in a list becomes what is."""
    if inverted:
        text = text.replace("${!", "${")
    names = [name for negated, name in variables(text) if not negated]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    for chosen in product(*(lists[name] for name in twice)):
        spelt = text
        for name, value in zip(twice, chosen, strict=True):
            spelt = spelt.replace(f"${{{name}}}", re.sub(r"([*?\[\]\\$])", r"\\\1", value))
        yield spelt


def _matcher(texts: Sequence[str], lists: Lists, lead: str = "") -> Matcher:
    if len(texts) > ALTERNATIVES:
        raise ValueError(f"{len(texts)} combinations of its lists; at most {ALTERNATIVES} are allowed")
    globs = [_glob(text.encode("utf-8").decode("latin-1"), lists) for text in texts]
    expression = lead + (
        globs[0].expression if len(globs) == 1 else "(?:" + "|".join(g.expression for g in globs) + ")"
    )
    return compiled(expression, wildcards=max(glob.wildcards for glob in globs))


@dataclass(frozen=True, slots=True)
class Pattern:
    """One compiled glob."""

    text: str
    expression: Matcher
    unless: Matcher | None  # what is in the list of its `${!name}`
    directories: bool  # matches directories only
    heads: tuple[Matcher, ...]  # what the directories that lead to a match look like, a depth each
    deep: bool  # below these, anything may match

    @classmethod
    def compile(cls, text: str, lists: Lists | None = None) -> Pattern:
        """Raises ValueError in one line for a pattern that is not one, or that names no list of `lists`."""
        known = lists or {}
        names = variables(text)
        for _, name in names:
            if not known.get(name):
                raise ValueError(f"{text}: no list is called {name}")
        if sum(negated for negated, _ in names) > 1:
            raise ValueError(f"{text}: '${{!' stands twice; write a rule for each")
        directories = text.endswith("/")
        body = text.rstrip("/")
        if not body:
            raise ValueError(f"{text!r}: an empty pattern")
        anchored = "/" in body
        body = body.removeprefix("/")
        lead = "" if anchored else "(?:.*/)?"
        parts = body.split("/")
        cut = next((i for i, part in enumerate(parts) if "**" in part), None)
        heads = [] if not anchored else parts[:-1] if cut is None else parts[:cut]
        spelt = list(_spelt(body, known))
        negated = any(negated for negated, _ in names)
        try:
            return cls(
                text,
                _matcher(spelt, known, lead),
                _matcher(list(_spelt(body, known, inverted=True)), known, lead) if negated else None,
                directories,
                tuple(
                    _matcher(list(_spelt("/".join(heads[: i + 1]), known)), known) for i in range(len(heads))
                ),
                not anchored or cut is not None,
            )
        except ValueError as error:
            message = str(error)
            raise ValueError(
                message if message.startswith(text) else f"{text}: not a pattern ({message})"
            ) from None

    def matches(self, path: bytes, directory: bool) -> bool:
        if self.directories and not directory:
            return False
        if self.expression.fullmatch(path) is None:
            return False
        return self.unless is None or self.unless.fullmatch(path) is None

    def covers(self, directory: bytes) -> bool:
        """Whether everything below this directory matches: `debug/**` names `debug` too."""
        return self.text.endswith("/**") and self.matches(directory + b"/x", False)

    def may_match_below(self, directory: bytes) -> bool:
        """Whether a name below this directory could match."""
        level = directory.count(b"/")
        if level < len(self.heads):
            return self.heads[level].fullmatch(directory) is not None
        return self.deep


@dataclass(frozen=True, slots=True)
class Expression:
    """One compiled regular expression: it is found anywhere in a path."""

    text: str
    expression: Matcher

    @classmethod
    def compile(cls, text: str, lists: Lists | None = None) -> Expression:
        """Raises ValueError in one line for what RE2 does not read, or for a list that there is not."""
        known = lists or {}
        for negated, name in variables(text):
            if negated:
                raise ValueError(f"{text}: ${{!{name}}} can stand in a pattern, not in a regular expression")
            if not known.get(name):
                raise ValueError(f"{text}: no list is called {name}")
        spelt = _VARIABLE.sub(lambda match: _either(known[match[2]]), text)
        try:
            return cls(text, compiled(spelt.encode("utf-8").decode("latin-1")))
        except ValueError as error:
            raise ValueError(f"{text}: not a regular expression ({error})") from None

    def matches(self, path: bytes, directory: bool) -> bool:
        return self.expression.search(path) is not None

    def covers(self, directory: bytes) -> bool:
        return False

    def may_match_below(self, directory: bytes) -> bool:
        return True


class Patterns:
    """A plain list of globs: does any match?"""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [Pattern.compile(p) for p in patterns]

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def match(self, path: bytes) -> bool:
        return any(p.matches(path, False) for p in self._patterns)

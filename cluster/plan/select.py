"""Which names of an origin are mirrored: the first rule of `<select>` that matches decides.

A pattern is matched against the bytes of the path from the mirror's root. `*` and `?` stay within one
component, `**` crosses them, `[...]` is a set. Without a slash (but at its end) it matches the last
component at any depth; a slash at its beginning or inside ties it to the root; one at its end makes it
match directories only. What matches no rule is mirrored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.model import Rule


def glob_bytes(pattern: str) -> str:
    """A regular expression for one pattern, in latin-1 text that stands for bytes. Raises ValueError."""
    text = pattern.encode("utf-8").decode("latin-1")
    out, i = [], 0
    while i < len(text):
        if text.startswith("**/", i) and (i == 0 or text[i - 1] == "/"):
            out.append("(?:.*/)?")
            i += 3
        elif text.startswith("**", i):
            out.append(".*")
            i += 2
        elif text[i] == "*":
            out.append("[^/]*")
            i += 1
        elif text[i] == "?":
            out.append("[^/]")
            i += 1
        elif text[i] == "[":
            end = text.find("]", i + 2)
            if end < 0:
                raise ValueError(f"{pattern}: '[' without ']'")
            inside = text[i + 1 : end].replace("\\", "\\\\")
            if inside[0] in "!^":
                inside = "^/" + inside[1:]
            out.append(f"[{inside}]")
            i = end + 1
        elif text[i] == "\\" and i + 1 < len(text):
            out.append(re.escape(text[i + 1]))
            i += 2
        else:
            out.append(re.escape(text[i]))
            i += 1
    return "".join(out)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One compiled pattern."""

    text: str
    expression: re.Pattern[bytes]
    directories: bool  # matches directories only
    heads: tuple[re.Pattern[bytes], ...]  # what the directories that lead to a match look like, a depth each
    deep: bool  # below these, anything may match

    @classmethod
    def compile(cls, text: str) -> Pattern:
        """Raises ValueError in one line for a pattern that is not one."""
        directories = text.endswith("/")
        body = text.rstrip("/")
        if not body:
            raise ValueError(f"{text!r}: an empty pattern")
        anchored = "/" in body
        body = body.removeprefix("/")
        if not anchored:
            expression, lead, deep = "(?:.*/)?" + glob_bytes(body), list[str](), True
        else:
            expression = glob_bytes(body)
            parts = body.split("/")
            cut = next((i for i, part in enumerate(parts) if "**" in part), None)
            lead, deep = (parts[:-1], False) if cut is None else (parts[:cut], True)
        heads = tuple(_regex(glob_bytes("/".join(lead[: i + 1]))) for i in range(len(lead)))
        try:
            return cls(text, _regex(expression), directories, heads, deep)
        except re.error as error:
            raise ValueError(f"{text}: not a pattern ({error})") from None

    def matches(self, path: bytes, directory: bool) -> bool:
        if self.directories and not directory:
            return False
        return self.expression.fullmatch(path) is not None

    def covers(self, directory: bytes) -> bool:
        """Whether everything below this directory matches: `debug/**` names `debug` too."""
        return self.text.endswith("/**") and self.matches(directory + b"/x", False)

    def may_match_below(self, directory: bytes) -> bool:
        """Whether a name below this directory could match."""
        level = directory.count(b"/")
        if level < len(self.heads):
            return self.heads[level].fullmatch(directory) is not None
        return self.deep


def _regex(text: str) -> re.Pattern[bytes]:
    return re.compile(text.encode("latin-1"), re.DOTALL)


class Selection:
    """The rules of one mirror, compiled."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = [(rule, Pattern.compile(rule.pattern)) for rule in rules]

    def excluded(self, path: bytes, directory: bool = False) -> Rule | None:
        """The rule by which a name is left out, or None. A directory is kept while an earlier `include`
        may match something below it.
        """
        hope = False
        for rule, pattern in self._rules:
            if rule.include:
                if pattern.matches(path, directory):
                    return None
                hope = hope or (directory and pattern.may_match_below(path))
            elif pattern.matches(path, directory) or (directory and pattern.covers(path)):
                return None if hope else rule
        return None


class Patterns:
    """A plain list of patterns: does any match?"""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [Pattern.compile(p) for p in patterns]

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def match(self, path: bytes) -> bool:
        return any(p.matches(path, False) for p in self._patterns)

"""Which names of an origin are mirrored: the first rule of `<select>` that matches decides.

Everything that a rule says must hold. Size and age are of files and links, never of directories, and what the
listing does not tell matches no rule about it. What matches no rule is mirrored. An excluded directory is
left out with all below it, but for what an earlier rule includes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from cluster.model import SECOND, Entry, Kind, Rule, Stamp, split, value
from cluster.plan.pattern import Expression, Pattern

DAY = 86_400
KEPT = 4096  # directories of which it is remembered whether a site carries them

_KINDS = {Kind.FILE: "files", Kind.DIRECTORY: "directories", Kind.SYMLINK: "links"}

_ROUNDED = re.compile(r"(\d{1,15})(?:\.(\d{1,6}))? ?([kmgtpe])", re.IGNORECASE | re.ASCII)


def today(now: float) -> int:
    """The moment (s since 1970) from which ages count in a pass that began at `now`: the beginning of that
    day, UTC. All passes of a day, at every site, leave out the same."""
    return int(now) // DAY * DAY


def bounds(entry: Entry) -> tuple[int, int] | None:
    """The least and the most bytes that a file can have by its row, or None where that says nothing."""
    if entry.size is not None:
        return entry.size, entry.size
    found = _ROUNDED.match(entry.rounded or "")
    if found is None:
        return None
    digits = found[2] or ""
    shown, step = int(found[1] + digits), 10 ** len(digits)
    power = "kmgtpe".index(found[3].lower()) + 1
    return max(0, shown - 1) * 1000**power // step, -(-(shown + 1) * 1024**power // step)


def reason_of(rule: Rule) -> str:
    """What users are told of a name that this rule leaves out."""
    if rule.reason:
        return rule.reason
    lists = "".join(f", {name}: {' '.join(values)}" for name, values in rule.lists)
    if rule.kind is None:
        return f"excluded by {rule.regex or rule.pattern}{lists}"
    if rule.pattern == "**":
        return f"{_KINDS[rule.kind]} are excluded"
    return f"{_KINDS[rule.kind]} are excluded by {rule.regex or rule.pattern}{lists}"


@value
class Compiled:
    """One rule, ready to be asked."""

    rule: Rule
    pattern: Pattern | Expression
    bare: bool  # it says nothing but which names
    within: bool  # it decides for what is in a directory that it names, where that is looked into

    @classmethod
    def of(cls, rule: Rule, *, looked_into: bool) -> Compiled:
        """`looked_into`: a directory that it excludes may be, for a rule before it. Raises ValueError in one
        line."""
        lists = dict(rule.lists)
        pattern: Pattern | Expression
        if rule.regex:
            pattern = Expression.compile(rule.regex, lists)
        else:
            pattern = Pattern.compile(rule.pattern, lists)
        facts = (rule.larger, rule.smaller, rule.older, rule.newer, rule.kind)
        bare = all(fact is None for fact in facts)
        whole = looked_into if not rule.include else isinstance(pattern, Pattern) and pattern.directories
        return cls(rule, pattern, bare, bare and whole)

    def matches(self, path: bytes, entry: Entry, moment: int) -> bool:
        """Whether it decides for this name by itself. `moment`: as by `today`."""
        if not (self.bare or self._holds(entry, moment)):
            return False
        return self.names(path, entry.kind is Kind.DIRECTORY)

    def names(self, path: bytes, directory: bool) -> bool:
        """Whether it is about this name, whatever else it says."""
        pattern = self.pattern
        if pattern.matches(path, directory):
            return True
        if self.within and any(pattern.matches(above, True) for above in ancestors(path)):
            return True
        return directory and self.bare and not self.rule.include and pattern.covers(path)

    def _holds(self, entry: Entry, moment: int) -> bool:
        rule = self.rule
        if rule.kind is not None and rule.kind is not entry.kind:
            return False
        if rule.larger is not None or rule.smaller is not None:
            size = bounds(entry) if entry.kind is Kind.FILE else None
            if size is None or not (rule.larger is None or size[0] > rule.larger):
                return False
            if not (rule.smaller is None or size[1] < rule.smaller):
                return False
        if rule.older is None and rule.newer is None:
            return True
        return entry.kind is not Kind.DIRECTORY and _aged(rule, entry.mtime, moment)


def _aged(rule: Rule, mtime: Stamp | None, moment: int) -> bool:
    if mtime is None:
        return False
    if rule.older is not None and not mtime.over((moment - rule.older) * SECOND):
        return False
    return rule.newer is None or mtime.ns >= (moment - rule.newer) * SECOND


class Selection:
    """The rules of one mirror at one site, compiled. Raises ValueError for a rule that cannot be."""

    def __init__(self, rules: Sequence[Rule], moment: int = 0) -> None:
        self._moment = moment
        self._rules: list[Compiled] = []
        included = False
        for rule in rules:
            self._rules.append(Compiled.of(rule, looked_into=included))
            included = included or rule.include
        self._used = [False] * len(rules)

    def excluded(self, path: bytes, entry: Entry) -> Rule | None:
        """The rule by which a name is left out, or None. A directory is kept while an earlier `include`
        may match something below it.
        """
        at, hope = self._decide(path, entry) if self._rules else (-1, False)
        if at < 0:
            return None
        self._used[at] = True
        rule = self._rules[at].rule
        return None if rule.include or hope else rule

    def _decide(self, path: bytes, entry: Entry) -> tuple[int, bool]:
        """Which rule matches first, -1 for none, and whether one before it may include something below."""
        directory, hope = entry.kind is Kind.DIRECTORY, False
        for at, one in enumerate(self._rules):
            if one.matches(path, entry, self._moment):
                return at, hope
            if directory and one.rule.include:
                hope = hope or one.pattern.may_match_below(path)
        return -1, hope

    def deciding(self, path: bytes, entry: Entry) -> tuple[bytes, Rule] | None:
        """The rule that decides whether a name is mirrored, and for what: the name itself or a directory that
        it is in. None where no rule does."""
        for above in ancestors(path):
            rule = self.excluded(above, Entry(split(above)[1], Kind.DIRECTORY))
            if rule is not None:
                return above, rule
        at, _ = self._decide(path, entry)
        return (path, self._rules[at].rule) if at >= 0 else None

    def unused(self) -> list[int]:
        """The rules that have decided for no name so far, by their place."""
        return [at for at, used in enumerate(self._used) if not used]


def ancestors(path: bytes) -> Iterator[bytes]:
    """The directories that a name is in, the outermost first, without the root."""
    at = path.find(b"/")
    while at >= 0:
        yield path[:at]
        at = path.find(b"/", at + 1)


def aged(rules: Sequence[Rule]) -> bool:
    """Whether what is mirrored depends on the day."""
    return any(rule.older is not None or rule.newer is not None for rule in rules)


class Carriers:
    """Which siblings mirror a name: those whose own rules do not leave it out. False where the rules are the
    same at all sites."""

    def __init__(self, elsewhere: Mapping[str, Sequence[Rule]], moment: int = 0) -> None:
        self._selections = {site: Selection(rules, moment) for site, rules in elsewhere.items()}
        self._directories: dict[tuple[str, bytes], bool] = {}

    def __bool__(self) -> bool:
        return bool(self._selections)

    def among(self, sites: Sequence[str], path: bytes, entry: Entry) -> Sequence[str]:
        """Those of `sites` that mirror this name; `sites` itself where all do."""
        if not self._selections:
            return sites
        some = [site for site in sites if self.carries(site, path, entry)]
        return sites if len(some) == len(sites) else some

    def carries(self, site: str, path: bytes, entry: Entry) -> bool:
        selection = self._selections.get(site)
        if selection is None:
            return True
        return self.walks(site, split(path)[0]) and selection.excluded(path, entry) is None

    def walks(self, site: str, directory: bytes) -> bool:
        """Whether a site has this directory compared."""
        selection = self._selections.get(site)
        if selection is None or not directory:
            return True
        known = self._directories.get((site, directory))
        if known is None:
            if len(self._directories) >= KEPT:
                self._directories.clear()
            above, name = split(directory)
            known = self.walks(site, above) and (
                selection.excluded(directory, Entry(name, Kind.DIRECTORY)) is None
            )
            self._directories[site, directory] = known
        return known


Decide = Callable[[bytes, Entry], Rule | None]

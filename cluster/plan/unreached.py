"""Rules of `<select>` that can never decide: what one before them says of every name that they could match.

Names are tried that stand for all: where a pattern has a wildcard they have a character that only a wildcard
can match. So a rule is told of only where it is surely out of reach; some that are may not be found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice, product

from cluster.model import Rule
from cluster.plan.pattern import Pattern
from cluster.plan.select import ancestors

ANY = "\x01"  # in no name that can be listed
MANY = 4  # `**` of one pattern that are tried at three depths each

_WILD = re.compile(r"\*\*/|\*\*|\*|\?|\[.[^]]*\]|\$\{!?[^{}/]*\}|\\(.)", re.DOTALL)
_FACTS = ("larger", "smaller", "older", "newer", "kind")


def unreached(rules: Sequence[Rule]) -> Iterator[tuple[Rule, Rule | None]]:
    """Each rule that never decides, with the one before it that does; None for an `include` after which
    nothing is excluded, so that it changes nothing."""
    last = max((at for at, rule in enumerate(rules) if not rule.include), default=-1)
    for at, rule in enumerate(rules):
        before = next((one for one in rules[:at] if _swallows(one, rule, rules[:at])), None)
        if before is not None:
            yield rule, before
        elif rule.include and at > last:
            yield rule, None


def _swallows(earlier: Rule, later: Rule, before: Sequence[Rule]) -> bool:
    """Whether a rule matches whatever a later one could, which has all of these `before` it."""
    if not all(getattr(earlier, fact) in (None, getattr(later, fact)) for fact in _FACTS):
        return False
    if earlier.regex or later.regex:
        return earlier.regex == later.regex and earlier.lists == later.lists and not earlier.pattern
    bare = all(getattr(earlier, fact) is None for fact in _FACTS)
    inside = _decides_inside(before, later)
    if earlier.pattern == later.pattern and earlier.lists == later.lists and not inside:
        return True
    if "${!" in earlier.pattern or re.search(r"[?\[\\]", earlier.pattern):
        return False
    samples = [(path, later.pattern.endswith("/")) for path in _samples(later.pattern)]
    samples += [(path + f"/{ANY}".encode(), False) for path, _ in samples if inside]
    pattern = Pattern.compile(earlier.pattern, dict(earlier.lists))
    encloses = bare and (not earlier.include or earlier.pattern.endswith("/"))

    def decided(path: bytes, directory: bool) -> bool:
        return pattern.matches(path, directory) or (
            encloses and any(pattern.matches(above, True) for above in ancestors(path))
        )

    return bool(samples) and all(decided(*sample) for sample in samples)


def _decides_inside(before: Sequence[Rule], rule: Rule) -> bool:
    """Whether it may decide for what is in a directory that it names."""
    return rule.pattern.endswith("/") if rule.include else any(one.include for one in before)


def _samples(text: str) -> Iterator[bytes]:
    """Paths that stand for all that a pattern matches; none where they would be too many."""
    body = text.rstrip("/")
    body = body.removeprefix("/") if "/" in body else "**/" + body
    pieces: list[tuple[str, ...]] = []
    at = deep = 0
    for found in _WILD.finditer(body):
        pieces.append((body[at : found.start()],))
        at = found.end()
        if found[0] == "**/":
            pieces.append(("", f"{ANY}/", f"{ANY}/{ANY}/"))
        elif found[0] == "**":
            pieces.append((ANY, f"{ANY}/{ANY}", f"{ANY}/{ANY}/{ANY}"))
        else:
            pieces.append((found[1] or ANY,))
        deep += found[0].startswith("**")
    if deep <= MANY:
        pieces.append((body[at:],))
        yield from ("".join(chosen).encode() for chosen in islice(product(*pieces), 3**MANY))

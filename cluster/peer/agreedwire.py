"""The message about what a site's records agree with: `docs/design/peer-protocol.md`, 3.9. Pure.

The decoder raises WireError and nothing else.
"""

from __future__ import annotations

from cluster.peer import fields, wire
from cluster.peer.client import Agreement, Through
from cluster.peer.codec import WireError, pack
from cluster.store.agreement import Agreed

RULES = 64  # bytes of a digest of rules, at most


def told(through: Through | None, found: Agreed) -> bytes:
    """The answer. `through` is None where no pass over the whole mirror has lately come to its end."""
    return pack(
        {
            "v": [wire.MAJOR, wire.MINOR],
            "age": None if through is None else min(round(through.age * 1000), fields.MAX_INT),
            "rules": b"" if through is None else through.rules,
            "sum": found.sum,
            "own": found.own,
            "below": [list(one) for one in found.below],
            "more": found.more,
        }
    )


def told_read(data: bytes, after: bytes = b"") -> Agreement:
    """An answer. Subdirectories have plain names above `after`, each once, ascending."""
    message = wire.message(data)
    age = fields.integer_or_none(message.get("age"), "age")
    rules = fields.binary(message.get("rules"), "rules")
    if len(rules) > RULES:
        raise WireError(f"rules: {len(rules)} bytes")
    below: list[tuple[bytes, bytes]] = []
    for item in fields.array(message.get("below"), 0, "below"):
        row = fields.array(item, 2, "subdirectory")
        name = fields.name(row[0])
        if name <= (below[-1][0] if below else after):
            raise WireError("below: names are not ascending")
        below.append((name, _sum(row[1])))
    more = fields.boolean(message.get("more"), "more")
    if more and not below:
        raise WireError("below: more without any")
    return Agreement(
        None if age is None else Through(age / 1000, rules),
        Agreed(_sum(message.get("sum")), fields.digest(message.get("own")), tuple(below), more),
    )


def _sum(value: object) -> bytes:
    found = fields.digest(value)
    if found is None:
        raise WireError("sum: none")
    return found

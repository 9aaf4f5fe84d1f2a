"""The message about the parts of a large file, to and from bytes: `docs/design/peer-protocol.md`. Pure.

Every decoder raises WireError and nothing else.
"""

from __future__ import annotations

from cluster.peer import fields, wire
from cluster.peer.client import Parts
from cluster.peer.codec import WireError, pack

MAX_RUNS = 8_192  # 64 GiB, every second block
MAX_CLAIMS = 16  # on one file: a site fetches two pieces of it at once


def told(parts: Parts) -> bytes:
    """What is here of a file, and what is being fetched of it."""
    packed = [wire.claim(one) for one in parts.claims[:MAX_CLAIMS]]
    return b"".join(
        (
            b"\x85" + pack("v") + pack([wire.MAJOR, wire.MINOR]),
            pack("runs") + wire.array([pack(list(run)) for run in parts.runs[:MAX_RUNS]]),
            pack("claims") + wire.array(packed),
            pack("arriving") + pack(parts.arriving),
            pack("sha256") + pack(parts.sha256),
        )
    )


def told_read(data: bytes, size: int) -> Parts:
    """An answer. Ranges ascend, are not empty, do not touch each other, and are within the file."""
    message = wire.message(data)
    runs: list[tuple[int, int]] = []
    at = -1
    for item in fields.array(message.get("runs"), 0, "runs"):
        row = fields.array(item, 2, "run")
        first = fields.integer(row[0], "first", at + 1, size)
        at = fields.integer(row[1], "end", first + 1, size)
        runs.append((first, at))
    if len(runs) > MAX_RUNS:
        raise WireError(f"runs: more than {MAX_RUNS}")
    claims = tuple(wire.claim_read(item) for item in fields.array(message.get("claims"), 0, "claims"))
    arriving = fields.boolean(message.get("arriving", False), "arriving")
    return Parts(tuple(runs), claims, arriving, fields.digest(message.get("sha256")))

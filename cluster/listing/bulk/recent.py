"""RECENT files, as File::Rsync::Mirror::Recent writes them: what changed lately below a directory.

`RECENT-1h.json` or `.yaml` has the newest events, `RECENT-6h` and so on those of longer spans; each has the
span that it covers in `meta`. YAML is read in the one shape that YAML::Syck prints.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from cluster.errors import NotAListing, UnsafeName
from cluster.model import checked_path, value

MAX_RECENT = 64 * 2**20  # bytes; CPAN's of a year has 20 MiB

is_name = re.compile(rb"(?:.*/)?[\w.]+-(?:\d+[smhdWMQY])\.(?:json|yaml)|(?:.*/)?[\w]+\.recent").fullmatch
_INTERVAL = re.compile(r"\d+[smhdWMQY]|Z").fullmatch
_ITEM = re.compile(r"( *)-(?: +(.*))?").fullmatch
_PAIR = re.compile(r"( *)([^\s:'\"-][^\s:]*): *(.*)").fullmatch


@value
class Recent:
    """One file: its span, from the time of the event `oldest` to `newest` (s since 1970, exact), the mark
    that changes when history was rewritten, the spans of all files, and the paths of its events by time."""

    interval: str
    oldest: Decimal
    newest: Decimal
    mark: str
    intervals: tuple[str, ...]
    events: tuple[tuple[Decimal, bytes], ...]

    @property
    def longer(self) -> tuple[str, ...]:
        """The spans of the files that go back farther, the next one first. The last file of all, `Z`, has no
        deletions and is of no use."""
        known = tuple(one for one in self.intervals if one != "Z")
        return known[known.index(self.interval) + 1 :] if self.interval in known else known


def read(body: bytes, path: str) -> Recent:
    """Raises NotAListing for what is no such file, or tells of what is no path."""
    try:
        text = body.decode()
        found = json.loads(text) if text.lstrip().startswith("{") else _yaml(text)
        return _recent(found)
    except (ValueError, KeyError, TypeError, AttributeError, InvalidOperation, RecursionError) as error:
        raise NotAListing(path, f"no RECENT file: {str(error)[:100]}") from None
    except UnsafeName as error:
        raise NotAListing(path, f"an event of {error}") from None


def _recent(found: dict[str, object]) -> Recent:
    meta, events = found["meta"], found["recent"]
    if not isinstance(meta, dict) or not isinstance(events, list):
        raise TypeError("meta or recent is of another kind")
    span = meta["minmax"]
    interval = str(meta["interval"])
    aggregator = meta.get("aggregator") or []
    intervals = tuple(dict.fromkeys([interval, *map(str, aggregator)]))
    if not all(map(_INTERVAL, intervals)):
        raise ValueError("an interval that is none")
    told = tuple((_time(one["epoch"]), checked_path(str(one["path"]).encode())) for one in events)
    times = [time for time, _ in told]
    return Recent(
        interval,
        min(times, default=_time(span["min"])),
        max(times, default=_time(span["max"])),
        str(meta.get("dirtymark") or ""),
        intervals,
        told,
    )


def _time(text: object) -> Decimal:
    time = Decimal(str(text))
    if not time.is_finite():
        raise ValueError("a time that is none")
    return time


def _yaml(text: str) -> dict[str, object]:
    """Maps of scalars, lists and maps, and lists of scalars and maps, by their indentation."""
    lines = [line for line in text.split("\n") if line.strip() and line.strip() != "---"]
    if not text.startswith("---") or not lines:
        raise ValueError("neither JSON nor YAML")
    found, end = _map(lines, 0, 0)
    if end != len(lines):
        raise ValueError(f"line {end + 2} stands nowhere")
    return found


def _map(lines: Sequence[str], at: int, indent: int) -> tuple[dict[str, object], int]:
    found: dict[str, object] = {}
    while at < len(lines) and (pair := _PAIR(lines[at])) and len(pair[1]) == indent:
        at += 1
        if pair[3]:
            found[pair[2]] = _scalar(pair[3])
            continue
        deeper = len(lines[at]) - len(lines[at].lstrip()) if at < len(lines) else 0
        if at < len(lines) and (item := _ITEM(lines[at])) and len(item[1]) >= indent:
            found[pair[2]], at = _list(lines, at, len(item[1]))
        elif deeper > indent:
            found[pair[2]], at = _map(lines, at, deeper)
        else:
            found[pair[2]] = None
    return found, at


def _list(lines: Sequence[str], at: int, indent: int) -> tuple[list[object], int]:
    found: list[object] = []
    lines = list(lines)
    while at < len(lines) and (item := _ITEM(lines[at])) and len(item[1]) == indent:
        if item[2] and not _PAIR(item[2]):
            found.append(_scalar(item[2]))
            at += 1
            continue
        if item[2]:  # the first pair stands behind the dash
            begin = len(lines[at]) - len(item[2])
            lines[at] = " " * begin + item[2]
        else:
            at += 1
            begin = len(lines[at]) - len(lines[at].lstrip()) if at < len(lines) else 0
        one, after = _map(lines, at, begin)
        if after == at:
            raise ValueError(f"line {at + 2} is no event")
        found.append(one)
        at = after
    return found, at


def _scalar(text: str) -> str | None:
    if text in ("~", "null"):
        return None
    if text[:1] == "'" == text[-1:] and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if text[:1] == '"' == text[-1:] and len(text) > 1:
        return str(json.loads(text))
    return text

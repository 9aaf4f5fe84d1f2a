"""RECENT files in the two shapes that CPAN has had them in."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import NotAListing
from cluster.listing.bulk import recent

YAML = b"""---
meta:
  Producers:
    $0: /usr/bin/rrr-server
    time: 1223270942.00701
  aggregator:
    - 6h
    - 1d
    - Z
  comment: "These 'RECENT' files are: new"
  dirtymark: '1223270942.1'
  filenameroot: RECENT
  interval: 1h
  merged: ~
  minmax:
    max: 1223270911.76639
    min: 1223269222.00701
  protocol: 1
recent:
  - epoch: 1223270911.76639
    path: id/D/DE/DELTA/It''s-0.1.tar.gz
    type: new
  -
    epoch: 1223269222.00701
    path: 'id/A/AN/ANDK/a: b'
    type: delete
"""


def test_yaml_and_json_tell_the_same() -> None:
    found = recent.read(YAML, "RECENT-1h.yaml")
    assert (found.interval, found.intervals, found.longer) == ("1h", ("1h", "6h", "1d", "Z"), ("6h", "1d"))
    assert (str(found.oldest), str(found.newest)) == ("1223269222.00701", "1223270911.76639")
    assert found.mark == "1223270942.1"
    assert [path for _, path in found.events] == [b"id/D/DE/DELTA/It''s-0.1.tar.gz", b"id/A/AN/ANDK/a: b"]
    meta = {"interval": "1h", "aggregator": ["6h", "1d", "Z"], "dirtymark": "1223270942.1", "minmax": {}}
    events = [{"epoch": str(time), "path": path.decode()} for time, path in found.events]
    meta["minmax"] = {"max": str(found.newest), "min": str(found.oldest)}
    assert recent.read(json.dumps({"meta": meta, "recent": events}).encode(), "x") == found


def test_an_empty_span_is_as_long_as_it_says() -> None:
    text = b"---\nmeta:\n  interval: 1h\n  minmax:\n    max: 20.5\n    min: 10\nrecent: []\n"
    with pytest.raises(NotAListing):
        recent.read(text, "x")  # `[]` is a word in this shape
    found = recent.read(
        b'{"meta": {"interval": "1h", "minmax": {"max": 20.5, "min": 10}}, "recent": []}', "x"
    )
    assert (found.oldest, found.newest) == (Decimal(10), Decimal("20.5"))


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (b"authors/RECENT-1h.yaml", True),
        (b"RECENT-6h.json", True),
        (b"authors/RECENT.recent", True),
        (b"authors/RECENT-Z.yaml", False),
        (b"ls-lR.gz", False),
    ],
)
def test_what_is_called_so(name: bytes, is_one: bool) -> None:
    assert bool(recent.is_name(name)) is is_one


@pytest.mark.parametrize("path", ["../etc", "/etc", "a//b", "a/../b"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(NotAListing):
        recent.read(YAML.replace(b"id/A/AN/ANDK/a: b", path.encode()), "x")


@given(st.lists(st.sampled_from([*YAML.split(b"\n"), b"  - - x", b"    x:", b"\tx", b"- "]), max_size=12))
def test_whatever_arrives_is_read_or_refused(lines: list[bytes]) -> None:
    with suppress(NotAListing):
        recent.read(b"---\n" + b"\n".join(lines), "x")

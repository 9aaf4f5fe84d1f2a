"""Pages that other projects collected, with what their own tests expect of them."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from cluster.errors import NotAListing, UnsafeName
from cluster.listing import parse
from cluster.listing.names import Place
from cluster.listing.times import time_of
from cluster.model import MINUTE, Kind

CORPORA = os.path.join(os.path.dirname(__file__), "../../../shared/corpora")
FOLDERS = ("http-tsumugu", "http-rclone", "http-ant-ivy")


def _cases() -> list[tuple[str, dict[str, Any]]]:
    cases = []
    for folder in FOLDERS:
        path = os.path.join(CORPORA, folder, "expected.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                cases += [(folder, case) for case in json.load(file)["cases"]]
    return cases


pytestmark = pytest.mark.skipif(not os.path.isdir(CORPORA), reason="no corpora beside the checkout")


@pytest.mark.parametrize(
    ("folder", "case"), _cases(), ids=lambda value: value["id"] if isinstance(value, dict) else ""
)
def test_a_collected_page_is_read_as_its_collectors_read_it(folder: str, case: dict[str, Any]) -> None:
    with open(os.path.join(CORPORA, folder, case["file"]), "rb") as file:
        body = file.read()
    expect = case["expect"]
    if not body:
        with pytest.raises(NotAListing):  # nothing at all is not an empty directory (HAZARDS 27)
            parse(body, case["base_url"], "text/html")
        return
    listing = parse(body, case.get("base_url", "http://example.com/repository/"), "text/html")
    entries = {entry.name.decode(): entry for entry in listing.entries}
    kinds = [entry.kind for entry in listing.entries]
    assert not listing.rejected

    if expect.get("n_entries") is not None:
        assert len(entries) == expect["n_entries"]
    if "n_dirs" in expect:
        assert kinds.count(Kind.DIRECTORY) == expect["n_dirs"]
    assert kinds.count(Kind.FILE) >= expect.get("n_files_min", 0)
    if "n_files" in expect:
        assert kinds.count(Kind.FILE) == expect["n_files"]
    if "file_name_regex" in expect:
        assert all(re.fullmatch(expect["file_name_regex"], f"x/{name}") for name in entries)
    if case["strength"] == "names":
        assert entries.keys() == {row["name"] for row in expect["entries"]}
    for row in expect.get("entries", ()):
        _compare(entries[row["name"]], row)


def _compare(entry: Any, row: dict[str, Any]) -> None:
    assert entry.kind is (Kind.DIRECTORY if row["type"] == "dir" else Kind.FILE)
    if "size" in row:
        assert entry.size == row["size"]
    if "size_human" in row:
        number, unit = row["size_human"]
        told = re.match(r"([\d.]+)\s*(\w)", entry.rounded or "")
        assert entry.size is not None or told is not None
        assert told is None or (float(told[1]) == pytest.approx(number, abs=0.2) and told[2] == unit)
    if "mtime_local" in row and row["mtime_local"] != "epoch-default":
        time = time_of(row["mtime_local"])
        assert time is not None
        assert time.stamp is not None
        assert entry.mtime.agrees(time.stamp)
        assert entry.mtime.precision <= MINUTE


def _hrefs() -> list[dict[str, Any]]:
    path = os.path.join(CORPORA, "http-rclone/parse_name.json")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        rows: list[dict[str, Any]] = json.load(file)
    return rows


@pytest.mark.parametrize("row", _hrefs(), ids=lambda row: f"{row['base']}|{row['href']}")
def test_an_href_means_the_name_that_rclone_says(row: dict[str, Any]) -> None:
    try:
        named = Place(row["base"]).name(row["href"].encode())
    except UnsafeName:
        named = None
    shown = named[0].decode() + ("/" if named[1] else "") if named else ""
    assert shown == row["name"]

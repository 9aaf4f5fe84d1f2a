"""Lines of LIST and MLSD that other projects collected, with what their own tests expect of them."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from cluster.errors import IncompleteListing, NotAListing
from cluster.listing.ftp import read_list, read_mlsd
from cluster.model import DAY, MINUTE, SECOND, Entry, Kind, Listing

CORPORA = os.path.join(os.path.dirname(__file__), "../../../shared/corpora")
MEMBERS = "Name      VV.MM   Created       Changed      Size  Init   Mod   Id\r\n"
NOW = int(datetime(2026, 11, 22, 2, tzinfo=UTC).timestamp()) * SECOND
KINDS = {"file": Kind.FILE, "dir": Kind.DIRECTORY, "link": Kind.SYMLINK}

pytestmark = pytest.mark.skipif(not os.path.isdir(CORPORA), reason="no corpora beside the checkout")

# What one project's parser of one dialect refuses and is a row of another.
OF_ANOTHER_DIALECT = {
    "NTFTPEntryParserTest": ("DIR   05-",),  # OS/2
    "OS2FTPEntryParserTest": ("05-20-97", "<DIR>", "AUDITOR3"),  # Windows
    "EnterpriseUnixFTPEntryParserTest": ("drwxr-xr-x ", "-rw-r--r-- "),  # Unix
    "OS400FTPEntryParserTest": ("0  xx",),  # Unix, of a group with a blank
    "MacOsPeterFTPEntryParserTest": ("123       folder",),  # Unix, of a user with that name
}
SPOOL = re.compile(r".*spool files", re.IGNORECASE).fullmatch  # a queue of jobs is no directory


def _cases(folder: str) -> list[dict[str, Any]]:
    path = os.path.join(CORPORA, folder, "expected.json")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        cases: list[dict[str, Any]] = json.load(file)["cases"]
    return cases


def _read(case: dict[str, Any]) -> Listing:
    text: str = case["input"]
    if "MLSx" in case["class"]:
        return read_mlsd(f"{text}\r\n".encode())
    if case["class"].startswith("MVS") and re.fullmatch(r"\w{1,8} +(\d\d\.\d\d .*)?", text):
        text = MEMBERS + text
    return read_list(f"{text}\r\n".encode(), now=NOW)


@pytest.mark.parametrize("case", _cases("ftp-commons-net"), ids=lambda case: case["id"])
def test_a_collected_line_is_read_as_its_collectors_read_it(case: dict[str, Any]) -> None:
    if SPOOL(case["input"]):
        with pytest.raises(NotAListing):
            _read(case)
        return
    if case["strength"] == "reject":
        try:
            listing = _read(case)
        except (NotAListing, IncompleteListing):
            return
        other = any(part in case["input"] for part in OF_ANOTHER_DIALECT.get(case["class"], ()))
        assert other or not [e for e in listing.entries if not e.ambiguous]
        return
    listing = _read(case)
    if case["strength"] == "accept":
        nameless = ("VV.MM", "total", "Type=pdir")
        told = listing.entries or listing.rejected or listing.own
        assert told or any(word in case["input"] for word in nameless)
        return
    (entry,) = listing.entries
    _compare(entry, listing, case["expect"])


def _compare(entry: Entry, listing: Listing, expect: dict[str, Any]) -> None:
    name = expect.get("name")
    if listing.format == "vms" and name:
        name = name.removesuffix(".DIR")  # as CWD takes it
    if name is not None and not (entry.name.startswith(b"  ") and entry.name.strip() == name.encode()):
        assert entry.name == name.encode()
    if "type" in expect:
        assert entry.kind is KINDS[expect["type"]]
    assert not (expect.get("not_dir") and entry.kind is Kind.DIRECTORY)
    if "link" in expect:
        assert entry.target == expect["link"].encode()
    if "size" in expect and entry.kind is Kind.FILE:
        if listing.format == "vms":
            assert entry.rounded == f"{expect['size'] // 512} blocks"
        else:
            assert entry.size == expect["size"]
    if "mtime_text" in expect:
        told = datetime.strptime(expect["mtime_text"], "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
        assert entry.mtime and entry.mtime.ns == int(told.timestamp()) * SECOND


@pytest.mark.parametrize("case", _cases("ftp-aioftp"), ids=lambda case: case["id"])
def test_what_an_ftp_client_s_tests_expect_is_read(case: dict[str, Any]) -> None:
    expect = case["expect"]
    if "input_date" in case:
        now = int(datetime.fromisoformat(case["now"]).replace(tzinfo=UTC).timestamp()) * SECOND
        (entry,) = read_list(f"-rw-r--r-- 1 u g 5 {case['input_date']} x\n".encode(), now=now).entries
        read = datetime.fromisoformat(expect["date"]).replace(tzinfo=UTC)
        assert entry.mtime and entry.mtime.ns // DAY * 86_400 == int(read.timestamp())
        return
    body = case["input"].encode()
    body += b"" if body.endswith(b"\n") else b"\n"
    if expect is None:
        with pytest.raises(NotAListing):
            read_list(body, now=NOW)
        return
    listing = read_list(body, now=NOW)
    if "entries" not in expect:
        (entry,) = listing.entries
        kind = (
            "link" if case["input"].startswith("l") else expect.get("type")
        )  # that client takes it for a file
        assert kind in (None, "unknown") or entry.kind is KINDS[kind]
        assert (expect.get("type") == "unknown") is entry.ambiguous
        assert entry.target == (expect["link_target"].encode() if "link_target" in expect else entry.target)
        return
    assert {e.name.decode(): (e.kind, e.size) for e in listing.entries} == {
        row["name"]: (KINDS[row["type"]], row["size"]) for row in expect["entries"]
    }
    for row in expect["entries"]:
        told = datetime.fromisoformat(row["mtime_local"]).replace(tzinfo=UTC)
        mtime = next(e.mtime for e in listing.entries if e.name == row["name"].encode())
        assert mtime and (mtime.ns, mtime.precision) == (int(told.timestamp()) * SECOND, MINUTE)


@pytest.mark.parametrize("case", _cases("ftp-curl"), ids=lambda case: case["id"])
def test_a_simulated_server_s_listing_is_read_as_by_its_own_client(case: dict[str, Any]) -> None:
    listing = read_list(case["input"].encode(), now=NOW)
    rows = [row for row in case["expect"]["entries"] if row["name"] not in (".", "..")]
    assert {e.name.decode(): (e.kind, e.size, e.target) for e in listing.entries} == {
        row["name"]: (
            KINDS[row["type"]],
            row["size"] if row["type"] == "file" else None,
            row["target"].encode() if row["target"] else None,
        )
        for row in rows
    }

"""The trace file of a pass that a command makes by itself."""

from __future__ import annotations

TRACE = '<trace level="full"/>'


def test_a_pass_by_hand_leaves_a_trace_and_a_dry_run_or_a_part_none(desk) -> None:
    desk.site('sponsor = "The Department"\ncountry = "GB"')
    desk.mirror("m", inside=TRACE)
    (desk.source / "pool").mkdir()
    (desk.source / "pool/file").write_bytes(b"body")
    path = desk.root / "state/trace/m/kent.example"
    desk("pass", "--site", "kent", "--dry-run", "m")
    assert not path.exists()
    desk("pass", "--site", "kent", "m")
    text = path.read_text()
    assert "\nTrigger: by hand\n" in text and "\nSponsor: The Department\nCountry: GB\n" in text
    assert path.stat().st_mode & 0o777 == 0o644
    path.unlink()
    desk("pass", "--site", "kent", "m", "pool")
    assert not path.exists()


def test_a_pass_that_failed_leaves_the_trace_of_the_last_good_one(desk) -> None:
    desk.mirror("m", inside=TRACE)
    (desk.source / "file").write_bytes(b"body")
    desk("pass", "--site", "kent", "m")
    before = (desk.root / "state/trace/m/kent.example").read_bytes()
    desk.source.rename(desk.root / "gone")
    desk("pass", "--site", "kent", "m", status=1)
    assert (desk.root / "state/trace/m/kent.example").read_bytes() == before

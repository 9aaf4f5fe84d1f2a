"""What the log says of a pass that has ended."""

from __future__ import annotations

import logging

import pytest

from cluster.daemon.parts import log_report
from cluster.engine.report import Report


def test_a_plan_that_is_held_is_a_warning_with_its_reason_and_its_hash(
    caplog: pytest.LogCaptureFixture,
) -> None:
    report = Report("gnu", "kent", outcome="held", plan="abc", notes=["deletions held: 3 of 4 files"])
    with caplog.at_level(logging.INFO):
        log_report(report, b"")
    told = [(one.levelname, one.getMessage()) for one in caplog.records]
    assert ("WARNING", "gnu: deletions held: 3 of 4 files; plan=abc") in told
    caplog.clear()
    log_report(Report("gnu", "kent", outcome="complete"), b"")
    assert {one.levelname for one in caplog.records} <= {"INFO"}

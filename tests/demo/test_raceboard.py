"""The race as people see it."""

import asyncio

import pytest
from rich.console import Console

from cluster.demo import raceboard
from cluster.demo.raceboard import Lane, RaceBoard, Side


def sides() -> list[Side]:
    return [
        Side(
            "together",
            "siblings that look sideways",
            [Lane("kent", 100, {"doc": (20, 30)}), Lane("lancaster", 100, {"doc": (150, 30)})],
            lambda: 210_000_000,
        ),
        Side("alone", "the same sites, each by itself", [Lane("kent", 100, {}, 61.26)], lambda: 0),
    ]


def drawn(width: int) -> list[str]:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(RaceBoard("The race", sides()).picture())
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_a_line_for_each_site_fits_the_terminal(width):
    lines = drawn(width)
    assert len(lines) == 10
    assert all(len(line) <= width for line in lines)
    for site in ("kent", "lancaster"):
        assert any(line.strip().startswith(site) for line in lines)
    assert any("210.0 MB over the link" in line for line in lines)


def test_bars_keep_their_length_whatever_the_figures():
    kent, lancaster = drawn(80)[2:4]
    assert kent.index("%") == lancaster.index("%")


def test_only_a_complete_site_is_at_100_per_cent():
    kent, lancaster, lone = (line for line in drawn(80) if "%" in line)
    assert " 50 %" in kent
    assert " 99 %" in lancaster  # bytes that came twice
    assert "100 %" in lone
    assert lone.endswith("61.3 s")


async def test_without_a_terminal_a_line_is_told_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(raceboard, "TOLD_EVERY", 0.01)
    with RaceBoard("The race", sides()):
        await asyncio.sleep(0.1)
    said = capsys.readouterr().out
    assert said.startswith("The race\n")
    assert "together: kent 50 %, lancaster 99 %, 210.0 MB over the link; alone: kent complete, 0.0 MB" in said
    assert "\x1b" not in said

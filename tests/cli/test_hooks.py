"""A pass by hand runs the mirror's hooks, as the daemon does."""

import pytest

EVENTS = ("before", "publish", "failure", "after")


def recording(log, **scripts: str) -> str:
    """Hooks that note their event and the outcome they are told; what is given for an event is run too."""
    lines = (
        f'<hook on="{event}"><arg>/bin/sh</arg><arg>-c</arg>'
        f"<arg>echo {event} $SIDEWAYS_OUTCOME >> {log}; {scripts.get(event, 'true')}</arg></hook>"
        for event in EVENTS
    )
    return f"<hooks>{''.join(lines)}</hooks>"


@pytest.fixture
def told(desk):
    """What the hooks noted in the meantime."""

    def lines() -> list[str]:
        log = desk.root / "hooks"
        noted = log.read_text().splitlines() if log.exists() else []
        log.write_text("")
        return noted

    return lines


def test_a_pass_by_hand_runs_the_hooks(desk, told):
    (desk.source / "a").write_text("a")
    desk.mirror("m", recording(desk.root / "hooks"))
    desk("pass", "--site", "kent", "m")
    assert told() == ["before", "publish complete", "after complete"]
    desk("pass", "--site", "kent", "m")
    assert told() == ["before", "after complete"]
    desk("pass", "--site", "kent", "m", "--dry-run")
    assert told() == []
    (desk.source / "a").unlink()
    desk("pass", "--site", "kent", "m", status=1)  # an empty folder is a folder that is not mounted
    assert told() == ["before", "failure failed", "after failed"]


@pytest.mark.parametrize("daemon", [False, True], ids=["by hand", "by the daemon"])
def test_a_hook_that_fails_keeps_a_pass_from_beginning_and_whoever_asked_is_told(desk, told, daemon):
    (desk.source / "a").write_text("a")
    desk.mirror("m", recording(desk.root / "hooks", before="echo no room; exit 7"))
    if daemon:
        desk.run()
    said = desk("pass", "--site", "kent", "m", status=1)
    lines = said.err.splitlines()
    assert lines[-1] == b"m: its `before` hook failed, so no pass was begun; the log says why"
    assert daemon or b"before hook /bin/sh: exit status 7" in lines[0]
    assert told() == ["before", "failure failed", "after failed"]
    assert not list((desk.root / "data").glob("m/*"))

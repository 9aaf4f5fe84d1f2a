"""A mirror whose origin is an operator's own program, from the command line."""

from __future__ import annotations

PROGRAM = """#!/bin/sh
test -e ../../../../../broken && echo "cannot reach it" && exit 4
mkdir -p pool && echo body > pool/file && date +%N > changes
test -e ../../../../../empty && rm -r pool changes
exit 0
"""


def test_a_program_makes_the_origin_and_where_it_fails_nothing_is_deleted(desk):
    program = desk.root / "fetch"
    program.write_text(PROGRAM.replace("../../../../..", str(desk.root)))
    program.chmod(0o755)
    (desk.root / "config/mirrors/m.xml").write_text(
        f'<mirror name="m"><path>/m</path><origin method="command" command="{program}" space="1GB"/>'
        '<schedule paused="yes"/><delete sightings="1" grace="0s" emptied-after="0s"/></mirror>'
    )
    first = desk("pass", "--site", "kent", "m", "--json").json()
    assert (first["outcome"], first["files"]["origin"], first["origin"]) == ("complete", 2, "command:fetch")
    assert (desk.root / "data/m/pool/file").read_text() == "body\n"
    (desk.root / "broken").touch()
    failed = desk("pass", "--site", "kent", "m", "--json", status=1).json()
    assert failed["outcome"] == "failed"
    assert "fetch: exit status 4: cannot reach it" in failed["errors"][0]
    (desk.root / "broken").unlink()
    (desk.root / "empty").touch()
    assert desk("pass", "--site", "kent", "m", "--json", status=1).json()["outcome"] == "failed"
    assert (desk.root / "data/m/pool/file").exists()
    (desk.root / "empty").unlink()
    last = desk("pass", "--site", "kent", "m", "--json").json()
    assert (last["outcome"], last["files"]["deleted"]) == ("complete", 0)

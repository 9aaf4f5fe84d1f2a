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


ODD = """#!/bin/sh
mkfifo pipe
ln -s /etc/passwd out
ln -s ../../../x up
mkdir -p sub && ln -s ../plain sub/in
echo a > plain
echo b > tool && chmod 6755 tool
mkdir open && chmod 1777 open
"""


def test_what_a_program_leaves_is_no_more_trusted_than_any_origin(desk):
    program = desk.root / "fetch"
    program.write_text(ODD)
    program.chmod(0o755)
    (desk.root / "config/mirrors/m.xml").write_text(
        f'<mirror name="m"><path>/m</path><origin method="command" command="{program}"/>'
        '<schedule paused="yes"/></mirror>'
    )
    told = desk("pass", "--site", "kent", "m", "--json").json()
    assert (told["outcome"], told["files"]["origin"], told["files"]["skipped"]) == ("complete", 2, 3)
    assert max(one["reason"] for one in told["left_out"]) == "neither file, directory nor link"
    public = desk.root / "data/m"
    assert sorted(path.name for path in public.iterdir()) == ["open", "plain", "sub", "tool"]
    modes = {name: (public / name).stat().st_mode & 0o7777 for name in ("tool", "open")}
    assert modes == {"tool": 0o755, "open": 0o775}
    assert (public / "sub/in").is_symlink()


def test_check_names_a_user_who_is_not_there(desk):
    (desk.root / "config/mirrors/m.xml").write_text(
        '<mirror name="m"><path>/m</path><origin method="command" command="/bin/true" user="no-such-user"/>'
        '<schedule paused="yes"/></mirror>'
    )
    said = desk("check")
    assert (
        "origin command:true: there is no user no-such-user on this machine" in (said.out + said.err).decode()
    )

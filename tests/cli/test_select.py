"""What an operator is told of the rules of `<select>`."""

from __future__ import annotations

SELECT = """<define name="arch" values="all amd64"/>
<select>
<include pattern="keep/x"/>
<exclude pattern="*_${!arch}.deb" reason="no such machine"/>
<exclude pattern="debug/"/>
<exclude pattern="debug/" kind="directory"/>
<exclude pattern="**" larger="1KB"/>
</select>"""


def test_a_rule_that_is_never_reached_is_a_warning_with_its_line(desk):
    desk.mirror("m", SELECT)
    said = desk("check").err.decode()
    (line,) = [line for line in said.splitlines() if "never reached" in line]
    assert "config/mirrors/m.xml: select: exclude debug/ kind directory (line " in line
    assert line.endswith("is never reached, since exclude debug/ comes first")


def test_check_explains_which_rule_decides_for_a_path(desk):
    desk.mirror("m", SELECT)
    words = ("check", "--explain", "m", "a_i386.deb", "a_amd64.deb", "debug/x/y", "keep/x")
    told = desk(*words, "--json").json()["paths"]
    assert [(one["path"], one["mirrored"], one["above"]) for one in told] == [
        ("a_i386.deb", False, None),
        ("a_amd64.deb", True, None),
        ("debug/x/y", False, "debug"),
        ("keep/x", True, None),
    ]
    assert told[0]["reason"] == "no such machine" and told[1]["rule"] is None
    lines = desk(*words).out.decode().splitlines()
    rule = "exclude *_${!arch}.deb (no such machine)"
    assert lines[0].startswith(f"a_i386.deb: left out (no such machine): {rule} (config/mirrors/m.xml:")
    assert lines[1] == "a_amd64.deb: mirrored: no rule matches"
    large = desk("check", "--explain", "m", "z", "--size", "2KB", "--json").json()["paths"]
    assert [one["reason"] for one in large] == ["larger than 1KB, and matches **"]


def test_explanations_that_cannot_be_given_are_one_line(desk):
    told = ("--explain m", "m", "--size 1KB", "--explain x a", "--explain m ../a", "--explain m a --age 1h")
    for bad in told:
        done = desk("check", *bad.split(), status=2)
        assert len(done.err.decode().splitlines()) == 1, done.err.decode()


def test_status_says_what_is_left_out_and_which_rules_match_nothing(desk):
    (desk.source / "debug").mkdir()
    (desk.source / "a_i386.deb").write_bytes(b"x" * 10)
    desk.mirror("m", SELECT)
    desk("pass", "--site", "kent", "m")
    facts = desk("status", "--site", "kent", "m", "--json").json()
    assert [(one["reason"], one["files"], one["directories"]) for one in facts["left_out"]] == [
        ("no such machine", 1, 0),
        ("excluded by debug/", 0, 1),
    ]
    assert len(facts["unused_rules"]) == 3
    said = desk("status", "--site", "kent", "m").out.decode()
    assert "left out  1 file, 10 bytes: no such machine" in said
    assert "this rule has matched nothing: include keep/x" in said

"""Rules that never decide."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.model import Entry, Kind, Rule, split
from cluster.plan.select import Selection, ancestors
from cluster.plan.unreached import unreached

LISTS = (("arch", ("amd64", "arm64")),)


def rule(text: str, **facts) -> Rule:
    word, _, pattern = text.partition(" ")
    return Rule(word == "include", pattern, lists=LISTS if "${" in pattern else (), **facts)


@pytest.mark.parametrize(
    ("earlier", "later", "never"),
    [
        ("exclude *.iso", "exclude *.iso", True),
        ("exclude *.iso", "include *.iso", True),
        ("exclude *.iso", "exclude iso/*-dvd.iso", True),
        ("exclude *.iso", "exclude **/old/**/*-dvd.iso", True),
        ("exclude *.iso", "exclude *.img", False),
        ("exclude *-dvd.iso", "exclude *.iso", False),
        ("exclude **", "exclude x", True),
        ("exclude debug/", "include debug/x", True),  # nobody looks in there
        ("exclude debug/**", "include debug/x", True),
        ("exclude /debug/", "exclude a/debug/x", False),
        ("exclude debug/", "exclude debug", False),  # it may be a file
        ("exclude pool/*", "exclude pool/*/*.deb", True),
        ("include pool/*", "exclude pool/*/*.deb", False),
        ("exclude pool/*/*.deb", "exclude pool/**/*.deb", False),
        ("exclude pool/**/*.deb", "exclude pool/*/*.deb", True),
        ("exclude *_${arch}.deb", "exclude *_amd64.deb", True),
        ("exclude *_${arch}.deb", "exclude *_i386.deb", False),
        ("exclude *_${!arch}.deb", "exclude *_i386.deb", False),  # true, and not looked into
        ("exclude *.deb", "exclude *_${!arch}.deb", True),
        ("exclude a?", "exclude a?", True),
        ("exclude a?", "exclude a*", False),
        ("exclude \\*", "exclude \\*", True),
    ],
)
def test_a_rule_is_out_of_reach_where_one_before_it_decides_for_all_it_could_match(earlier, later, never):
    rules = [rule(earlier), rule(later), rule("exclude z")]
    assert (rules[1] in [one for one, _ in unreached(rules)]) is never


def test_what_an_earlier_rule_says_besides_its_names_must_be_said_by_the_later_one_as_well():
    small, large, aged = (
        rule("exclude **", **f) for f in ({}, {"larger": 9}, {"larger": 9, "older": 86_400})
    )
    assert [one for one, _ in unreached([large, small])] == []
    assert [one for one, _ in unreached([large, aged])] == [aged]
    assert [one for one, _ in unreached([small, large])] == [large]


def test_what_decides_for_a_directory_need_not_decide_for_what_is_in_it():
    """An include leads into it, so that both are looked at."""
    assert list(unreached([rule("include a"), rule("include a/"), rule("exclude z")])) == []
    assert list(unreached([rule("include a"), rule("exclude a/")])) == []
    rules = [rule("include a/b"), rule("exclude a/"), rule("exclude a/c/")]
    assert list(unreached(rules)) == [(rules[2], rules[1])]


def test_an_include_after_which_nothing_is_excluded_changes_nothing():
    rules = [rule("include a"), rule("exclude *"), rule("include b/c")]
    assert list(unreached(rules[:1])) == [(rules[0], None)]
    assert list(unreached([rules[0], rules[1]])) == []


NAMES = st.sampled_from(["a", "b", "*", "a*", "**", "?b", "[ab]", "${arch}", "x${!arch}"])
PATTERNS = st.builds(
    lambda parts, start, end: start + "/".join(parts) + end,
    st.lists(NAMES, min_size=1, max_size=3),
    st.sampled_from(["", "/"]),
    st.sampled_from(["", "/"]),
).filter(lambda text: text.count("!") < 2)
RULES = st.lists(
    st.builds(lambda word, p: rule(f"{word} {p}"), st.sampled_from(["include", "exclude"]), PATTERNS)
)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "amd64", "xb", "xamd64", "*"]), min_size=1, max_size=4)


@given(RULES, st.lists(st.tuples(PATHS, st.booleans()), max_size=20))
def test_no_name_meets_a_rule_that_is_said_to_be_out_of_reach(rules, paths):
    silent = [one for one, before in unreached(rules) if before is not None]
    selection = Selection(rules)
    for parts, directory in paths:
        path = "/".join(parts).encode()
        walked = [(above, True) for above in ancestors(path)] + [(path, directory)]
        for at, is_directory in walked:
            kind = Kind.DIRECTORY if is_directory else Kind.FILE
            if selection.excluded(at, Entry(split(at)[1], kind)) is not None:
                break
    used = [rule for n, rule in enumerate(rules) if n not in selection.unused()]
    for one in silent:
        places = [n for n, rule in enumerate(rules) if rule == one]
        assert len(places) > 1 or one not in used

"""Which names are mirrored."""

import pytest

from cluster.model import Entry, Kind, Rule, Stamp, split
from cluster.plan.pattern import Expression, Pattern
from cluster.plan.select import Carriers, Selection, today


def excluded(selection: Selection, path: bytes, directory: bool = False, **facts):
    kind = Kind.DIRECTORY if directory else facts.pop("kind", Kind.FILE)
    return selection.excluded(path, Entry(split(path)[1], kind, **facts))


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.iso", b"a/b/c.iso", True),
        ("*.iso", b"c.iso", True),
        ("*.iso", b"c.iso.txt", False),
        ("/c.iso", b"a/c.iso", False),
        ("pool/*/x", b"pool/a/x", True),
        ("pool/*/x", b"pool/a/b/x", False),
        ("pool/**/*_hurd-*.deb", b"pool/main/a/x_hurd-i386.deb", True),
        ("pool/**/*_hurd-*.deb", b"pool/x_hurd-i386.deb", True),
        ("dists/**", b"dists/sid/Release", True),
        ("dists/**", b"distss/x", False),
        ("a[0-9]", b"a5", True),
        ("a[!0-9]", b"a5", False),
        ("a[!0-9]", b"ab", True),
        ("?", b"x", True),
        ("a.b", b"aXb", False),
        ("é", "é".encode(), True),
        ("\\*", b"*", True),
        ("\\*", b"x", False),
    ],
)
def test_patterns_match_bytes(pattern, path, matches):
    assert Pattern.compile(pattern).matches(path, False) is matches


@pytest.mark.parametrize("bad", ["", "/", "a[b"])
def test_what_is_no_pattern_is_refused(bad):
    with pytest.raises(ValueError):
        Pattern.compile(bad)


def test_the_first_rule_that_matches_decides():
    selection = Selection([Rule(True, "keep.iso"), Rule(False, "*.iso", "big")])
    assert excluded(selection, b"a/keep.iso") is None
    assert excluded(selection, b"a/other.iso").reason == "big"


def test_a_directory_is_left_out_whole_where_everything_below_is():
    selection = Selection([Rule(False, "debug/**")])
    assert excluded(selection, b"debug", True) is not None
    assert excluded(selection, b"debug", False) is None


def test_a_directory_stays_while_an_include_may_match_below_it():
    selection = Selection([Rule(True, "pool/a/**"), Rule(False, "**")])
    assert excluded(selection, b"pool", True) is None
    assert excluded(selection, b"pool/a", True) is None
    assert excluded(selection, b"pool/a/x") is None
    assert excluded(selection, b"pool/b", True) is not None
    assert excluded(selection, b"other", True) is not None


def test_a_slash_at_the_end_means_directories_only():
    selection = Selection([Rule(False, "tmp/")])
    assert excluded(selection, b"a/tmp", True) is not None
    assert excluded(selection, b"a/tmp", False) is None


GB = 10**9
DAY = 86_400 * 10**9
MOMENT = today(1_800_000_000.0)


@pytest.mark.parametrize(
    ("pattern", "lists", "path", "matches"),
    [
        ("binary-${arch}/", {"arch": ["amd64", "arm64"]}, b"dists/sid/main/binary-arm64", True),
        ("binary-${arch}/", {"arch": ["amd64", "arm64"]}, b"dists/sid/main/binary-i386", False),
        ("binary-${!arch}/", {"arch": ["amd64", "arm64"]}, b"dists/sid/main/binary-i386", True),
        ("binary-${!arch}/", {"arch": ["amd64", "arm64"]}, b"dists/sid/main/binary-arm64", False),
        ("binary-${!arch}/", {"arch": ["amd64"]}, b"dists/sid/main/binary-amd64-x", True),
        ("pool/**/*_${!arch}.deb", {"arch": ["all", "amd64"]}, b"pool/main/a/apt_2.6_amd64.deb", False),
        ("pool/**/*_${!arch}.deb", {"arch": ["all", "amd64"]}, b"pool/main/a/x_1_hurd-i386.deb", True),
        ("*.${!arch}.rpm", {"arch": ["x86_64", "noarch"]}, b"a/foo-1.0-1.x86_64.rpm", False),
        ("*.${!arch}.rpm", {"arch": ["x86_64", "noarch"]}, b"a/foo-1.0-1.s390x.rpm", True),
        ("${v}/os-${v}/", {"v": ["9", "10"]}, b"9/os-9", True),
        ("${v}/os-${v}/", {"v": ["9", "10"]}, b"9/os-10", False),
        ("${v}/${!arch}/", {"v": ["9", "10"], "arch": ["x86_64"]}, b"9/ppc64le", True),
        ("${v}/${!arch}/", {"v": ["9", "10"], "arch": ["x86_64"]}, b"8/ppc64le", False),
        ("a.b-${v}", {"v": ["1.0"]}, b"a.b-1x0", False),
        ("\\${v}", {}, b"${v}", True),
    ],
)
def test_a_pattern_stands_for_the_values_of_a_list_or_for_all_others(pattern, lists, path, matches):
    assert Pattern.compile(pattern, lists).matches(path, True) is matches


@pytest.mark.parametrize("bad", ["${arch}", "${!arch}", "${}", "${!}", "${Arch}", "${!v}-${!v}"])
def test_a_list_that_there_is_not_is_refused(bad):
    with pytest.raises(ValueError, match=r"\$\{|no list"):
        Pattern.compile(bad, {"v": ["1"]})


@pytest.mark.parametrize(
    ("regex", "path", "matches"),
    [
        (r"\.iso$", b"a/b.iso", True),
        (r"^\.iso", b"a/b.iso", False),
        (r"/(debug|Debug)/", b"x/debug/y.rpm", True),
        (r"-${v}\.", b"x/foo-9.rpm", True),
        (r"-${v}\.", b"x/foo-8.rpm", False),
        (r"^[^\x00-\x7f]", b"\xff\xfe", True),
        ("é$", "é".encode(), True),
    ],
)
def test_a_regular_expression_is_searched_for_in_the_bytes_of_a_path(regex, path, matches):
    rules = [Rule(False, regex=regex, lists=(("v", ("9", "10")),))]
    assert (excluded(Selection(rules), path) is not None) is matches


@pytest.mark.parametrize("bad", ["(", "(?=x)", r"(a)\1", "a{3000}", "${w}", "${!v}"])
def test_what_re2_does_not_read_is_refused(bad):
    with pytest.raises(ValueError):
        Expression.compile(bad, {"v": ["1"]})


@pytest.mark.parametrize(
    "rule",
    [
        Rule(False, regex="(a+)+$"),
        Rule(False, regex="(a|a)*b$"),
        Rule(False, "*a*a*a*a*a*a*a*a*a*a*a*a*b"),
        Rule(False, "**a**a**a**a**a**b/**/c"),
    ],
)
def test_no_name_of_an_origin_makes_a_pattern_take_for_ever(rule):
    """With backtracking each of them goes on for longer than anybody lives."""
    path = b"/".join([b"a" * 250] * 16)
    assert excluded(Selection([rule]), path + b"!") is None


@pytest.mark.parametrize(
    ("rule", "facts", "left_out"),
    [
        ({"larger": 4 * GB}, {"size": 4 * GB}, False),
        ({"larger": 4 * GB}, {"size": 4 * GB + 1}, True),
        ({"larger": 4 * GB}, {}, False),  # not told
        ({"larger": 4 * GB}, {"rounded": "4.0G"}, False),  # between 3.9 and 4.1 of either sort
        ({"larger": 4 * GB}, {"rounded": "4.2G"}, True),
        ({"larger": 4 * GB}, {"rounded": "many"}, False),
        ({"larger": 4 * GB}, {"size": 5 * GB, "directory": True}, False),
        ({"smaller": 1000}, {"size": 999}, True),
        ({"smaller": 1000}, {"size": 1000}, False),
        ({"smaller": 10**6}, {"rounded": "2K"}, True),
        ({"older": 365 * 86_400}, {"mtime": Stamp(MOMENT * 10**9 - 366 * DAY)}, True),
        ({"older": 365 * 86_400}, {"mtime": Stamp(MOMENT * 10**9 - 365 * DAY)}, False),
        (
            {"older": 86_400},
            {"mtime": Stamp(MOMENT * 10**9 - 2 * DAY, 2 * DAY)},
            False,
        ),  # it may be younger
        ({"older": 86_400}, {}, False),
        ({"older": 86_400}, {"mtime": Stamp(0), "directory": True}, False),
        ({"newer": 2 * 86_400}, {"mtime": Stamp(MOMENT * 10**9 - DAY)}, True),
        ({"newer": 2 * 86_400}, {"mtime": Stamp(MOMENT * 10**9 - 3 * DAY)}, False),
        ({"kind": Kind.SYMLINK}, {"kind": Kind.SYMLINK}, True),
        ({"kind": Kind.SYMLINK}, {}, False),
        ({"kind": Kind.DIRECTORY}, {"directory": True}, True),
        ({"larger": GB, "older": 86_400}, {"size": 2 * GB, "mtime": Stamp(MOMENT * 10**9)}, False),
        ({"larger": GB, "older": 86_400}, {"size": 2 * GB, "mtime": Stamp(0)}, True),
    ],
)
def test_everything_that_a_rule_says_must_be_known_to_hold(rule, facts, left_out):
    selection = Selection([Rule(False, "**", **rule)], MOMENT)
    assert (excluded(selection, b"a/x", **facts) is not None) is left_out


def test_a_rule_about_what_is_in_a_directory_keeps_the_directory():
    selection = Selection([Rule(False, "iso/**", larger=1)])
    assert excluded(selection, b"iso", True) is None
    assert excluded(selection, b"iso/x", size=2) is not None


@pytest.mark.parametrize("pattern", ["pool/", "pool", "pool/**"])
def test_what_is_in_an_excluded_directory_is_left_out_though_an_include_leads_into_it(pattern):
    selection = Selection([Rule(True, "pool/a/**/*.deb"), Rule(False, pattern)])
    assert excluded(selection, b"pool", True) is None
    assert excluded(selection, b"pool/a/b", True) is None
    assert excluded(selection, b"pool/a/b/x.deb") is None
    assert excluded(selection, b"pool/a/b/x.dsc") is not None
    assert excluded(selection, b"pool/b", True) is not None


def test_an_included_directory_is_mirrored_with_all_below():
    selection = Selection([Rule(True, "doc/"), Rule(False, "**")])
    assert excluded(selection, b"doc", True) is None
    assert excluded(selection, b"doc/a/b.txt") is None
    assert excluded(selection, b"other") is not None


def test_a_sibling_carries_what_its_own_rules_leave_it():
    carriers = Carriers({"oslo": [Rule(False, "iso/"), Rule(False, "**", larger=GB)]})
    small, large = Entry(b"x", size=1), Entry(b"x", size=2 * GB)
    assert carriers.among(["kent", "oslo"], b"pool/x", small) == ["kent", "oslo"]
    assert carriers.among(["kent", "oslo"], b"pool/x", large) == ["kent"]
    assert carriers.among(["kent", "oslo"], b"a/iso/b/x", small) == ["kent"]
    assert carriers.walks("oslo", b"a") and not carriers.walks("oslo", b"a/iso/b")
    assert not Carriers({})


def test_the_rules_that_have_decided_for_nothing_are_known_by_their_place():
    selection = Selection([Rule(True, "a"), Rule(False, "*.iso"), Rule(False, "*.img")])
    excluded(selection, b"x.iso")
    assert selection.unused() == [0, 2]

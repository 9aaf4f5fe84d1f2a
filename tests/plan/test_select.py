"""Which names are mirrored."""

import pytest

from cluster.model import Rule
from cluster.plan.select import Pattern, Selection


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
    assert selection.excluded(b"a/keep.iso") is None
    assert selection.excluded(b"a/other.iso").reason == "big"


def test_a_directory_is_left_out_whole_where_everything_below_is():
    selection = Selection([Rule(False, "debug/**")])
    assert selection.excluded(b"debug", True) is not None
    assert selection.excluded(b"debug", False) is None


def test_a_directory_stays_while_an_include_may_match_below_it():
    selection = Selection([Rule(True, "pool/a/**"), Rule(False, "**")])
    assert selection.excluded(b"pool", True) is None
    assert selection.excluded(b"pool/a", True) is None
    assert selection.excluded(b"pool/a/x") is None
    assert selection.excluded(b"pool/b", True) is not None
    assert selection.excluded(b"other", True) is not None


def test_a_slash_at_the_end_means_directories_only():
    selection = Selection([Rule(False, "tmp/")])
    assert selection.excluded(b"a/tmp", True) is not None
    assert selection.excluded(b"a/tmp", False) is None

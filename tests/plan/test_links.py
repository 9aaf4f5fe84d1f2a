"""Which links are made: none from which any chain of links leaves the mirror."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.plan.links import refusal


@pytest.mark.parametrize(
    ("directory", "target", "made"),
    [
        (b"", b"a", True),
        (b"a", b"../b", True),
        (b"a/b", b"../../c/d", True),
        (b"", b"../b", False),
        (b"a", b"../../b", False),
        (b"", b"/etc/passwd", False),
        (b"a", b"b/../../..", False),
        (b"a/b", b"c/../d", False),  # c may be a link to somewhere else: CVE-2024-12088
        (b"a", b"", False),
        (b"a", b"./b", True),
    ],
)
def test_which_links_are_made(directory, target, made):
    assert (refusal(directory, target) == "") is made


names = st.sampled_from([b"a", b"b", b"c"])
targets = st.lists(st.sampled_from([b"..", b".", b"a", b"b", b"c"]), min_size=1, max_size=6).map(b"/".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.lists(names, max_size=2), names, targets), max_size=12))
def test_no_combination_of_made_links_leads_out(tmp_path_factory, links):
    outside = tmp_path_factory.mktemp("outside")
    root = os.fsencode(outside / "root")
    os.mkdir(root)
    for parts, name, target in links:
        directory = b"/".join(parts)
        if refusal(directory, target):
            continue
        folder = os.path.join(root, directory)
        if not _real(root, parts):
            continue
        os.makedirs(folder, exist_ok=True)
        if not os.path.lexists(os.path.join(folder, name)):
            os.symlink(target, os.path.join(folder, name))
    for folder, below, files in os.walk(root):
        for name in below + files:
            resolved = os.path.realpath(os.path.join(folder, name))
            assert resolved == root or resolved.startswith(root + b"/")


def _real(root, parts):
    """Links are only made in real directories, as the store does."""
    path = root
    for part in parts:
        path = os.path.join(path, part)
        if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path)):
            return False
    return True

"""When a new version is made from an older one, and from which."""

import pytest

from cluster.model import Delta
from cluster.plan.delta import Experience, before_version, forebear, hopeless, rolls, versioned, worth


@pytest.mark.parametrize(
    ("name", "names", "found"),
    [
        (b"foo-1.3.tar", [b"foo-1.1.tar", b"foo-1.2.tar", b"foo-1.5.tar"], b"foo-1.2.tar"),
        (b"foo-1.10.tar", [b"foo-1.2.tar", b"foo-1.9.tar"], b"foo-1.9.tar"),
        (b"foo-2.0.tar", [b"foo-1.9.tar", b"foo-0.1.tar"], b"foo-1.9.tar"),
        (b"foo-1.2.1.tar", [b"foo-1.2.tar", b"foo-1.1.tar"], b"foo-1.2.tar"),
        (
            b"d-12.1.0-amd64-1.iso",
            [b"d-12.0.0-arm64-1.iso", b"d-12.0.0-amd64-1.iso"],
            b"d-12.0.0-amd64-1.iso",
        ),
        (
            b"foo-1.3.tar",
            [b"foo-1.3.tar", b"bar-1.2.tar", b"foo-1.2.tar.gz", b"foo-1.2.iso", b"README"],
            None,
        ),
        (b"image-2.iso", [b"image-1.iso"], None),
        (b"README", [b"README.1"], None),
        (b"foo-1.3.tar.gz", [b"foo-1.2.tar.gz"], None),
        (b"foo-1." + b"9" * 30 + b".tar", [b"foo-1.2.tar"], None),
    ],
)
def test_the_nearest_version_is_the_forebear(name: bytes, names: list[bytes], found: bytes | None) -> None:
    assert forebear(name, names) == found
    if found is not None:
        assert versioned(name) and found.startswith(before_version(name))


def test_a_faster_link_and_worse_experience_speak_for_the_whole_file() -> None:
    known = Experience()
    size = 10**8
    assert worth(Delta.AUTO, b"a.iso", size, 10e6, known)
    assert not worth(Delta.AUTO, b"a.iso", size, 10e9, known)
    for _ in range(5):
        known.note(size, 1.0, size)  # all of it came over the link after all
    assert not worth(Delta.AUTO, b"a.iso", size, 10e6, known)
    for _ in range(5):
        known.note(size, 0.1, 1000)
    assert worth(Delta.AUTO, b"a.iso", size, 300e6, known)


@pytest.mark.parametrize("mode", list(Delta))
def test_what_was_compressed_as_a_whole_has_nothing_in_common_with_itself(mode: Delta) -> None:
    for name in (b"a.tar.gz", b"a.ISO.XZ", b"pool/a_1_all.deb"):
        assert not worth(mode, name, 10**9, None, Experience())
    assert worth(mode, b"a.zip", 10**9, None, Experience()) is (mode is not Delta.NO)


def test_every_offset_is_looked_at_only_where_that_is_quicker_than_fetching() -> None:
    assert rolls(Delta.AUTO, 10**8, 10**8, 10e6)
    assert not rolls(Delta.AUTO, 10**9, 10**6, 10e6)
    assert rolls(Delta.AUTO, 10**9, 10**6, None) and rolls(Delta.ALWAYS, 10**9, 1, 10e9)


def test_large_blocks_that_were_not_found_prove_nothing() -> None:
    assert not hopeless(10**8, 0, 65_536)
    assert hopeless(10**8, 10**6, 4_096)
    assert not hopeless(10**8, 10**7, 512)

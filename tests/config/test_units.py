from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("20m", 1200), ("6h", 21_600), ("3d", 259_200), ("1h30m", 5_400), ("0s", 0), ("0.5s", 0.5)],
)
def test_durations_are_read_in_seconds(text, seconds):
    assert units.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("64GiB", 64 * 2**30),
        ("64GB", 64 * 10**9),
        ("1.5MiB", 1_572_864),
        ("12", 12),
        ("0", 0),
        ("4 kib", 4096),
    ],
)
def test_sizes_are_read_in_bytes(text, bytes_):
    assert units.size(text) == bytes_


@pytest.mark.parametrize(
    ("text", "rate"),
    [("50MB/s", 50_000_000), ("400Mbit/s", 50_000_000), ("20MiB/s", 20 * 2**20), ("8 kbit/s", 1000)],
)
def test_rates_are_read_in_bytes_a_second(text, rate):
    assert units.rate(text) == rate


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *(
            (units.duration, t)
            for t in ("", "5", "5x", "m5", "30m1h", "-1s", "1h 30m", "99999d", "1_0s", "٣s", "1e3s")
        ),
        *((units.size, t) for t in ("", "GiB", "4 apples", "4b/s", "-4", "1e3", "9999999999TiB", "0x10")),
        *((units.rate, t) for t in ("50", "50MB", "50MB/h", "50Mb/s", "1/s", "1000", "9999TB/s", "0MB/s")),
        *((units.share, t) for t in ("10", "101%", "-1%", "ten%", "%", "1e1%")),
        *((units.clock, t) for t in ("24:01", "6:00", "12:60", "noon", "12:00:00")),
        *((units.hours, t) for t in ("22:00", "22:00-22:00", "22:00-25:00", "-", "22-6")),
    ],
)
def test_what_is_no_unit_is_refused_with_what_is_allowed(parse, text):
    with pytest.raises(ValueError, match=r"; write|allowed|is more|is longer|; leave") as caught:
        parse(text)
    assert str(caught.value).isprintable()


@given(st.integers(0, units.MAX_DURATION * 1000).map(lambda ms: ms / 1000))
def test_a_duration_that_is_shown_is_read_back_as_the_same(seconds):
    assert units.duration(units.shown_duration(seconds)) == seconds


@given(st.integers(0, units.MAX_SIZE))
def test_a_size_that_is_shown_is_read_back_as_the_same(size):
    assert units.size(units.shown_size(size)) == size


@given(st.integers(1000, 10**12))
def test_a_rate_that_is_shown_is_read_back_as_the_same(rate):
    assert units.rate(units.shown_rate(rate)) == rate


@given(st.integers(0, 10_000).map(lambda n: n / 10_000))
def test_a_share_that_is_shown_is_read_back_as_the_same(part):
    assert units.share(units.shown_share(part)) == pytest.approx(part, abs=1e-12)


@given(st.tuples(st.integers(0, 1440), st.integers(0, 1440)).filter(lambda w: w[0] != w[1]))
def test_hours_that_are_shown_are_read_back_as_the_same(window):
    assert units.hours(units.shown_hours(window)) == window


@given(st.text())
@pytest.mark.parametrize("parse", [units.duration, units.size, units.rate, units.share, units.hours])
def test_any_text_is_a_value_or_one_line(parse, text):
    try:
        value = parse(text)
    except ValueError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 500
    else:
        assert value is not None

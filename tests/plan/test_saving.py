"""What cooperation spares the origin."""

import pytest

from cluster.plan.saving import saving


@pytest.mark.parametrize(
    ("origin", "sideways", "saved"),
    [
        (0, 0, None),  # nothing was fetched: nothing can be said
        (100, 0, 0.0),  # alone
        (100, 200, pytest.approx(2 / 3)),  # three sites, each byte once
        (100, 100, 0.5),
        (0, 100, 1.0),  # everything was there already
    ],
)
def test_the_saving_is_the_share_that_lone_mirrors_would_have_fetched_as_well(origin, sideways, saved):
    assert saving(origin, sideways) == saved

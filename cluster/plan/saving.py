"""What cooperation spares an origin."""

from __future__ import annotations


def saving(origin: int, sideways: int) -> float | None:
    """The share, 0 to 1, of what lone mirrors would have fetched that the origin did not have to send.

    Both are bytes of files that the same sites received; alone, each of them would have fetched every one of
    these bytes from the origin. None where nothing was received.
    """
    received = origin + sideways
    return sideways / received if received else None

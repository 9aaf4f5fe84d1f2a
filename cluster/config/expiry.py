"""When the certificates of sites end: a site whose certificate has ended is alone, and hardly notices."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator

from cluster.model import Site

SOON = dt.timedelta(days=60)  # siblings have to take the new one up before the old one ends


def ending(sites: Iterable[Site], now: float) -> Iterator[str]:
    """A line for each site whose newest certificate has ended or ends soon (`now`: s since 1970)."""
    at = dt.datetime.fromtimestamp(now, dt.UTC)
    for site in sites:
        if site.peer is None or not site.peer.certificates:
            continue
        end = _end(site.peer.certificates[0])
        if end is not None and end - at < SOON:
            word = "ended" if end <= at else "ends"
            yield (
                f"sites/{site.name}.toml: peer.certificate: it {word} on {end:%Y-%m-%d}, and siblings accept "
                f"none that has ended; run `sideways keys --site {site.name} --rotate` there"
            )


def _end(pem: str) -> dt.datetime | None:
    """None for what is no certificate: `sideways run` says so where it is used."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem.encode("ascii")).not_valid_after_utc
    except ValueError:
        return None

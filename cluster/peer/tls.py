"""Who is who on a connection: mutual TLS 1.3 with pinned self-signed certificates (HAZARDS section 4)."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import Iterable

from cluster.courier.secured import pinned
from cluster.model import Site
from cluster.peer.keys import certificates, fingerprint


def identities(sites: Iterable[Site]) -> dict[str, str]:
    """Certificate fingerprint -> site name. What is no certificate is nobody's."""
    known: dict[str, str] = {}
    for site in sites:
        for pem in pems(site):
            with contextlib.suppress(ValueError):
                known[fingerprint(pem)] = site.name
    return known


def pems(site: Site) -> list[str]:
    """The certificates by which a site is known: two while it replaces its key."""
    return [pem for text in site.peer.certificates for pem in certificates(text)] if site.peer else []


def accepting(own: tuple[str, str], siblings: Iterable[Site]) -> ssl.SSLContext:
    """For the server: exactly these siblings may connect. `own` is (key path, certificate path)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # a resumed session would outlive a revocation
    return pinned(context, own, (pem for site in siblings for pem in pems(site)))


def connecting(own: tuple[str, str], sibling: Site) -> ssl.SSLContext:
    """For a client: one context per sibling that trusts its certificates alone. That is the pin."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return pinned(context, own, pems(sibling))


def seen(connection: ssl.SSLObject | None) -> str | None:
    """The fingerprint of the certificate at the other end."""
    der = connection.getpeercert(binary_form=True) if connection is not None else None
    return hashlib.sha256(der).hexdigest() if der else None

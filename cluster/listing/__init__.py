"""Bytes to Listing. No I/O.

`parse` reads what web servers and object stores answer for a directory; `fingerprint` tells whether two
listings show the same, `token` is one for those that come without; `learnt`, `shifted` and `localised` place
a wall clock in its zone.
"""

from cluster.listing.detect import parse
from cluster.listing.rows import fingerprint, token
from cluster.listing.zone import learnt, localised, shifted

__all__ = ["fingerprint", "learnt", "localised", "parse", "shifted", "token"]

"""Where a redirect may lead. Pure: URLs in, a URL or a refusal out.

aiohttp's own redirects are off: they would carry on to addresses, schemes and paths that an origin has
no business sending us to (HAZARDS 72-76).
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from yarl import URL

from cluster.errors import Changed, NotAListing, Refused

REDIRECTS = frozenset((301, 302, 303, 307, 308))
MAX_REDIRECTS = 5  # HAZARDS section 5; browsers follow twenty, no archive needs three


class BecameDirectory(Changed):
    """A name asked for as a file is a directory: the server adds the slash."""


def next_url(url: URL, location: str | None, path: str, *, listing: bool, downgrade: bool) -> URL:
    """Where to ask next for `path` when `url` answered with `location`. Its address is not judged here.

    Credentials in `location` are dropped: they are not ours. Raises Refused for what is not an http URL
    and for a way from https to http unless `downgrade`; NotAListing where a listing is sent out of its
    path (a login page, a front page); BecameDirectory.
    """
    if not location:
        raise Refused(path, "redirect: without a Location")
    plain = location.isascii() and location.isprintable() and " " not in location
    try:
        target = url.join(URL(location, encoded=plain)).with_user(None).with_fragment(None)
    except ValueError:
        raise Refused(path, "redirect: its Location is not a URL") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise Refused(path, f"redirect: to {target.scheme or 'no'} URL, which is not HTTP")
    if url.scheme == "https" and target.scheme == "http" and not downgrade:
        raise Refused(path, f"redirect: from https to http at {target.host}")
    asked, told = (unquote_to_bytes(u.raw_path) for u in (url, target))
    if listing:
        if told.rstrip(b"/") != asked.rstrip(b"/"):
            raise NotAListing(path, f"redirect: to {target.host}{target.raw_path}, another path")
    elif target.host == url.host and told == asked + b"/":
        raise BecameDirectory(path, "is a directory at the origin now")
    return target

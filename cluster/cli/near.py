"""The site's daemon as a command finds it, without reading the configuration itself.

To read and check a configuration takes a command longer than everything else that it does. A daemon that runs
has all that this needs in memory: it checks the files as they are now, and says whether they are in order.
Whatever else is the case, the command reads them, and says what is wrong.
"""

from __future__ import annotations

import os
import tomllib

from cluster.caller import ask
from cluster.errors import SidewaysError

MAX_FILE = 2**20  # bytes: a longer one is not valid


def state_of(folder: str, site: str, mirror: str) -> str | None:
    """The folder with the records of a site whose daemon runs, where it finds the configuration in `folder`
    valid, reads that one itself, and has the mirror. None where any of this is not so."""
    state = _stated(folder, site)
    if state is None:
        return None
    request = {"command": "valid", "folder": os.path.realpath(folder), "site": site, "mirror": mirror}
    try:
        answer = ask(state, request)
    except (SidewaysError, OSError, ValueError):
        return None  # an older daemon, or one that is just ending
    return state if answer is not None and answer.get("valid") is True else None


def _stated(folder: str, site: str) -> str | None:
    """Where its files say that a site's records are; the daemon that answers there knows whether it is so."""
    places: tuple[tuple[str, tuple[str, ...]], ...] = (
        (f"sites/{site}.toml", ()),
        ("config/cluster.toml", ("defaults", "site")),
    )
    for file, tables in places:
        path = os.path.join(folder, file)
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
                values = tomllib.loads(stream.read(MAX_FILE).decode())
            for table in tables:
                values = values[table]
            if "state" in values:
                return os.path.join(os.path.dirname(path), values["state"])
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            return None
    return None

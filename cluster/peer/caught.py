"""Which siblings were caught with bytes that were not what they promised, and when last: `STATE/caught.json`.

A lie that one mirror's pass meets casts doubt on what the sibling brought to every mirror here, also after a
restart and after the sibling has been taken out of the configuration (HAZARDS section 4).
"""

from __future__ import annotations

import json
import logging
import os

FILE = "caught.json"

log = logging.getLogger(__name__)


def known(state: str) -> dict[str, float]:
    """When (s since 1970) each sibling was last caught; nothing, and a line in the log, where the file cannot
    be read."""
    file = os.path.join(state, FILE)
    try:
        with open(file, encoding="utf-8") as opened:
            told = json.load(opened)
        return {str(site): float(at) for site, at in told.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.error("%s: which siblings were caught cannot be read: %s; remove it", file, error)  # noqa: TRY400
        return {}


def note(state: str, site: str, at: float) -> None:
    """Remember a lie; on disk when this returns. Where that cannot be, the log says so."""
    file = os.path.join(state, FILE)
    told = known(state) | {site: at}
    temporary = f"{file}.new"
    try:
        with open(temporary, "w", encoding="utf-8") as opened:
            json.dump(dict(sorted(told.items())), opened)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(temporary, file)
    except OSError as error:
        log.error("%s: that %s was caught cannot be written: %s", file, site, error.strerror)  # noqa: TRY400

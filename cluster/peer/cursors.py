"""How far this site has followed its siblings' journals: kept in `STATE/followed.json`."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a journal: `seq` is the last record that was worked off, of this `epoch`."""

    epoch: str
    seq: int


@dataclass(slots=True)
class Cursors:
    """By sibling and mirror. What is lost with the file is found again by comparing digests."""

    file: str
    places: dict[tuple[str, str], Place] = field(default_factory=dict)
    unsaved: bool = False

    @classmethod
    def load(cls, file: str) -> Cursors:
        """A file that cannot be read counts as none."""
        try:
            with open(file, encoding="utf-8") as opened:
                told = json.load(opened)
            places = {
                (str(site), str(mirror)): Place(str(epoch), int(seq))
                for site, mirrors in told.items()
                for mirror, (epoch, seq) in mirrors.items()
            }
        except FileNotFoundError:
            return cls(file)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("%s: not readable, so siblings' records are compared anew: %s", file, error)
            return cls(file)
        return cls(file, places)

    def put(self, site: str, mirror: str, place: Place) -> None:
        """Remember it with the next `save`."""
        if self.places.get((site, mirror)) != place:
            self.places[site, mirror] = place
            self.unsaved = True

    def save(self) -> None:
        """Write the whole file beside the old one, then take its place. One that cannot be written is said in
        the log: the next start compares instead."""
        self.unsaved = False
        told: dict[str, dict[str, tuple[str, int]]] = {}
        for (site, mirror), place in sorted(self.places.items()):
            told.setdefault(site, {})[mirror] = place.epoch, place.seq
        temporary = f"{self.file}.new"
        try:
            with open(temporary, "w", encoding="utf-8") as opened:
                json.dump(told, opened, indent=1)
            os.replace(temporary, self.file)
        except OSError as error:
            log.warning("%s: cannot be written: %s", self.file, error.strerror)

"""What an operator paused, mirrors and origins: kept in `STATE/paused.json`, so it outlives the daemon."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field

from cluster.errors import StoreError


@dataclass(frozen=True, slots=True)
class Pause:
    """`since` in s since 1970."""

    since: float
    reason: str = ""


@dataclass(slots=True)
class Pauses:
    """`mirrors` by name, `origins` by the URL that their descriptor has."""

    file: str
    mirrors: dict[str, Pause] = field(default_factory=dict)
    origins: dict[str, Pause] = field(default_factory=dict)

    @classmethod
    def load(cls, file: str) -> Pauses:
        """Raises StoreError where the file cannot be read: nothing is started against a forgotten pause."""
        try:
            with open(file, encoding="utf-8") as opened:
                told = json.load(opened)
            kinds = [
                {key: Pause(**pause) for key, pause in told[kind].items()} for kind in ("mirrors", "origins")
            ]
        except FileNotFoundError:
            return cls(file)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            why = error.strerror if isinstance(error, OSError) else repr(error)
            raise StoreError(f"{file}: what is paused cannot be read: {why}; mend or remove it") from error
        return cls(file, *kinds)

    def save(self) -> None:
        """Write the whole file beside the old one, then take its place. Raises StoreError."""
        told = {
            "mirrors": {key: asdict(pause) for key, pause in sorted(self.mirrors.items())},
            "origins": {key: asdict(pause) for key, pause in sorted(self.origins.items())},
        }
        temporary = f"{self.file}.new"
        try:
            with open(temporary, "w", encoding="utf-8") as opened:
                json.dump(told, opened, indent=1)
                opened.flush()
                os.fsync(opened.fileno())
            os.replace(temporary, self.file)
        except OSError as error:
            raise StoreError(f"{self.file}: what is paused cannot be written: {error.strerror}") from error

"""Log lines: one line an event, `key=value` at its end, no control characters in it (HAZARDS 6)."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

OURS = ("sideways", "cluster")  # loggers of parts that operators know by name, and of modules


class Line(logging.Formatter):
    """`2026-01-31T12:00:00Z info sideways.pass: debian: complete files=3`. A module's logger,
    `cluster.peer.link`, is `sideways.peer.link` to whoever reads the log."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", self.converter(record.created))
        text = record.getMessage()
        if record.exc_info:
            text += " " + self.formatException(record.exc_info)
        top, dot, below = record.name.partition(".")
        name = f"{OURS[0]}{dot}{below}" if top in OURS else record.name
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        return f"{stamp}.{record.msecs:03.0f}Z {record.levelname.lower()} {name}: {text}"


@contextmanager
def to_file(path: str | None, *, verbose: bool = False, console: bool = False) -> Iterator[None]:
    """Send the log to `path` and (`console`) to standard error while the block runs; what only a log can tell
    and somebody should know goes to standard error in any case.

    Raises OSError when the file cannot be opened."""
    root = logging.getLogger()
    handlers: list[logging.Handler] = []
    if path is not None:
        handlers.append(logging.FileHandler(path, encoding="utf-8", errors="backslashreplace"))
    handlers.append(logging.StreamHandler(sys.stderr))
    if not (console or verbose):
        handlers[-1].setLevel(logging.WARNING)
        handlers[-1].addFilter(lambda record: record.name != "sideways.pass")  # the result has these
    for handler in handlers:
        handler.setFormatter(Line())
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()

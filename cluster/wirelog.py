"""The log of an HTTP server for what is no HTTP: anybody can send it, so it is one quiet line."""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError

from cluster.model import shown


def wire_log(name: str) -> logging.Logger:
    """The logger `name`, to be given to `web.AppRunner`."""
    wire = logging.getLogger(name)
    if _calm not in wire.filters:
        wire.addFilter(_calm)
    return wire


def _calm(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        told = shown(" ".join(error.message.split()).encode("utf-8", "surrogateescape"))
        record.msg, record.args, record.exc_info = f"refused: {told}", (), None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True

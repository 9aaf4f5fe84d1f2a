"""Facts to HTML or JSON, whichever was asked for. Pages need no JavaScript and nothing from elsewhere."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cluster.web.received import bars, percent

CSP = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
_AGES = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


class Pages:
    """The templates, compiled once, and the style sheet under a name that changes with it."""

    def __init__(self) -> None:
        self.style = (files("cluster.web") / "templates" / "style.css").read_bytes()
        environment = Environment(
            loader=PackageLoader("cluster.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
        )
        environment.filters.update(
            when=when, day=day, age=age, size=size, count=count, percent=percent, bars=bars
        )
        environment.globals["style"] = f"/-/style.css?{hashlib.sha256(self.style).hexdigest()[:12]}"
        self._environment = environment

    def answer(
        self, request: web.Request, template: str, facts: dict[str, Any], status: int = 200
    ) -> web.Response:
        """The facts as the client wants them; HEAD gets the same without its body."""
        if wants_json(request):
            text = json.dumps(facts, ensure_ascii=False, allow_nan=False) + "\n"
            media = "application/json"
        else:
            text = self._environment.get_template(template).render(facts)
            media = "text/html; charset=utf-8"
        headers = {
            "Content-Type": media,
            "Content-Security-Policy": CSP,
            "Cache-Control": "no-cache",
            "Vary": "Accept",
        }
        return web.Response(status=status, headers=headers, body=text.encode("utf-8"))


def wants_json(request: web.Request) -> bool:
    """`?json`, or an Accept that names JSON and not HTML."""
    keys = [part.partition("=")[0] for part in request.rel_url.raw_query_string.split("&")]
    if "json" in keys:
        return True
    accept = request.headers.get("Accept", "")
    return "application/json" in accept and "text/html" not in accept


def when(seconds: float | None) -> Markup | str:
    """A time to the minute, with the exact one for machines."""
    return _time(seconds, "%Y-%m-%d %H:%M UTC")


def day(seconds: float | None) -> Markup | str:
    """A time without its zone, for columns whose heading says UTC."""
    return _time(seconds, "%Y-%m-%d %H:%M")


def _time(seconds: float | None, layout: str) -> Markup | str:
    if seconds is None:
        return "never"
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return "outside the calendar"
    exact = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, exact, moment.strftime(layout))


def age(seconds: float | None, now: float) -> str:
    """How long ago, or how soon, in the largest unit of which there are at least two, or one second."""
    if seconds is None:
        return ""
    distance = abs(int(now - seconds))
    for unit, name in _AGES:
        number = distance // unit
        if number >= 2 or unit == 1:
            text = f"{number} {name}{'' if number == 1 else 's'}"
            return f"{text} ago" if seconds <= now else f"in {text}"
    return ""


def size(number: int | None) -> str:
    """Decimal units, three digits: `1.23 GB`."""
    if number is None:
        return ""
    value, unit = float(number), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    if unit == 0:
        return f"{number} {'byte' if number == 1 else 'bytes'}"
    return f"{value:.{max(0, 3 - len(str(int(value))))}f} {_UNITS[unit]}"


def count(number: int) -> str:
    """Groups of three digits, held together by narrow spaces."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")

"""Fixtures that start real servers; each is a function to be called with a folder, any number of times.

def test_a_listing(start_nginx, tmp_path):
    server = start_nginx(tmp_path, autoindex_format="json")
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import servers

# How long an example takes, or takes to be made, says nothing about us.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

Start = Callable[..., servers.Server]


def _starter(stack: ExitStack, make: Callable[..., AbstractContextManager[servers.Server]]) -> Start:
    def start(*args: Any, **kwargs: Any) -> servers.Server:
        return stack.enter_context(make(*args, **kwargs))

    return start


@pytest.fixture(scope="session", autouse=True)
def _swept() -> None:
    servers.sweep(Path(tempfile.gettempdir()), time.time())


@pytest.fixture
def start_nginx() -> Iterator[Start]:
    with ExitStack() as stack:
        yield _starter(stack, servers.nginx)


@pytest.fixture
def start_apache() -> Iterator[Start]:
    with ExitStack() as stack:
        yield _starter(stack, servers.apache)


@pytest.fixture
def start_lighttpd() -> Iterator[Start]:
    with ExitStack() as stack:
        yield _starter(stack, servers.lighttpd)


@pytest.fixture
def start_rsyncd() -> Iterator[Start]:
    with ExitStack() as stack:
        yield _starter(stack, servers.rsyncd)

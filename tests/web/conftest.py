from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.web.fakes import FakeReader, Running, mirror, serving


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Running]:
    """One mirror, `debian` at /debian, with one file and one folder in it."""
    reader = FakeReader(tmp_path)
    reader.add(b"README", b"hello\n")
    reader.add(b"pool/a/a_1.deb", b"0123456789" * 10)
    async with serving({"debian": reader}, mirror()) as running:
        yield running

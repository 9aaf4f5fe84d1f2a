from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose invariants are checked at the end, however the story went."""
    made = World(tmp_path)
    yield made
    await made.check()

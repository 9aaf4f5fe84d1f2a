"""How long siblings are waited for: longer where this machine itself is late."""

from __future__ import annotations

import asyncio
import time

import pytest

from cluster.engine.patience import ANSWER, LONGEST, SILENT, TICK, Patience
from tests.engine.world import World


def test_what_is_late_is_given_longer_and_forgotten_soon() -> None:
    patience = Patience()
    assert (patience.seconds, patience.answer) == (SILENT, ANSWER)
    patience.was_late(0.3)
    assert (patience.seconds, patience.answer) == pytest.approx((SILENT + 3, ANSWER + 3))
    patience.was_late(60.0)
    assert patience.seconds == patience.answer == LONGEST
    for _ in range(round(20 / TICK)):
        patience.was_late(0.0)
    assert patience.answer < ANSWER + 0.1


async def test_a_machine_that_is_busy_with_something_else_is_late() -> None:
    patience = Patience()
    watching = asyncio.create_task(patience.watch())
    await asyncio.sleep(0)
    time.sleep(TICK + 0.3)  # noqa: ASYNC251  # what nobody should do
    await asyncio.sleep(0.01)
    watching.cancel()
    assert patience.answer > ANSWER + 2


async def test_siblings_have_as_long_to_answer_as_this_machine_is_late(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    oslo = world.sibling()
    world.memory.put(b"pool/file", b"bytes")
    oslo.hold_all(world.memory)
    given: list[float] = []
    real = oslo.bundle

    def bundle(mirror: str, wishes: object, patience: float) -> object:
        given.append(patience)
        return real(mirror, wishes, patience)  # type: ignore[arg-type]

    async def late(self: Patience, _: object) -> None:
        self.was_late(0.3)
        await asyncio.sleep(TICK)

    monkeypatch.setattr(oslo, "bundle", bundle)
    monkeypatch.setattr(Patience, "tick", late)
    await world.run()
    world.equal()
    assert given == pytest.approx([ANSWER + 3])

"""Telling downstream mirrors what was published, and being told: Debian's words, in Debian's order.

The words are those that ftpsync takes from ssh's forced command: `sync:all`, `sync:stage1` (files, no
indexes, nothing deleted), `sync:stage2` (the rest), `sync:mhop` (tell your own downstreams between the
stages), and `sync:archive:NAME`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from cluster.model import Downstream, Pushed, value

TRIES = 3  # to reach a downstream, in each stage
PAUSE = 30.0  # s before the second try; doubled before the third

ALL, STAGE1, STAGE2, MHOP, CALLBACK = "sync:all", "sync:stage1", "sync:stage2", "sync:mhop", "sync:callback"
ARCHIVE = "sync:archive:"
WORDS = (ALL, STAGE1, STAGE2, MHOP, CALLBACK)

_ARCHIVE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


@value
class Call:
    """What one downstream is told. `patience`: s that it has to answer."""

    to: Downstream
    words: tuple[str, ...]
    patience: float


def first_stage(downstreams: Sequence[Downstream], archive: str, patience: float) -> list[Call]:
    """Whom to call at once: those that take everything in one step, and the group for its files. Whoever does
    a stage may take as long as its delay."""
    calls = []
    for one in downstreams:
        if one.type is Pushed.ALL:
            calls.append(Call(one, (ALL, ARCHIVE + archive), patience))
        else:
            more = (MHOP,) if one.type is Pushed.MHOP else ()
            calls.append(Call(one, (STAGE1, *more, ARCHIVE + archive), one.delay))
    return calls


def second_stage(
    downstreams: Sequence[Downstream], archive: str, patience: float, answered: Collection[str]
) -> list[Call]:
    """When all of the group have answered, or their time is over. Who did not do the first stage is to do
    both now."""
    return [
        Call(one, (STAGE2 if one.name in answered else ALL, ARCHIVE + archive), patience)
        for one in downstreams
        if one.type is not Pushed.ALL
    ]


def pause_before(tries: int) -> float:
    """Seconds before the next try, after so many."""
    return PAUSE * 2.0 ** (tries - 1)


@value
class Asked:
    """What an upstream asks for. `archive` is empty where it names none."""

    words: tuple[str, ...]
    archive: str = ""


def asked(command: str) -> Asked:
    """The words of `SSH_ORIGINAL_COMMAND`. Raises ValueError for whatever is none of Debian's: whoever holds
    the key can ask for a pass and for nothing else."""
    words: list[str] = []
    archives: list[str] = []
    for word in command.split():
        name = word.removeprefix(ARCHIVE)
        if word in WORDS:
            words.append(word)
        elif name != word and _ARCHIVE_NAME.fullmatch(name):
            archives.append(name)
        else:
            raise ValueError("is not one of " + ", ".join((*WORDS, ARCHIVE + "NAME")))
    if len(set(archives)) > 1:
        raise ValueError("names more than one archive")
    return Asked(tuple(words) or (ALL,), archives[0] if archives else "")

"""Children: what they are given, what is read of them, and that none is left."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from cluster.errors import Unreachable
from cluster.origin.rsync_child import SAID, Ended, started


async def ran(script: str, **more: object) -> tuple[bytes, Ended]:
    async with started(("/bin/sh", "-c", script), shown="here", **more) as child:  # type: ignore[arg-type]
        output = b"".join([chunk async for chunk in child.output()])
        return output, await child.ended()


def alive(pid: int) -> bool:
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


async def gone(pid: int) -> None:
    async with asyncio.timeout(60):
        while alive(pid):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)


async def test_output_exit_code_and_errors_are_told() -> None:
    assert await ran("printf 'a\\nb'; printf 'no such' >&2; exit 23") == (b"a\nb", Ended(23, "no such"))


async def test_a_signal_is_a_code_below_zero() -> None:
    assert (await ran("kill -SEGV $$"))[1].code == -11


async def test_what_it_is_given_is_its_input_whole() -> None:
    names = b"".join(b"%d\0" % n for n in range(300_000))
    assert await ran("cat", given=names) == (names, Ended(0, ""))


async def test_a_name_with_an_option_or_a_quote_in_it_is_one_argument() -> None:
    async with started(("/bin/echo", "-n", b"; 'lat\xe9' $HOME"), shown="") as child:
        assert [chunk async for chunk in child.output()] == [b"; 'lat\xe9' $HOME"]


async def test_the_environment_is_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSYNC_PROXY", "evil")
    output, _ = await ran("env", more={"RSYNC_PASSWORD": "secret"})
    told = dict(line.split("=", 1) for line in output.decode().splitlines())
    assert {name: told[name] for name in ("TZ", "LC_ALL", "RSYNC_PASSWORD")} == {
        "TZ": "UTC",
        "LC_ALL": "C",
        "RSYNC_PASSWORD": "secret",
    }
    assert "RSYNC_PROXY" not in told
    assert "HOME" not in told


async def test_a_flood_of_errors_is_read_and_not_kept() -> None:
    output, ended = await ran("head -c 20000000 /dev/zero >&2; echo done")
    assert (output, len(ended.said)) == (b"done\n", SAID)


async def test_lines_come_whole_and_a_last_one_without_end_is_left_out() -> None:
    async with started(
        ("/bin/sh", "-c", "printf 'one\\ntw'; sleep 0.1; printf 'o\\nthr'"), shown=""
    ) as child:
        assert [line async for lines in child.lines() for line in lines] == [b"one", b"two"]


STUBBORN = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; sleep 600' & wait"


async def test_who_leaves_early_kills_the_group_whatever_it_ignores() -> None:
    async with started(("/bin/sh", "-c", STUBBORN), shown="") as child:
        async for chunk in child.output():
            pid = int(chunk)
            break
        assert alive(pid)
    await gone(pid)


async def test_a_cancelled_reader_leaves_nobody_behind() -> None:
    pid = asyncio.get_running_loop().create_future()

    async def read() -> None:
        async with started(("/bin/sh", "-c", "echo $$; exec sleep 600"), shown="") as child:
            async for chunk in child.output():
                pid.set_result(int(chunk))

    reading = asyncio.create_task(read())
    await pid
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await gone(pid.result())


async def test_silence_ends_it() -> None:
    with pytest.raises(Unreachable, match=r"here: rsync said nothing for 0\.2 s"):
        await ran("echo $$; exec sleep 600", silence=0.2)


async def test_silence_is_none_while_something_stirs() -> None:
    moves = iter(range(10))
    with pytest.raises(Unreachable):
        await ran("exec sleep 600", silence=0.02, stirring=lambda: next(moves, None))
    assert next(moves, None) is None


async def test_a_program_that_is_not_there_is_an_error_of_the_origin() -> None:
    try:
        async with started(("/nowhere/rsync",), shown="debian") as child:
            assert [chunk async for chunk in child.output()] == []
            assert (await child.ended()).code == 127
    except Unreachable as error:
        assert "cannot be started" in str(error)  # where nothing ties it to us


PARENT = """
import asyncio, os
from cluster.origin.rsync_child import started
async def main():
    async with started(("/bin/sh", "-c", "echo $$; exec sleep 600"), shown="") as child:
        async for chunk in child.output():
            os.write(1, chunk)
            os._exit(0)
asyncio.run(main())
"""


async def test_it_ends_with_its_parent_however_that_ends() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PARENT,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    pid = int((await process.communicate())[0])
    await gone(pid)

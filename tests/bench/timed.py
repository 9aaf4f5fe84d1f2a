"""Run commands one after the other and write what they cost: `python -IS timed.py RESULT COMMANDS`.

A process of its own, and a small one: the peak memory that wait4(2) reports of a child begins at what its
parent had in memory when it forked. COMMANDS is a JSON list of argument lists; the first failure ends it.
"""

import json
import os
import sys
import time


def main(result: str, commands: str) -> None:
    rows = []
    began = time.monotonic()
    for argv in json.loads(commands):
        # A contestant ends with the bench, however that ends.
        guarded = ["setpriv", "--pdeathsig", "KILL", *argv]
        _, status, usage = os.wait4(os.posix_spawnp(guarded[0], guarded, os.environ), 0)
        rows.append(
            {
                "status": os.waitstatus_to_exitcode(status),
                "cpu": usage.ru_utime + usage.ru_stime,
                "peak": usage.ru_maxrss * 1024,
            }
        )
        if rows[-1]["status"]:
            break
    wall = time.monotonic() - began
    with open(result, "w", encoding="utf-8") as out:
        json.dump({"wall": wall, "commands": rows}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Whether two trees are equal, as rsync sees it."""

from __future__ import annotations

import shutil
import subprocess

from cluster.errors import StoreError

LEFT_OUT = ("__pycache__/", "site-packages/")  # by the descriptor of the demo's `python` mirror


def differences(origin: str, mirror: str, *, links: bool) -> list[str]:
    """What rsync would change to make `mirror` equal to `origin`: contents and times, and with `links`
    symbolic and hard links as well.

    Raises StoreError where there is no rsync.
    """
    if shutil.which("rsync") is None:
        raise StoreError("rsync: not installed; `make setup` installs what the demo needs")
    kinds = ["-lH"] if links else ["-L"]
    left_out = [f"--exclude={name}" for name in LEFT_OUT]
    # HTTP listings tell a directory's time by the minute: directory times are left aside (-O). Links that
    # lead out of the tree are refused by every site, and listed as skipped (--safe-links).
    command = ["rsync", "-nrtcOi", "--safe-links", *kinds, "--delete", *left_out, origin + "/", mirror + "/"]
    done = subprocess.run(command, capture_output=True, check=False)
    lines = done.stdout.decode("utf-8", "backslashreplace").splitlines()
    if done.returncode not in (0, 23, 24):
        lines.append(done.stderr.decode("utf-8", "backslashreplace").strip())
    return lines

"""Keys for tests, made by GnuPG in a folder of its own, and signatures by them."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


class Signer:
    """One key. `ring` is the file that descriptors name."""

    def __init__(self, home: Path, name: str, expires: str, now: str | None) -> None:
        self._home, self.name = home, name
        self._clock = ["--faked-system-time", now] if now else []
        self._gpg(
            "--passphrase",
            "",
            "--quick-generate-key",
            f"{name} <{name}@example.org>",
            "ed25519",
            "sign",
            expires,
        )
        self.ring = home / f"{name}.gpg"
        self.ring.write_bytes(self._gpg("--export", name))
        self.armored = home / f"{name}.asc"
        self.armored.write_bytes(self._gpg("--armor", "--export", name))

    def inline(self, text: bytes, *options: str) -> bytes:
        return self._gpg("--local-user", self.name, *options, "--clearsign", stdin=text)

    def detached(self, content: bytes, *options: str) -> bytes:
        return self._gpg("--local-user", self.name, *options, "--detach-sign", stdin=content)

    def _gpg(self, *arguments: str, stdin: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self._home), "--batch", "--pinentry-mode", "loopback"]
        command += [*self._clock, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout


@contextlib.contextmanager
def signers(*names: str, expires: str = "never", now: str | None = None) -> Iterator[list[Signer]]:
    """Keys of these names, made and used at the time `now`. Folder and agent are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="gpg-") as folder:  # a short path: the agent's socket is in it
        home = Path(folder)
        try:
            yield [Signer(home, name, expires, now) for name in names]
        finally:
            subprocess.run(
                ["gpgconf", "--homedir", folder, "--kill", "all"], capture_output=True, check=False
            )

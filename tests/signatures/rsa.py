"""A key as Alpine's builders have one, made by openssl, and signatures by it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.repository import made


class RsaKey:
    """`public` is what descriptors name."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self._private, self.public = name, folder / f"{name}.rsa", folder / f"{name}.rsa.pub"
        private, public = str(self._private), str(self.public)
        subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True, capture_output=True)
        subprocess.run(
            ["openssl", "rsa", "-in", private, "-pubout", "-out", public], check=True, capture_output=True
        )

    def signature(self, content: bytes) -> bytes:
        """The segment that abuild-sign puts before an index. The same for the same content."""
        command = ["openssl", "dgst", "-sha1", "-sign", str(self._private)]
        signature = subprocess.run(command, input=content, capture_output=True, check=True).stdout
        return made.gzipped_segment(f".SIGN.RSA.{self.public.name}", signature)

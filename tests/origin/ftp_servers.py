"""What FTP servers need besides their configuration: a folder that guests may read, and a certificate."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.origin.test_http_guard import certificate


@contextmanager
def open_to_all() -> Iterator[Path]:
    """An empty folder that every user may enter, as those of pytest are not."""
    folder = Path(tempfile.mkdtemp(prefix="sideways-ftp-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def paired(folder: Path) -> tuple[Path, str]:
    """A file with the key and the certificate of 127.0.0.1, and one with its authority."""
    authority, _ = certificate(folder, "127.0.0.1")
    return Path(authority).with_suffix(".both"), authority

"""A configuration folder that is valid until a test spoils it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config.load import load
from cluster.errors import ConfigErrors


class Folder:
    """Writes files below one temporary folder and says what `load` makes of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("config/cluster.toml", 'name = "trial"\n')
        self.site("kent")
        self.mirror("debian")

    def write(self, file: str, text: str | bytes) -> Path:
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def site(self, name: str, more: str = "", peer: str = "") -> Path:
        data, state = self.root / "run" / name / "data", self.root / "run" / name / "state"
        return self.write(
            f"sites/{name}.toml", f'name = "{name}"\ndata = "{data}"\nstate = "{state}"\n{more}\n{peer}'
        )

    def mirror(self, name: str, inside: str = "", path: str = "", origin: str | None = None) -> Path:
        """Line 1 is `<mirror>`, 2 the path, 3 the origin; `inside` begins on line 4."""
        origin = '<origin url="https://ftp.example.org/x/"/>' if origin is None else origin
        text = f'<mirror name="{name}">\n<path>{path or "/" + name}</path>\n{origin}\n{inside}\n</mirror>\n'
        return self.write(f"config/mirrors/{name}.xml", text)

    def load(self, site: str | None = None):
        return load(str(self.root), site)

    def errors(self, site: str | None = None) -> list[str]:
        with pytest.raises(ConfigErrors) as caught:
            self.load(site)
        lines = str(caught.value).split("\n")
        assert len(lines) == len(caught.value.errors)
        assert all(line.isprintable() and len(line) < 400 for line in lines)
        return lines


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)

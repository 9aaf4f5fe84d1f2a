"""An origin that changes by chance that can be repeated, and a ledger that knows of each version before the
origin shows it."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path

from tests.invariants import Ledger

SIZES = (0, 10, 500, 3_000, 3_000, 40_000, 300_000)
# Names that have broken programs: percent signs, separators of URLs, bytes that are not UTF-8, markup.
NAMES = (
    b"plain", b"with space", b"a%20b", b"%2e%2e", b"a#b", b"a?b=c&d", b"caf\xe9", b"caf\xc3\xa9", b"<b>&amp;",
    b"quote\"s'", b"semi;colon", b"back\\slash", b"-dash", b"~tilde", b"a..b", b"end.", b"a:b", b"+plus",
    b"index.htm", b"x" * 120, b"[bracket]", b"tab\there",
)  # fmt: skip
MOST = 400  # files: beyond that they are removed as often as made


class Changing:
    """A tree in `folder`/origin. `large` is how many bytes a large file has at least."""

    def __init__(self, folder: Path, ledger: Ledger, chance: random.Random, *, large: int) -> None:
        self.root, self._aside = os.fsencode(folder / "origin"), os.fsencode(folder / "aside")
        os.mkdir(self.root)
        os.mkdir(self._aside)
        self.ledger, self.chance, self.large = ledger, chance, large
        self._count = 0
        self.files: dict[bytes, int] = {}  # path: size
        self.folders: set[bytes] = set()

    # -- what can happen

    def step(self) -> str:
        """One change, told in words."""
        kinds = (
            (self.add, 8), (self.overwrite, 6), (self.same_size, 3), (self.remove, 4), (self.rename, 3),
            (self.rename_folder, 1), (self.remove_folder, 1), (self.becomes_folder, 1),
            (self.becomes_file, 1), (self.many, 2), (self.add_large, 1), (self.overwrite_large, 1),
        )  # fmt: skip
        acts, weights = zip(*kinds, strict=True)
        if len(self.files) > MOST:
            acts, weights = (*acts, self.remove_folder), (*weights, 10)
        told = None
        while told is None:
            told = self.chance.choices(acts, weights)[0]()
        return told

    def add(self) -> str | None:
        path = self._new_path()
        if path is None:
            return None
        self._put(path, self._body())
        return f"add {path!r}, {self.files[path]} bytes"

    def many(self) -> str | None:
        """A release: a folder of small files."""
        folder = self._new_folder()
        for i in range(self.chance.randrange(5, 60)):
            self._put(folder + b"/%03d" % i, self._body(small=True))
        return f"add folder {folder!r}"

    def overwrite(self) -> str | None:
        path = self._any()
        if path is None:
            return None
        self._put(path, self._body())
        return f"overwrite {path!r}, {self.files[path]} bytes"

    def same_size(self) -> str | None:
        """Only its time tells that it is another version."""
        path = self._any()
        if path is None or self.files[path] > 2**20:
            return None
        self._put(path, self.chance.randbytes(self.files[path]))
        return f"overwrite {path!r} by as many bytes"

    def remove(self) -> str | None:
        path = self._any()
        if path is None:
            return None
        self._lacks(path)
        del self.files[path]
        os.unlink(self._place(path))
        return f"remove {path!r}"

    def rename(self) -> str | None:
        old, new = self._any(), self._new_path()
        if old is None or new is None:
            return None
        self._move(old, new)
        return f"rename {old!r} to {new!r}"

    def rename_folder(self) -> str | None:
        old = self._any_folder()
        if old is None:
            return None
        new = self._new_folder(make=False)
        if new.startswith(old + b"/"):
            return None
        for path in self._below(old):
            self._known(new + path[len(old) :], self.ledger.versions[path])
            self._lacks(path)
            self.files[new + path[len(old) :]] = self.files.pop(path)
        for path in [f for f in self.folders if f == old or f.startswith(old + b"/")]:
            self._gone_folder(path)
            self._new_known_folder(new + path[len(old) :])
        os.rename(self._place(old), self._place(new))
        return f"rename folder {old!r} to {new!r}"

    def remove_folder(self) -> str | None:
        path = self._any_folder()
        if path is None:
            return None
        self._drop_folder(path)
        shutil.rmtree(self._place(path))
        return f"remove folder {path!r}"

    def becomes_folder(self) -> str | None:
        path = self._any()
        if path is None:
            return None
        self._lacks(path)
        del self.files[path]
        new = os.path.join(self._aside, b"folder")
        os.mkdir(new)
        body = self._body(small=True)
        self._known(path + b"/inside", {hashlib.sha256(body).hexdigest()})
        self.files[path + b"/inside"] = len(body)
        self._new_known_folder(path)
        with open(os.path.join(new, b"inside"), "wb") as file:
            file.write(body)
        os.unlink(self._place(path))
        os.rename(new, self._place(path))
        return f"{path!r} becomes a folder"

    def becomes_file(self) -> str | None:
        path = self._any_folder()
        if path is None:
            return None
        self._drop_folder(path)
        shutil.rmtree(self._place(path))
        self._put(path, self._body())
        return f"folder {path!r} becomes a file"

    def add_large(self) -> str | None:
        path = self._new_path()
        if path is None or self._larges() >= 3 or self._spared():
            return None
        self._put_large(path)
        return f"add {path!r}, {self.files[path]} bytes"

    def overwrite_large(self) -> str | None:
        path = next((p for p, size in self.files.items() if size >= self.large), None)
        if path is None or self._spared():
            return None
        self._put_large(path)
        return f"overwrite {path!r}, {self.files[path]} bytes"

    # -- how

    def _spared(self) -> bool:
        """What is really large is rare: every site takes all of it."""
        return self.large > 64 * 2**20 and self.chance.random() < 0.8

    def _larges(self) -> int:
        return sum(size >= self.large for size in self.files.values())

    def _body(self, *, small: bool = False) -> bytes:
        size = self.chance.choice(SIZES[:4] if small else SIZES)
        return self.chance.randbytes(self.chance.randrange(size + 1))

    def _put(self, path: bytes, body: bytes) -> None:
        self._known(path, {hashlib.sha256(body).hexdigest()})
        self.files[path] = len(body)
        new = os.path.join(self._aside, b"file")
        with open(new, "wb") as file:
            file.write(body)
        self._dated(new)
        os.rename(new, self._place(path))

    def _dated(self, new: bytes) -> None:
        """Most files are older than their publication, each by another minute (listings tell no more). What
        is read in the very second of its time proves nothing: it is fetched again."""
        if self.chance.random() < 0.9:
            when = 1_600_000_000 + 60 * self._count
            os.utime(new, (when, when))

    def _put_large(self, path: bytes) -> None:
        """Mostly a hole, so that it costs little disk; no two blocks of it are equal."""
        size = self.large + self.chance.randrange(self.large // 4)
        new = os.path.join(self._aside, b"file")
        with open(new, "wb") as file:
            file.truncate(size)
            for at in range(0, size, max(1, self.large // 256)):
                file.seek(at)
                file.write(self.chance.randbytes(min(64, size - at)))
        with open(new, "rb") as file:
            self._known(path, {hashlib.file_digest(file, "sha256").hexdigest()})
        self.files[path] = size
        self._dated(new)
        os.rename(new, self._place(path))

    def _move(self, old: bytes, new: bytes) -> None:
        self._known(new, self.ledger.versions[old])
        self._lacks(old)
        self.files[new] = self.files.pop(old)
        os.rename(self._place(old), self._place(new))

    def _known(self, path: bytes, digests: set[str]) -> None:
        self._count += 1
        self.ledger.versions.setdefault(path, set()).update(digests)

    def _lacks(self, path: bytes) -> None:
        self.ledger.lacked.add(path)

    def _new_known_folder(self, path: bytes) -> None:
        self.folders.add(path)
        self.ledger.folders.add(path)

    def _gone_folder(self, path: bytes) -> None:
        self.folders.discard(path)
        self.ledger.lacked |= {path, path + b"/"}

    def _drop_folder(self, path: bytes) -> None:
        for below in self._below(path):
            self._lacks(below)
            del self.files[below]
        for folder in [f for f in self.folders if f == path or f.startswith(path + b"/")]:
            self._gone_folder(folder)

    def _place(self, path: bytes) -> bytes:
        return os.path.join(self.root, path)

    def _below(self, folder: bytes) -> list[bytes]:
        return [path for path in self.files if path.startswith(folder + b"/")]

    def _any(self) -> bytes | None:
        return self.chance.choice(sorted(self.files)) if self.files else None

    def _any_folder(self) -> bytes | None:
        return self.chance.choice(sorted(self.folders)) if self.folders else None

    def _new_folder(self, *, make: bool = True) -> bytes:
        above = [f for f in self._folders_or_top() if f.count(b"/") < 4]
        name = b"%s-%d" % (self.chance.choice(NAMES), self._count)
        self._count += 1
        path = os.path.join(self.chance.choice(above), name)
        if make:
            self._new_known_folder(path)
            os.mkdir(self._place(path))
        return path

    def _new_path(self) -> bytes | None:
        folder = (
            self._new_folder() if self.chance.random() < 0.1 else self.chance.choice(self._folders_or_top())
        )
        path = os.path.join(folder, self.chance.choice(NAMES) + b"%d" % self.chance.randrange(40))
        return None if path in self.files or path in self.folders else path

    def _folders_or_top(self) -> list[bytes]:
        return [b"", *sorted(self.folders)]

"""Files as they come: bounded, UTF-8, with the place that every value and every error belongs to."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cluster.config.units import quoted
from cluster.errors import ConfigError

MAX_FILE = 2**20  # HAZARDS section 5: the largest descriptor seen is a hundredth of it


@dataclass(frozen=True, slots=True)
class Where:
    """A line of a file, its name relative to the configuration folder."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else "built in"


BUILT_IN = Where("", 0)


@dataclass(frozen=True, slots=True)
class Raw:
    """The text of one setting. `label` is how messages name it: `<limits connections>`, `peer.url`."""

    text: str
    where: Where
    label: str


@dataclass(frozen=True, slots=True)
class Item:
    """One of several: `<hours .../>` or a table of a TOML array. `kind` is the element's name."""

    kind: str
    fields: dict[str, Raw]
    where: Where
    label: str
    words: tuple[Raw, ...] = ()  # `<arg>` of a hook


@dataclass(slots=True)
class Many:
    """A setting that is said several times, or said to be empty."""

    where: Where
    label: str
    items: list[Item] = field(default_factory=list)


Layer = dict[str, Raw | Many]  # what one file says of a mirror, by key: `limits.connections`


@dataclass(slots=True)
class Problems:
    """Collects every error of every file, so that an operator mends them in one go."""

    errors: list[ConfigError] = field(default_factory=list)

    def add(self, where: Where, label: str, message: str) -> None:
        self.errors.append(ConfigError(where.file, where.line, f"{label}: {message}" if label else message))

    @contextmanager
    def noting(self, raw: Raw | Item) -> Iterator[None]:
        """A ValueError inside becomes an error of this setting."""
        try:
            yield
        except ValueError as error:
            self.add(raw.where, raw.label, str(error))

    def ordered(self) -> list[ConfigError]:
        unique = {str(error): error for error in self.errors}
        return sorted(unique.values(), key=lambda e: (e.file, e.line, e.message))


def read_text(root: str, file: str, problems: Problems) -> str | None:
    """A configuration file as text, or None with an error noted: absent, too large, not UTF-8, NUL in it."""
    try:
        # O_NONBLOCK: a FIFO of that name must not hang `check`.
        with open(
            os.open(os.path.join(root, file), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb"
        ) as stream:
            content = stream.read(MAX_FILE + 1)
    except OSError as error:
        problems.add(Where(file, 1), "", f"cannot be read: {(error.strerror or str(error)).lower()}")
        return None
    if len(content) > MAX_FILE:
        problems.add(Where(file, 1), "", "larger than 1 MiB, which no such file is")
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.add(
            Where(file, line), "", f"not UTF-8: byte 0x{content[error.start]:02x}; save the file as UTF-8"
        )
        return None
    if "\0" in text:
        problems.add(Where(file, text.count("\n", 0, text.index("\0")) + 1), "", "a NUL byte is in this file")
        return None
    return text


def stems(root: str, folder: str, suffix: str) -> list[str]:
    """The names of `folder/NAME.suffix`, sorted; editors' backups and hidden files are none."""
    try:
        names = os.listdir(os.path.join(root, folder))
    except OSError:
        return []
    return sorted(n.removesuffix(suffix) for n in names if n.endswith(suffix) and not n.startswith("."))


def suggestion(word: str, known: Iterable[str], form: str = "{}") -> str:
    """`; did you mean ...?` for a slip, else which words there are."""
    names = sorted(known)
    near = difflib.get_close_matches(
        word.lower().replace("_", "-"), names, 1, 0.6
    ) or difflib.get_close_matches(word.lower(), names, 1, 0.6)
    if near:
        return f"; did you mean {form.format(near[0])}?"
    return f"; allowed: {', '.join(form.format(n) for n in names)}" if names else "; nothing is allowed here"


def shown_name(text: str) -> str:
    """A name out of a file in a label: as it is where it is plain, else quoted and clipped."""
    plain = (
        text.isascii()
        and text.replace("-", "").replace("_", "").replace(".", "").isalnum()
        and len(text) <= 60
    )
    return text if plain else quoted(text)

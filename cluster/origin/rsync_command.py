"""How the rsync program is told what to reach, from what an operator wrote.

No name from outside is ever an argument: names go to its standard input, each ended by NUL, where it neither
takes them for options nor expands them. A password is in the environment of the child alone (HAZARDS 142).
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import stat
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes, urlsplit

from cluster.errors import OriginError, Refused, Unreachable, UsageError
from cluster.model import Limits, OriginSpec, href, value
from cluster.origin.http_guard import FAMILIES, Guard, SystemResolver
from cluster.origin.rsync_child import started

FLOOR = (3, 4, 3)  # HAZARDS 97: older ones let a hostile server write where it likes
CONNECT = 15.0  # s
DAEMON, TLS_DAEMON = 873, 874  # ports
SCHEMES = ("rsync", "rsyncs", "rsync+ssh")

_VERSION = re.compile(rb"rsync +version v?(\d+)\.(\d+)\.(\d+)")
# A name from standard input, ended by NUL, is neither an option nor a pattern.
BY_NAME = ("--files-from=-", "--from0", "--relative", "--no-implied-dirs", "--no-human-readable")
NOBODY = "/proc/self/nobody"  # what a child that only asks compares with: nothing is there, ever

_WORD = re.compile(r"[A-Za-z0-9_./+@~,:=\[\]-]+", re.ASCII)


@value
class Reach:
    """How to call the program for one origin: `program` and what belongs to the connection, then whatever is
    asked, then `source`, with a slash at its end. `more` is for the environment."""

    program: tuple[str, ...]
    source: str
    more: dict[str, str]


def names(base: bytes, paths: Iterable[bytes]) -> bytes:
    """What a child is given to be asked for these paths `BY_NAME`, below `base` at the source. Of one that
    ends in a slash it is what is in it; so it is of the root, `b""`, which may be a link: it was named.
    """
    root = base + b"/./" if base else b"./"  # what is behind it is what is printed
    return b"".join(b"%s%s\0" % (root, path) for path in paths)


class Access:
    """One origin as rsync reaches it. `base` is where below the source, the module of a daemon, the mirror's
    root is. It is asked for by name: given a path below a module, a daemon of rsync 3.5.0 without chroot
    looks for the names of a list there, and then opens the files of these names in the module's root.
    """

    def __init__(self, spec: OriginSpec, limits: Limits) -> None:
        parts = urlsplit(spec.url)
        self._spec, self._limits = spec, limits
        self._scheme, self._host = parts.scheme, parts.hostname or ""
        self._user = parts.username
        default = {"rsync": DAEMON, "rsyncs": TLS_DAEMON}.get(parts.scheme)
        self._port = parts.port or default
        path = unquote_to_bytes(parts.path).strip(b"/")
        if parts.scheme == "rsync+ssh":
            root, self.base = path, b""
        else:
            root, _, self.base = path.partition(b"/")
        self._root = os.fsdecode(root)
        if not self._host or (parts.scheme != "rsync+ssh" and not path):
            raise UsageError(f"{spec.url}: names no module; write rsync://host/module/path/")
        netloc = parts.netloc.rpartition("@")[2]
        shown = f"{parts.scheme}://{netloc}{parts.path}"
        self.url = shown if shown.endswith("/") else shown + "/"
        self._reach: Reach | None = None

    @property
    def silence(self) -> float:
        """Seconds after which a silent child is given up: the program itself has noticed before."""
        return 2 * self._limits.timeout + CONNECT

    async def reach(self, path: bytes) -> Reach:
        """How to call the program, with the address that the host's name leads to now. Raises Refused where
        this site's own files or programs cannot be used or the address is forbidden, and Unreachable. Errors
        speak of `path`."""
        shown = href(path)
        await _require(shown)
        address = await self._address(shown)
        common = [
            "rsync",
            "--no-motd",
            f"--timeout={max(1, round(self._limits.timeout))}",
        ]
        if self._scheme == "rsync+ssh":
            return self._by_ssh(common, address, shown)
        user, more = self._credentials(shown)
        if self._spec.bind:
            common.append(f"--address={self._spec.bind}")
        host = address
        if self._scheme == "rsyncs":
            common.append("--rsh=rsync-ssl --HELPER")
            more |= self._by_tls(shown)
            host = self._host
        else:
            common.append(f"--contimeout={CONNECT:.0f}")
        if self._spec.proxy:
            more["RSYNC_PROXY"] = urlsplit(self._spec.proxy).netloc
        at = f"{user}@" if user else ""
        where = f"[{host}]" if ":" in host else host
        return Reach(tuple(common), f"rsync://{at}{where}:{self._port}/{self._root}/", more)

    async def _address(self, shown: str) -> str:
        """Where to connect: an address that may be reached, or the name where somebody else resolves it."""
        from yarl import URL

        spec = self._spec
        guard = Guard(spec, URL.build(scheme="rsync", host=self._host, port=self._port))
        if spec.proxy:
            return self._host
        try:
            async with asyncio.timeout(CONNECT):
                found = await SystemResolver().resolve(self._host, self._port or 0, FAMILIES[spec.family])
            kept = guard.permitted(self._host, found)
        except TimeoutError:
            raise Unreachable(shown, "no answer from the name servers") from None
        except OSError as error:
            forbidden = type(error).__name__ == "ForbiddenAddress"
            raise (Refused if forbidden else Unreachable)(shown, error.strerror or str(error)) from None
        return str(kept[0]["host"]) if kept else self._host

    def _by_ssh(self, common: list[str], address: str, shown: str) -> Reach:
        """The key of the host is checked under its name, whatever its address. `credentials` is the private
        key of ours, `ca` the known hosts."""
        spec = self._spec
        if _program("ssh") is None:
            raise Refused(shown, "ssh is not installed here")
        options = ["BatchMode=yes", "StrictHostKeyChecking=yes", f"ConnectTimeout={CONNECT:.0f}",
                   f"HostKeyAlias={self._alias()}", "ClearAllForwardings=yes",
                   f"ServerAliveInterval={max(1, round(self._limits.timeout / 3))}"]  # fmt: skip
        if spec.credentials:
            _secret(spec.credentials, shown)
            options += ["IdentitiesOnly=yes", f"IdentityFile={spec.credentials}"]
        if spec.ca:
            options.append(f"UserKnownHostsFile={spec.ca}")
        if spec.bind:
            options.append(f"BindAddress={spec.bind}")
        if self._port:
            options.append(f"Port={self._port}")
        for option in options:
            if not _WORD.fullmatch(option):
                raise Refused(shown, f"{option}: cannot be given to ssh; its path must be without spaces")
        shell = " ".join(["ssh", *(f"-o{option}" for option in options)])
        at = f"{self._user}@" if self._user else ""
        where = f"[{address}]" if ":" in address else address
        root = f"/{self._root}/" if self._root else "/"
        return Reach((*common, "--secluded-args", f"--rsh={shell}"), f"{at}{where}:{root}", {})

    def _alias(self) -> str:
        """As ssh writes a host in its known hosts."""
        return f"[{self._host}]:{self._port}" if self._port not in (None, 22) else self._host

    def _by_tls(self, shown: str) -> dict[str, str]:
        """For the script that comes with rsync: openssl verifies the certificate and its name."""
        openssl = _program("openssl")
        if openssl is None or _program("rsync-ssl") is None:
            raise Refused(
                shown, "rsync over TLS needs rsync-ssl and openssl, which are not both installed here"
            )
        more = {"RSYNC_SSL_TYPE": "openssl", "RSYNC_SSL_OPENSSL": openssl}
        if self._spec.ca:
            if not _WORD.fullmatch(self._spec.ca):
                raise Refused(shown, f"{self._spec.ca}: rsync-ssl needs a path without spaces")
            more["RSYNC_SSL_CA_CERT"] = self._spec.ca
        return more

    def _credentials(self, shown: str) -> tuple[str | None, dict[str, str]]:
        """The user for a daemon, and the password in the environment. Raises Refused."""
        file = self._spec.credentials
        if file is None:
            return self._user, {}
        lines = [line for line in _secret(file, shown).splitlines() if line.strip()]
        user, colon, password = (lines[0] if len(lines) == 1 else "").strip().partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z0-9._+-]+", user):
            raise Refused(shown, f"{file}: must have one line, user:password")
        return user, {"RSYNC_PASSWORD": password}


def _secret(file: str, shown: str) -> str:
    """A file that only its owner may read. Raises Refused."""
    try:
        with open(file, encoding="utf-8") as text:
            if stat.S_IMODE(os.fstat(text.fileno()).st_mode) & 0o077:
                raise Refused(shown, f"{file}: open to others, must have mode 0600")
            return text.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Refused(shown, f"{file}: {reason}") from None


def _program(name: str) -> str | None:
    return shutil.which(name)


_found: dict[tuple[str, float], tuple[int, ...]] = {}  # by file and its time: an upgrade is noticed


async def _require(shown: str) -> None:
    """Raises Refused where the program is missing or older than `FLOOR`."""
    program = _program("rsync")
    if program is None:
        raise Refused(shown, "rsync is not installed here")
    key = (program, os.stat(program).st_mtime)
    if key not in _found:
        _found[key] = await _version(program, shown)
    version = _found[key]
    if version < FLOOR:
        known = ".".join(map(str, version)) or "of unknown version"
        floor = ".".join(map(str, FLOOR))
        raise Refused(shown, f"rsync {known}: older than {floor}, and not safe against hostile servers")


async def _version(program: str, shown: str) -> tuple[int, ...]:
    try:
        async with started((program, "--version"), shown=shown, silence=CONNECT) as child:
            said = b"".join([chunk async for chunk in child.output()])
            await child.ended()
    except OriginError:
        return ()
    match = _VERSION.search(said)
    return tuple(int(part) for part in match.groups()) if match else ()

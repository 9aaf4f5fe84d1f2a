"""Every error of the package, on one screen.

They differ by what the caller does about them, not by where they were raised. Each names the
object first and carries its facts as attributes. Nothing here is raised for a bug.
"""

from __future__ import annotations


class SidewaysError(Exception):
    """Whatever can go wrong outside this program."""


# -- what an operator wrote ------------------------------------------------------------------


class UsageError(SidewaysError):
    """A command that cannot be carried out as it was given. Exit status 2."""


class ConfigError(SidewaysError):
    """A file of `config/` or `sites/` is not usable: `FILE:LINE: element: what is wrong`. Exit status 2."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{file}:{line}: {message}")
        self.file, self.line, self.message = file, line, message


class ConfigErrors(SidewaysError):
    """All errors of all files at once, in the order of file and line."""

    def __init__(self, errors: list[ConfigError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors


# -- what an origin did ----------------------------------------------------------------------


class OriginError(SidewaysError):
    """The origin did not deliver. `path` is what was asked for, percent-encoded for people.

    `permanent` says that asking again now cannot help; `retry_after` (seconds) is the origin's
    own word on when it may.
    """

    permanent = False

    def __init__(self, path: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{path or '/'}: {message}")
        self.path, self.message, self.retry_after = path, message, retry_after


class Unreachable(OriginError):
    """No connection, no answer in time, a connection that broke, or a server error: worth a retry."""


class Refused(OriginError):
    """Asked for and refused (401, 403, a redirect that our rules forbid, a bad certificate)."""

    permanent = True


class Vanished(OriginError):
    """The origin says that there is no such name (404, 410, ENOENT)."""

    permanent = True


class Changed(OriginError):
    """What arrives is not the version that was listed: size, validator or range differ. List again."""

    permanent = True


class NotAListing(OriginError):
    """A complete answer that is not a directory listing in a format we know. Proves nothing."""

    permanent = True


class IncompleteListing(OriginError):
    """A listing without its end. Proves nothing."""


class TooLarge(OriginError):
    """A listing or body beyond its limit (HAZARDS section 5)."""

    permanent = True


class SourceMissing(OriginError):
    """A local source is not there or not mounted: its marker is missing. Nothing of it is believed."""

    permanent = True


# -- what a sibling did ----------------------------------------------------------------------


MAX_TOLD = 300  # characters of what a sibling is quoted with: it ends up in one line of the log


class PeerError(SidewaysError):
    """A sibling is of no use for this: the origin is asked instead. `site` names it. What the message quotes
    may be the sibling's own words: it is one line, and not a long one."""

    def __init__(self, site: str, message: str) -> None:
        message = " ".join(message[: 4 * MAX_TOLD].split())
        message = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        message = message if len(message) <= MAX_TOLD else message[:MAX_TOLD] + " ..."
        super().__init__(f"{site}: {message}")
        self.site, self.message = site, message


class PeerSilent(PeerError):
    """It did not answer, or not in time. Counts against it."""


class PeerLacks(PeerError):
    """It answered that it does not hold this. Says nothing about its health."""


class PeerBroke(PeerError):
    """It broke the rules of the protocol, or its bytes are not what it promised. Counts against it."""


# -- what a repository says ------------------------------------------------------------------


class RepositoryError(SidewaysError):
    """A root or index of a repository, `path`, is of no use: the state that it describes is not published."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path or '/'}: {message}")
        self.path, self.message = path, message


class Malformed(RepositoryError):
    """Not in its format, cut off, or it names what no repository can hold."""


class TooMuch(RepositoryError):
    """Beyond a limit: unpacks to far more than it is, or has records that no index has."""


class Contradicted(RepositoryError):
    """One path is named with two different contents."""


class BadSignature(RepositoryError):
    """Not signed by a key of the keyring, or not what was signed."""


class Unverifiable(RepositoryError):
    """This machine cannot check the signature: the program or the keyring is missing or of no use."""


# -- what this machine did -------------------------------------------------------------------


class StoreError(SidewaysError):
    """This site's own disk or records are not as they must be; the mirror stops, nothing is lost."""


class NoRecords(StoreError):
    """No pass over this mirror has begun here."""

    def __init__(self, mirror: str) -> None:
        super().__init__(f"{mirror}: no records yet")


class HookFailed(SidewaysError):
    """A command that runs before each pass did not succeed: the pass was not begun."""

    def __init__(self, mirror: str) -> None:
        super().__init__(f"{mirror}: its `before` hook failed, so no pass was begun; the log says why")


class Locked(StoreError):
    """Somebody else works on this mirror. `holder` says who."""

    def __init__(self, mirror: str, holder: str) -> None:
        super().__init__(f"{mirror}: in use by {holder}")
        self.mirror, self.holder = mirror, holder


class DataMissing(StoreError):
    """The data folder lacks this site's marker: it is not mounted, or belongs to somebody else."""


class DiskFull(StoreError):
    """No space, no inodes or no quota left (ENOSPC, EDQUOT), or the reserve would be used up."""


class Blocked(StoreError):
    """Something that we did not put there stands at a public name. It is left alone."""


class UnsafeName(SidewaysError):
    """A name from outside is not one plain path component."""

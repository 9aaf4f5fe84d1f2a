"""What may stand in a descriptor or a site file, by what is allowed (HAZARDS 137).

Values from here reach file names, web pages and the configurations of four servers. Whatever could end a
quoted string, begin a directive or a variable there is refused in names, paths, hosts and addresses; free
text is a line of letters, digits and harmless punctuation. Every function takes the text of one setting and
raises ValueError with one sentence: what is wrong, what is allowed. No message repeats a password.
"""

from __future__ import annotations

import re
import shlex
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from cluster.config.units import quoted
from cluster.errors import UnsafeName
from cluster.model import checked_path
from cluster.plan.pattern import Expression, Pattern, variables

RSYNC = ("rsync", "rsyncs", "rsync+ssh")  # from a daemon, from one behind TLS, by ssh
LISTED = ("ls-lR", "fullfiletimelist")  # lists of everything that are published
READABLE = ("http", "https", "ftp", "ftps", "file", *RSYNC)  # origins that are read
MAX_TEXT = 4000

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@~-]{0,254}", re.ASCII)
_PUNCTUATION = frozenset(" .,:!?'()/+&@_-*–—‘’“”…·©®°")
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*", re.ASCII | re.IGNORECASE)
_MAIL = re.compile(r"[A-Za-z0-9._+-]{1,64}@([A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}", re.ASCII)
_URL_PATH = re.compile(r"(?:[A-Za-z0-9._~!&()*+,=:@/-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_AGENT = re.compile(r"[A-Za-z0-9._/+():, @-]{1,200}", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,40}(/[A-Za-z0-9_+-]{1,40}){0,2}", re.ASCII)
_LIST = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9._+~:@-]{1,100}", re.ASCII)
_LOGIN = re.compile(r"(?<=://)[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}@", re.ASCII)
_FILE = re.compile(r"[A-Za-z0-9_./+@~, -]{1,1024}", re.ASCII)


def name(text: str) -> str:
    """A mirror's, a site's or the cluster's name."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not a name; it has a-z 0-9 . _ -, the first a letter or digit, at most 63"
        )
    return text


def line(text: str) -> str:
    """Free text for people: title, description, reason."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"{len(text)} characters; at most {MAX_TEXT} are allowed")
    for c in text:
        if not (c.isalnum() or c in _PUNCTUATION or (c.isprintable() and _combining(c))):
            raise ValueError(
                f"{quoted(c)} (U+{ord(c):04X}) is not allowed in text; letters, digits, spaces "
                "and . , : ! ? ' ( ) / + & @ _ - * are"
            )
    return text


def _combining(c: str) -> bool:
    import unicodedata  # only for scripts that write marks over letters

    return unicodedata.category(c).startswith("M")


def category(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a category; allowed are a-z 0-9 . _ -")
    return text


def public_path(text: str) -> str:
    """Where a mirror lies below DATA and in public URLs: `/debian`, `/pub/debian`."""
    if not text.startswith("/") or text == "/":
        raise ValueError(
            f"{quoted(text)} is not a public path; it begins with / and has a name, as in /debian"
        )
    for component in text[1:].split("/"):
        if component == ".sideways" or not _COMPONENT.fullmatch(component):
            raise ValueError(
                f"{quoted(text)} is not a public path: {quoted(component)} is not allowed in it; a component "
                "has letters, digits and . _ + @ ~ -, the first a letter, a digit or _"
            )
    return text


def relative_path(text: str) -> bytes:
    """A path below the origin's root."""
    try:
        path = checked_path(text.encode())
    except UnsafeName:
        path = b""
    if not path or not text.isprintable():
        raise ValueError(
            f"{quoted(text)} is not a path below the origin; write it without a slash at its ends"
        )
    return path


def index(text: str) -> str:
    """The path of a list of the whole tree at its origin, or `auto`."""
    return text if text == "auto" else relative_path(text).decode()


def lists(text: str) -> tuple[str, ...]:
    """Kinds of lists that a mirror publishes."""
    found = tuple(dict.fromkeys(text.split()))
    if not found:
        raise ValueError(f"is empty; write one or more of {', '.join(LISTED)}")
    for word in found:
        if word not in LISTED:
            raise ValueError(f"{quoted(word)} is not one of {', '.join(LISTED)}")
    return found


def pattern(text: str) -> str:
    """A glob over paths from the mirror's root (`cluster.plan.pattern`), without lists."""
    return _checked_pattern(text, {})


def rule_pattern(text: str) -> str:
    """The same for a rule: lists may be named that are defined elsewhere."""
    return _checked_pattern(text, {name: ("x",) for _, name in variables(text)})


def _checked_pattern(text: str, lists: dict[str, tuple[str, ...]]) -> str:
    if not text.isprintable():
        raise ValueError(f"{quoted(text)} is not a pattern: control characters are not allowed")
    if any(part in (".", "..") for part in text.split("/")) or "//" in text:
        raise ValueError(f"{quoted(text)} is not a pattern: '.', '..' and '//' match nothing of an origin")
    try:
        Pattern.compile(text, lists)
    except ValueError as error:
        raise ValueError(f"not a pattern: {error}") from None
    return text


def regex(text: str) -> str:
    """A regular expression of RE2, searched for in paths from the mirror's root; it may name lists."""
    if not text or not text.isprintable():
        raise ValueError(f"{quoted(text)} is not a regular expression: write characters that can be seen")
    Expression.compile(text, {name: ("x",) for _, name in variables(text)})
    return text


def several(text: str) -> list[str]:
    """Words between spaces, one at least. Other white space is part of a word, and no word may have it."""
    out = [word for word in text.split(" ") if word]
    if not out:
        raise ValueError("is empty; a list has at least one value")
    return out


def values(text: str) -> tuple[str, ...]:
    """The values of a list, separated by spaces."""
    out = tuple(dict.fromkeys(several(text)))
    for each in out:
        if not _VALUE.fullmatch(each):
            raise ValueError(f"{quoted(each)} is not a value; allowed are letters, digits and . _ + ~ : @ -")
    return out


def list_name(text: str) -> str:
    """What `${name}` may call a list."""
    if not _LIST.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not the name of a list; it has a-z 0-9 _ -, the first a letter, at most 32"
        )
    return text


def contact(text: str) -> str:
    """An e-mail address or a page."""
    if _MAIL.fullmatch(text):
        return text
    if "://" in text:
        return web_url(text)
    raise ValueError(f"{quoted(text)} is not a contact; write an e-mail address or an https URL")


def web_url(text: str) -> str:
    """A page for people, or a site's public address: http or https."""
    _split(text, ("http", "https"))
    return text


def base_url(text: str) -> str:
    """A public address that paths are added to: no slash at its end."""
    return web_url(text).rstrip("/")


def peer_url(text: str) -> str:
    """Where siblings reach a site: https, a host and perhaps a port, nothing after it."""
    if _split(text, ("https",)).path not in ("", "/"):
        raise ValueError(f"{quoted(text)}: siblings are reached at a host and a port; leave out the path")
    return text.rstrip("/")


def proxy_url(text: str) -> str:
    if _split(text, ("http", "https")).path not in ("", "/"):
        raise ValueError(f"{quoted(text)} is not a proxy; write http://proxy.example:3128")
    return text.rstrip("/")


def origin_url(text: str) -> str:
    """An origin's root directory, with a slash at its end. `file` URLs name a folder of this machine."""
    scheme = text.partition(":")[0].lower()
    parts = _split(_LOGIN.sub("", text, count=1) if scheme in RSYNC else text, READABLE)
    if parts.scheme in RSYNC:
        _rsync_path(text, parts)
    if parts.scheme == "file":
        folder = unquote_to_bytes(parts.path)
        if parts.netloc not in ("", "localhost") or not folder.startswith(b"/") or b"\0" in folder:
            raise ValueError(f"{quoted(text)} is not a folder of this machine; write file:///path/of/folder")
    path = unquote_to_bytes(parts.path)
    if parts.scheme in ("ftp", "ftps") and any(end in path for end in (b"\r", b"\n", b"\0")):
        raise ValueError(f"{_safe(text)}: no FTP command can hold a line end or %00")
    if b".." in path.split(b"/"):
        raise ValueError(f"{quoted(text)}: '..' is not allowed in an origin")
    return text if text.endswith("/") else text + "/"


def _rsync_path(text: str, parts: SplitResult) -> None:
    """What a daemon takes for a pattern cannot be in the path; the first part of it names the module."""
    path = unquote_to_bytes(parts.path)
    if any(special in path for special in (b"*", b"?", b"[", b"\\", b"\n", b"\r", b"\0")) or b"//" in path:
        raise ValueError(f"{_safe(text)}: '*', '?', '[', backslashes and '//' are not allowed in this path")
    if parts.scheme != "rsync+ssh" and not path.strip(b"/"):
        raise ValueError(f"{_safe(text)}: names no module; write {parts.scheme}://host/module/path/")


def _split(text: str, schemes: tuple[str, ...]) -> SplitResult:
    """A URL in parts, if it has one of these schemes, a host, no user, no query and only plain characters."""
    wanted = " or ".join(f"{scheme}://{'' if scheme == 'file' else 'host'}/path" for scheme in schemes)
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(
            f"{_safe(text)} is not a URL: only plain ASCII is allowed; write anything else as %XX"
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"{_safe(text)} is not a URL; write {wanted}") from None
    if "@" in parts.netloc:
        raise ValueError(
            'a user or password in a URL is not allowed; name a file of mode 0600: credentials="FILE"'
        )
    if parts.scheme not in schemes or "://" not in text:
        raise ValueError(f"{_safe(text)} is not a URL that can be used here; write {wanted}")
    if "?" in text or "#" in text:
        raise ValueError(f"{_safe(text)}: '?' and '#' are not allowed in this URL")
    if parts.scheme != "file" and (
        not _is_host(parts.hostname or "") or port == 0 or parts.netloc.endswith(":")
    ):
        raise ValueError(f"{_safe(text)}: {quoted(parts.netloc)} is not a host; write {wanted}")
    if not _URL_PATH.fullmatch(parts.path):
        raise ValueError(
            f"{_safe(text)}: the path of a URL has letters, digits and . _ ~ ! & ( ) * + , = : @ / -; "
            "write anything else as %XX"
        )
    return parts


def _safe(text: str) -> str:
    """A URL in a message, without what may be a secret: user, password, query (HAZARDS 142)."""
    bare = text.partition("?")[0].partition("#")[0]
    before, at, after = bare.rpartition("@")
    return quoted(f"{before.partition(':')[0]}:...@{after}" if at else bare)


def _is_host(text: str) -> bool:
    return bool(_HOST.fullmatch(text)) if ":" not in text else _is_address(text)


def _is_address(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def listen(text: str) -> str:
    """`host:port` or `[address]:port` that a server listens on."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    plain = (":" in bare) == (bare != host) and _is_host(bare)
    if not plain or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{quoted(text)} is not an address to listen on; write 127.0.0.1:8080 or [::1]:8080")
    return text


def address(text: str) -> str:
    if not _is_address(text):
        raise ValueError(
            f"{quoted(text)} is not an IP address of this machine; write 192.0.2.1 or 2001:db8::1"
        )
    return text


def agent(text: str) -> str:
    if not _AGENT.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not a user agent; allowed are letters, digits and . _ / + ( ) : , @ -"
        )
    return text


def account(text: str) -> str:
    """A user or a group, by name or number."""
    if not _ACCOUNT.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a user or group of this machine")
    return text


def account_at_host(text: str) -> str:
    """Whom ssh is to reach: `user@host` or `user@host:port`, nothing that could be taken for an option."""
    user, at, rest = text.partition("@")
    host, colon, port = rest.partition(":")
    valid = not colon or (re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) and 1 <= int(port) <= 65535)
    if not (at and valid and _ACCOUNT.fullmatch(user) and _HOST.fullmatch(host)):
        raise ValueError(f"{quoted(text)} is not an account; write user@host or user@host:port")
    return text


def command(text: str) -> tuple[str, ...]:
    """A program by its absolute path, and its arguments, split at spaces like a shell would."""
    try:
        arguments = tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"{quoted(text)} is not a command: {error}") from None
    if not arguments or not arguments[0].startswith("/") or not text.isprintable():
        raise ValueError(f"{quoted(text)} is not a command; write /usr/local/bin/program and its arguments")
    return arguments


def file_name(text: str) -> str:
    """A file or folder of this machine."""
    if not _FILE.fullmatch(text) or text != text.strip():
        raise ValueError(
            f"{quoted(text)} is not a path; letters, digits, spaces and . _ / + @ ~ , - are allowed"
        )
    return text


def zone(text: str) -> str:
    """A time zone of the IANA data base."""
    import zoneinfo

    try:
        if _ZONE.fullmatch(text):
            zoneinfo.ZoneInfo(text)
            return text
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
        pass
    raise ValueError(f"{quoted(text)} is not a time zone; write Europe/London or UTC")


def cron(text: str) -> str:
    """Five fields; `H` in a field lets each mirror and site have its own minute."""
    from croniter import croniter

    if not re.fullmatch(r"[A-Za-z0-9*/,#() -]{1,120}", text, re.ASCII) or len(text.split()) != 5:
        raise ValueError(f"{quoted(text)} is not a cron line of five fields; write 'H 4 * * *'")
    try:
        valid = croniter.is_valid(text, hash_id="sideways")
        if valid:
            croniter(text, 0.0, hash_id="sideways").get_next(float)
    except (ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise ValueError(f"{quoted(text)} is not a cron line; write 'H 4 * * *' for once a day after four")
    return text


def modes(text: str) -> tuple[int, int]:
    """Of files and of directories: octal, without set-id bits and without write for others (HAZARDS 26)."""
    if not re.fullmatch(r"0?[0-7]{3} +0?[0-7]{3}", text):
        raise ValueError(f"{quoted(text)} is not a mode for files and one for directories; write 0644 0755")
    files, directories = (int(word, 8) for word in text.split())
    if (files | directories) & 0o002:
        raise ValueError(f"{quoted(text)} lets everybody write; leave that bit out")
    return files, directories


def yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"{quoted(text)} is neither yes nor no")
    return text == "yes"

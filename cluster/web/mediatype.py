"""What kind of thing a file is, by its name alone. Nothing is ever guessed from what is in it."""

from __future__ import annotations

TEXT = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"

# Compressed files are what they are: never a Content-Encoding, which would make clients unpack what they
# asked to store.
_BY_EXTENSION: dict[bytes, str] = {
    b"7z": "application/x-7z-compressed",
    b"apk": "application/vnd.android.package-archive",
    b"avif": "image/avif",
    b"bz2": "application/x-bzip2",
    b"cab": "application/vnd.ms-cab-compressed",
    b"css": "text/css",
    b"csv": "text/csv; charset=utf-8",
    b"ddeb": "application/vnd.debian.binary-package",
    b"deb": "application/vnd.debian.binary-package",
    b"dmg": "application/x-apple-diskimage",
    b"epub": "application/epub+zip",
    b"gif": "image/gif",
    b"gz": "application/gzip",
    b"htm": "text/html",
    b"html": "text/html",
    b"ico": "image/vnd.microsoft.icon",
    b"iso": "application/x-iso9660-image",
    b"jar": "application/java-archive",
    b"jpeg": "image/jpeg",
    b"jpg": "image/jpeg",
    b"js": "text/javascript",
    b"json": "application/json",
    b"lz": "application/x-lzip",
    b"lz4": "application/x-lz4",
    b"lzma": "application/x-lzma",
    b"meta4": "application/metalink4+xml",
    b"metalink": "application/metalink+xml",
    b"mjs": "text/javascript",
    b"mp3": "audio/mpeg",
    b"mp4": "video/mp4",
    b"ogg": "audio/ogg",
    b"otf": "font/otf",
    b"pdf": "application/pdf",
    b"png": "image/png",
    b"ps": "application/postscript",
    b"rar": "application/vnd.rar",
    b"rpm": "application/x-rpm",
    b"rss": "application/rss+xml",
    b"svg": "image/svg+xml",
    b"tar": "application/x-tar",
    b"tbz": "application/x-bzip2",
    b"tgz": "application/gzip",
    b"tiff": "image/tiff",
    b"torrent": "application/x-bittorrent",
    b"ttf": "font/ttf",
    b"txz": "application/x-xz",
    b"udeb": "application/vnd.debian.binary-package",
    b"wasm": "application/wasm",
    b"wav": "audio/wav",
    b"webm": "video/webm",
    b"webp": "image/webp",
    b"whl": "application/zip",
    b"woff": "font/woff",
    b"woff2": "font/woff2",
    b"xhtml": "application/xhtml+xml",
    b"xml": "application/xml",
    b"xz": "application/x-xz",
    b"z": "application/x-compress",
    b"zip": "application/zip",
    b"zst": "application/zstd",
}

_TEXT_EXTENSIONS = frozenset(
    b"asc bib c cc cfg changes cls conf cpp diff dsc dtx h hpp inc ini ins java key lsm list log ltx md md5 "
    b"me md5sum meta mk patch pl pm pod pub py r readme repo rst sh sha1 sha256 sha256sum sha512 sha512sum "
    b"spec sty sum tex text toml treeinfo txt yaml yml".split()
)

_TEXT_NAMES = frozenset(
    b"authors changelog changes checksum contents copying copyright date faq index inrelease install "
    b"lastsync license licence ls-lr makefile manifest md5sums news packages readme release sha1sums "
    b"sha256sums sha512sums sources timestamp todo version".split()
)

_SCRIPTABLE = frozenset({"text/html", "image/svg+xml", "application/xhtml+xml", "application/xml"})


def media_type(name: bytes) -> str:
    """The Content-Type of a file of this name."""
    stem, dot, extension = name.lower().rpartition(b".")
    if dot and stem:
        known = _BY_EXTENSION.get(extension)
        if known is not None:
            return known
        if extension in _TEXT_EXTENSIONS:
            return TEXT
    first = name.lower().split(b".")[0]
    return TEXT if first in _TEXT_NAMES and b"." not in name else BINARY


def may_script(media: str) -> bool:
    """Whether a browser could run scripts in it: such a file is shown in a sandbox (HAZARDS 143)."""
    return media in _SCRIPTABLE

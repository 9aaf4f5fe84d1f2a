"""A site's key and certificate: made once, checked whenever they are loaded (HAZARDS 117, 134).

The key stays in `STATE/peer.key`, mode 0600. The certificate lies beside the site's file and is public: it is
what siblings pin. While a key is being replaced the file holds the new certificate and then the old one.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import hashlib
import os
import re
import secrets
import ssl
import stat

from cluster.errors import ConfigError, UsageError
from cluster.model import Site

KEY_FILE = "peer.key"
DAYS = 3653  # ten years
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


def key_path(state: str) -> str:
    return os.path.join(state, KEY_FILE)


def certificates(text: str) -> list[str]:
    """The PEM certificates in a file's text, in their order."""
    return _PEM.findall(text)


def fingerprint(pem: str) -> str:
    """SHA-256 of the certificate's DER form, hex. Raises ValueError for what is no certificate."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.strip())).hexdigest()


def make(site: Site, state: str, *, replace: bool = False, now: float | None = None) -> tuple[str, str]:
    """Make the site's key and self-signed certificate; returns (fingerprint, certificate path).

    P-256, ten years, valid since yesterday so that a clock that lags accepts it. With `replace` the newest
    old certificate stays in the file, second, until the next replacement: siblings accept both, and a daemon
    that still runs with the old key is not cut off. Raises UsageError where the site has no `[peer]` table,
    where a key or certificate exists and `replace` is not set, and where a file cannot be written.
    """
    if site.peer is None or not site.peer.certificate_file:
        raise UsageError(f"{site.name}: its site file has no [peer] certificate")
    key_file, certificate_file = key_path(state), site.peer.certificate_file
    if not replace:
        for path in (key_file, certificate_file):
            if os.path.lexists(path):
                raise UsageError(
                    f"{path}: exists already; siblings know this site by it, so it is not replaced; "
                    "`--rotate` makes a new one"
                )
    at = dt.datetime.now(dt.UTC) if now is None else dt.datetime.fromtimestamp(now, dt.UTC)
    try:
        old = _read(certificate_file) if os.path.exists(certificate_file) else ""
        key, certificate = _generate(site.name, at)
        os.makedirs(state, mode=0o700, exist_ok=True)
        for folder in (state, os.path.dirname(certificate_file) or "."):
            if not os.access(folder, os.W_OK):  # else a key would stay behind without its certificate
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        _write(key_file, key, 0o600)
        _write(certificate_file, certificate + "".join(certificates(old)[:1]), 0o644)
    except OSError as error:
        raise UsageError(f"{error.filename or key_file}: {error.strerror}") from None
    return fingerprint(certificate), certificate_file


def remedy(site: Site, state: str) -> str:
    """What to do where a file of the pair is missing."""
    certificate_file = site.peer.certificate_file if site.peer else ""
    one_is_left = any(os.path.lexists(path) for path in (key_path(state), certificate_file) if path)
    command = f"`sideways keys --site {site.name}{' --rotate' * one_is_left}`"
    return f"bring it back, or make a new pair: {command}" if one_is_left else f"run {command}"


def load(site: Site, state: str) -> tuple[str, str]:
    """`(key path, certificate path)` of a site that may open its peer port.

    Raises ConfigError, one line: no [peer] table or no key yet, a key that others may read, a key that does
    not belong to the file's first certificate, a certificate that is not the one the cluster was told.
    """
    if site.peer is None:
        raise ConfigError(site.file, 1, f"peer: {site.name} has no [peer] table, siblings cannot be joined")
    key_file, certificate_file = key_path(state), site.peer.certificate_file
    try:
        mode = os.stat(key_file).st_mode
        presented = certificates(_read(certificate_file))
    except OSError as error:
        why = f"{error.strerror}; {remedy(site, state)}"
        raise ConfigError(str(error.filename), 1, why) from None
    if not stat.S_ISREG(mode) or stat.S_IMODE(mode) & 0o077:
        raise ConfigError(key_file, 1, f"mode {stat.S_IMODE(mode):04o}: a key is for its owner only (0600)")
    if not presented:
        raise ConfigError(certificate_file, 1, "holds no PEM certificate")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate_file, key_file)
    except (ssl.SSLError, OSError):
        raise ConfigError(
            key_file, 1, f"is not the key of the first certificate in {certificate_file}"
        ) from None
    known = {fingerprint(pem) for text in site.peer.certificates for pem in certificates(text)}
    if fingerprint(presented[0]) not in known:
        raise ConfigError(
            certificate_file, 1, f"is not the certificate that the cluster knows {site.name} by"
        )
    return key_file, certificate_file


def _generate(name: str, at: dt.datetime) -> tuple[str, str]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - dt.timedelta(days=1))
        .not_valid_after(at + dt.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read(65_536)


def _write(path: str, text: str, mode: int) -> None:
    """Whole or not at all: a temporary beside it, synced, renamed."""
    temporary = f"{path}.{secrets.token_hex(4)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise

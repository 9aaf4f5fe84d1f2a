"""TLS: with the manners of a plain socket that does not block, for the processes beside ours; and the pin by
which siblings know each other.

Imported only where it is needed: `ssl` and the system's authorities take 20 ms.
"""

import contextlib
import select
import socket
import ssl
from collections.abc import Iterable

RECORD = 2**14  # bytes of plain text in a TLS record, at most (RFC 8446, 5.1)


def context(authorities: str | None) -> ssl.SSLContext:
    """Certificates and names are verified, TLS 1.2 or newer, as the main process does. Raises OSError."""
    made = ssl.create_default_context(cafile=authorities)
    made.set_alpn_protocols(["http/1.1"])
    return made


def pinned(made: ssl.SSLContext, own: tuple[str, str], trusted: Iterable[str]) -> ssl.SSLContext:
    """TLS 1.3 with our certificate, to who has one of these (PEM) and nobody else (HAZARDS section 4). `own`
    is (key path, certificate path). Raises OSError."""
    key_file, certificate_file = own
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    made.load_cert_chain(certificate_file, key_file)
    for pem in trusted:
        with contextlib.suppress(ssl.SSLError, ValueError):  # damaged text: that site stays outside
            made.load_verify_locations(cadata=pem)
    return made


class Secured:
    """A connected socket, from the handshake on. What TLS cannot go on with is an OSError; where it has to
    wait, BlockingIOError."""

    def __init__(self, connected: socket.socket, context: ssl.SSLContext, host: str | None) -> None:
        self._socket = context.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def handshake(self) -> int:
        """A step of it; the events of epoll to be waited for until the next one, 0 when it is done."""
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            return select.EPOLLIN
        except ssl.SSLWantWriteError:
            return select.EPOLLOUT
        return 0

    def send(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except ssl.SSLWantWriteError:
            raise BlockingIOError from None

    def recv(self, size: int) -> bytes:
        """What is here, until that is `size` bytes or more; nothing stays behind that poll does not see."""
        pieces: list[bytes] = []
        received = 0
        try:
            while received < size and (piece := self._socket.recv(RECORD)):
                pieces.append(piece)
                received += len(piece)
        except ssl.SSLWantReadError:
            if not pieces:
                raise BlockingIOError from None
        return b"".join(pieces)

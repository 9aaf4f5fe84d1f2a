"""What we and the carrier's process say to each other, in frames of `wire`: marshalled values of our own, and
inside them bytes of siblings as they came.

    place      (addresses, each with its family; key file; certificate file; certificates of the sibling)
    PLACE      (PLACE, its number, place)
    ASK        (ASK, number of the talk, of the place, request, patience, window): `patience` s until the
               answer begins, `window` s without a byte of it
    TAKE       (TAKE, talk, prefix of the temporaries, sizes by place in the question, orders): what the
               sibling may send, and which of it is wanted
    an order   (number, which names the temporary and is its place; SHA-256; mode, uid, gid, mtime in ns)
    DROP       (DROP, talk): nothing of it is wanted any more
    report     (talk, SORT, what it says, s that were waited, bytes of the body)

A talk's last report is one of `LAST`: after it nothing more is written for that talk. Seconds and bytes are
those since the report before.
"""

PLACE, ASK, TAKE, DROP = range(4)

TOLD = 0  # the header of the first frame, as it came
WRITTEN = 1  # [(number, inode, mtime on disk in ns)]
SIGN = 2  # only that something arrives
ENDED = 3  # (the header of the last frame, how many bodies came)
REFUSED = 4  # (status, a line of text)
BROKE = 5  # text: what rule of the protocol
DECEIVED = 6  # its bytes are not what it promised
UNCONNECTED = 7  # (errno, text)
CERTIFICATE = 8  # (OpenSSL's code, its text): not the one that we know
CUT = 9  # text: the connection broke
LATE = 10  # within the patience, or the window, nothing came
FAILED = 11  # (number, errno): could not be written
DROPPED = 12
LAST = frozenset(range(ENDED, DROPPED + 1))

Address = tuple[object, ...]
Place = tuple[tuple[tuple[int, Address], ...], str, str, tuple[str, ...]]
Order = tuple[int, bytes, int, int, int, int | None]
Written = tuple[int, int, int]
Report = tuple[int, int, object, float, int]

"""Control files as zsyncmake 0.6.2 writes them."""

from __future__ import annotations

from email.utils import formatdate

from Crypto.Hash import MD4

from cluster.delta import rolling


def made(
    body: bytes, mtime: int, sha1: str, *, block: int = 2048, lengths: tuple[int, int, int] = (2, 2, 5)
) -> bytes:
    """`mtime` in s. The last block is filled up with zeros, as zsync does it."""
    _, weak, strong = lengths
    rows = []
    for at in range(0, len(body), block):
        data = body[at : at + block].ljust(block, b"\0")
        total = int(rolling.of_blocks(data, block)[0]).to_bytes(4, "big")
        rows += [total[4 - weak :], MD4.new(data).digest()[:strong]]
    head = (
        f"zsync: 0.6.2\nFilename: a.iso\nMTime: {formatdate(mtime)}\nBlocksize: {block}\n"
        f"Length: {len(body)}\nHash-Lengths: {','.join(map(str, lengths))}\n"
        f"URL: http://elsewhere.example/a.iso\nSHA-1: {sha1}\n\n"
    )
    return head.encode() + b"".join(rows)

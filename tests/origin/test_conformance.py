"""Every kind of origin, bare and as a pass gets it, through the one suite of promises."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cluster.model import Limits, OriginSpec, href
from cluster.origin.base import Origin
from cluster.origin.ftp import FtpOrigin
from cluster.origin.http import HttpOrigin
from cluster.origin.local import LocalOrigin
from cluster.origin.memory import MemoryOrigin
from cluster.origin.open import Shared, open_origin
from cluster.origin.rsync import RsyncOrigin
from tests import servers
from tests.origin import conformance
from tests.origin.ftp_servers import open_to_all, paired

KINDS = ("memory", "local", "local, wrapped", "http", "http, wrapped", "rsync", "rsync, wrapped")
FTP = ("vsftpd", "proftpd", "pure_ftpd", "vsftpd, wrapped", "vsftpd, tls", "proftpd, tls", "pure_ftpd, tls")


def on_disk(root: Path) -> None:
    for path, data in conformance.FILES.items():
        file = os.path.join(os.fsencode(root), path)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        Path(os.fsdecode(file)).write_bytes(data)
        os.utime(file, (conformance.MTIME, conformance.MTIME))
    for path in conformance.DIRECTORIES:
        os.makedirs(os.path.join(os.fsencode(root), path), exist_ok=True)


def in_memory() -> MemoryOrigin:
    origin = MemoryOrigin(dict(conformance.FILES))
    for path in conformance.DIRECTORIES:
        origin.directory(path)
    return origin


def opened(
    kind: str, root: Path, start_nginx: Callable[..., Any], start_rsyncd: Callable[..., Any]
) -> Origin:
    if kind == "memory":
        return in_memory()
    on_disk(root)
    if kind.startswith("local"):
        spec = OriginSpec(f"file://{href(os.fsencode(root))}/")
        return open_origin(spec, Limits(), Shared()) if "wrapped" in kind else LocalOrigin(spec, Limits())
    if kind.startswith("rsync"):
        spec = OriginSpec(start_rsyncd(root).url)
        return open_origin(spec, Limits(), Shared()) if "wrapped" in kind else RsyncOrigin(spec, Limits())
    spec = OriginSpec(start_nginx(root).url, timezone="UTC")
    return open_origin(spec, Limits(), Shared()) if "wrapped" in kind else HttpOrigin(spec, Limits())


class TestEveryOrigin(conformance.Conformance):
    @pytest.fixture(params=KINDS)
    async def origin(
        self,
        request: pytest.FixtureRequest,
        tmp_path: Path,
        start_nginx: Callable[..., Any],
        start_rsyncd: Callable[..., Any],
    ) -> AsyncIterator[Origin]:
        origin = opened(request.param, tmp_path, start_nginx, start_rsyncd)
        yield origin
        await origin.close()


class Behind(NamedTuple):
    """A server with the tree of the suite, and how it is asked."""

    spec: OriginSpec
    wrapped: bool


@pytest.fixture(scope="module", params=FTP)
def behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """Started once for all promises: none of them changes the tree."""
    name, _, how = request.param.partition(", ")
    with ExitStack() as stack:
        root = stack.enter_context(open_to_all())
        on_disk(root)
        tls, authority = paired(tmp_path_factory.mktemp("tls")) if how == "tls" else (None, None)
        server = stack.enter_context(getattr(servers, name)(root, tls=tls))
        credentials = server.notes.get("credentials")
        yield Behind(OriginSpec(server.url, credentials=credentials, ca=authority), how == "wrapped")


class TestEveryFtpServer(conformance.Conformance):
    @pytest.fixture
    async def origin(self, behind: Behind) -> AsyncIterator[Origin]:
        wrapped = behind.wrapped
        origin = open_origin(behind.spec, Limits(), Shared()) if wrapped else FtpOrigin(behind.spec, Limits())
        yield origin
        await origin.close()

"""The threads and connections of one mirror's records: one that writes, two that read what is committed."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cluster.store import rows, schema

_T = TypeVar("_T")
_READERS = 2


class Connections:
    """Transactions run one after the other, on a thread of their own; reads see the last commit."""

    def __init__(self, path: str, writer: sqlite3.Connection, mirror: str) -> None:
        self._path, self._writer = path, writer
        self._ids = rows.Ids(writer)
        self._writing = ThreadPoolExecutor(1, thread_name_prefix=f"write {mirror}")
        self._reading = ThreadPoolExecutor(_READERS, thread_name_prefix=f"read {mirror}")
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []

    async def write(self, work: Callable[[sqlite3.Connection, rows.Ids], _T], *, durable: bool = False) -> _T:
        """`work` as one transaction. Raises DiskFull, StoreError, and what `work` raises; then nothing of it
        is done."""
        return await asyncio.get_running_loop().run_in_executor(self._writing, self._transact, work, durable)

    def _transact(self, work: Callable[[sqlite3.Connection, rows.Ids], _T], durable: bool) -> _T:
        try:
            with schema.transaction(self._writer, durable=durable):
                return work(self._writer, self._ids)
        except BaseException:
            self._ids.forget()
            raise

    async def write_alone(self, work: Callable[[sqlite3.Connection, rows.Ids], _T]) -> _T:
        """`work`, which makes its own transactions."""
        return await asyncio.get_running_loop().run_in_executor(self._writing, work, self._writer, self._ids)

    async def read(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        """Raises StoreError where the records cannot be read."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._answer, question)

    def _answer(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return question(self._connection())
        except sqlite3.Error as error:
            raise schema.refusal(error, self._path) from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = schema.connect(self._path, read_only=True)
            self._opened.append(connection)
        return connection

    async def close(self) -> None:
        """Waits for what is under way; records that everything was closed in order."""
        await asyncio.to_thread(self._reading.shutdown)
        for connection in self._opened:
            connection.close()
        try:
            await self.write(lambda c, _: schema.meta_set(c, "clean", "1"), durable=True)
        finally:
            await asyncio.to_thread(self._writing.shutdown)
            self._writer.close()

"""Calls with a time limit that holds: the work runs in processes that are killed when it does not end.

A signal cannot stop a structure matcher that hangs inside compiled code; ending its process can.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Generic, TypeVar

from crystallm.base.launch import end_with

Item = TypeVar("Item")
Value = TypeVar("Value")


class Fate(StrEnum):
    """Why a call gave no value."""

    TIMED_OUT = "timed out"
    MEMORY = "out of memory"
    DIED = "worker process died"


NO_VERDICT = frozenset(map(str, Fate))
"""Reasons that are no verdict on an item."""


@dataclass(frozen=True)
class Lost:
    """A call that gave no value: the item was too slow, or it took its process down (memory, crash)."""

    fate: Fate
    detail: str


class WorkerError(RuntimeError):
    """An exception inside a worker: a bug, shown with the traceback of the worker."""


class Worker(Generic[Item, Value]):
    """One process that applies a function to items, one at a time; killed and replaced when an item is lost.

    The function must be importable by name where processes are spawned instead of forked (macOS, Windows). What
    `warm_up` does (compiling, imports) takes no time of an item: it is done before the clock starts, once in this
    process where workers are copies of it, else in each of them.
    """

    def __init__(self, function: Callable[[Item], Value], *, warm_up: Callable[[], None] | None = None) -> None:
        self._function = function
        self._warm_up = warm_up
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._deadline = 0.0
        self._limit_s = 0.0

    def __enter__(self) -> Worker[Item, Value]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()

    @property
    def connection(self) -> Connection:
        """The pipe on which the result of the item at work arrives."""
        if self._connection is None:
            self._start()
        assert self._connection is not None
        return self._connection

    @property
    def remaining_s(self) -> float:
        """Seconds the item at work has left."""
        return self._deadline - time.monotonic()

    def call(self, item: Item, *, time_limit_s: float) -> Value | Lost:
        """Apply the function to one item and wait."""
        self.submit(item, time_limit_s=time_limit_s)
        return self.result()

    def submit(self, item: Item, *, time_limit_s: float) -> None:
        """Start on one item; `result` must be asked for before the next."""
        if self._process is not None and not self._process.is_alive():
            self.kill()  # it ended while idle
        self.connection.send(item)
        self._limit_s = time_limit_s
        self._deadline = time.monotonic() + time_limit_s

    def result(self) -> Value | Lost:
        """Wait for the item at work until its time is over."""
        connection = self.connection
        if not connection.poll(max(self.remaining_s, 0.0)):
            self.kill()
            return Lost(Fate.TIMED_OUT, f"after {self._limit_s:g} s")
        try:
            value, failure = connection.recv()
        except EOFError:
            assert self._process is not None
            self._process.join()
            exit_code = self._process.exitcode
            self.kill()
            return Lost(Fate.DIED, f"exit code {exit_code}")
        if failure is not None:
            self.kill()
            raise WorkerError(f"in a worker process:\n{failure}")
        return value  # type: ignore[no-any-return]

    def kill(self) -> None:
        """End the process, whatever it is doing; the next item starts a new one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _start(self) -> None:
        # Forking costs milliseconds and needs no guard in a user's script; it is not safe on macOS.
        is_copy = sys.platform.startswith("linux")
        context = multiprocessing.get_context("fork" if is_copy else "spawn")
        if is_copy and self._warm_up is not None:
            self._warm_up()
        self._connection, theirs = context.Pipe()
        arguments = (self._function, None if is_copy else self._warm_up, theirs, os.getpid())
        process = context.Process(target=_work, args=arguments, daemon=True)  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        self._process = process
        if not is_copy and self._warm_up is not None:
            with contextlib.suppress(EOFError):  # it died; so says the result of its first item
                self._connection.recv()


def run_limited(
    function: Callable[[Item], Value],
    items: Iterable[Item],
    *,
    workers: int,
    time_limit_s: float,
    warm_up: Callable[[], None] | None = None,
) -> Iterator[tuple[int, Value | Lost]]:
    """Apply a function to items in several processes; yields (index of the item, value) in order of completion.

    Items are taken from the iterable only when a process is free. Leaving the loop early ends all processes.

    Args:
        function: Of one item; importable by name.
        items: Whatever can be sent to a process.
        workers: Processes; 0 takes one for each core.
        time_limit_s: Seconds for one item; one that takes longer is `Lost`, which is no verdict on it.
        warm_up: See `Worker`; it should do its work once, however often it is called.
    """
    queue = enumerate(items)
    idle: list[Worker[Item, Value]] = [Worker(function, warm_up=warm_up) for _ in range(workers or os.cpu_count() or 1)]
    busy: dict[Worker[Item, Value], int] = {}
    try:
        while True:
            while idle and (following := next(queue, None)) is not None:
                worker = idle.pop()
                worker.submit(following[1], time_limit_s=time_limit_s)
                busy[worker] = following[0]
            if not busy:
                return
            soonest = max(min(worker.remaining_s for worker in busy), 0.0)
            ready = wait([worker.connection for worker in busy], timeout=soonest)
            for worker, index in list(busy.items()):
                if worker.connection in ready or worker.remaining_s <= 0:
                    del busy[worker]
                    result = worker.result()
                    idle.append(worker)
                    yield index, result
    finally:
        for worker in [*idle, *busy]:
            worker.kill()


def _work(
    function: Callable[[Item], Value], warm_up: Callable[[], None] | None, connection: Connection, parent: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    end_with(parent)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent has gone
        if warm_up is not None:
            warm_up()
            connection.send(None)
        while True:
            item = connection.recv()
            try:
                reply: tuple[Value | Lost | None, str | None] = (function(item), None)
            except MemoryError as error:  # a resource that ran out, like time
                reply = (Lost(Fate.MEMORY, str(error)), None)
            except Exception:  # carried to the parent, which raises it
                reply = (None, traceback.format_exc())
            connection.send(reply)

"""From a Ray Data graph to files: rows are gathered into shards, by number and by the clock.

The driver handles references to blocks, never the rows in them: a shard is written by a task, on
whichever machine Ray places it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa
import ray
from ray import ObjectRef
from ray.data import Dataset
from ray.data.block import BlockAccessor
from ray.exceptions import RayError, RayTaskError

from pipelines.running.refusal import is_of_storage

WRITE_EVERY_S = 60.0
"""A row waits no longer than this for others of its shard."""
TICK_S = 1.0
"""How often the clock is looked at while no block comes."""
FLUSH_INTERRUPTED_S = 20.0
"""Who sends a signal waits half a minute before a harder one."""
WRITE_CPUS = 0.05
"""Share of a CPU by which Ray places a writing task: it waits for the storage mostly."""

T = TypeVar("T")
Write = Callable[[pa.Table], Any]
"""Writes the rows of a shard, and gives what the driver is to know of it."""


class WriteError(Exception):
    """A shard could not be written, for a reason that holds for the others too.

    Attributes:
        cause: what the storage raised.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass
class Shards:
    """Blocks that wait for their shard, and shards that are being written.

    Args:
        write: see `Write`; it must be safe to run twice.
        rows: of a shard, at least.
        every_s: seconds after which a shard is written with fewer rows.
    """

    write: Write
    rows: int
    every_s: float = WRITE_EVERY_S
    _blocks: list[ObjectRef] = field(default_factory=list)
    _waiting: int = 0
    _since: float = 0.0
    _writing: list[ObjectRef] = field(default_factory=list)

    def add(self, block: ObjectRef, rows: int) -> None:
        if not self._blocks:
            self._since = time.monotonic()
        self._blocks.append(block)
        self._waiting += rows
        if self._waiting >= self.rows:
            self._begin()

    def tick(self) -> list[Any]:
        """Begin what is due by the clock; gives what `write` said of the shards written since.

        Raises:
            WriteError: if the storage refused a shard.
        """
        if self._blocks and time.monotonic() - self._since >= self.every_s:
            self._begin()
        done, self._writing = _split(self._writing, timeout=0)
        return _results(done)

    def flush(self, timeout_s: float | None = None) -> list[Any]:
        """Write all that waits, and return when it is written, or after so many seconds.

        Raises:
            WriteError: as `tick`.
        """
        if self._blocks:
            self._begin()
        done, self._writing = _split(self._writing, timeout_s)
        return _results(done)

    def _begin(self) -> None:
        blocks, self._blocks, self._waiting = self._blocks, [], 0
        self._writing.append(_write_blocks.remote(self.write, *blocks))


def stream(dataset: Dataset, shards: Shards) -> Generator[tuple[int, list[Any]], None, None]:
    """Run a graph, and write its rows.

    Gives the rows that came since the last time, and what was said of the shards written since.
    Where the iteration is broken off, what has come is written before the exception goes on.

    Raises:
        WriteError: if the storage refuses a shard; nothing more is written then.
        ray.exceptions.RayError: if the graph cannot go on.
    """
    try:
        for bundle in _ticking(dataset.iter_internal_ref_bundles, TICK_S):
            rows = 0
            for entry in bundle.blocks if bundle else ():
                if entry.metadata.num_rows:
                    shards.add(entry.ref, entry.metadata.num_rows)
                    rows += entry.metadata.num_rows
            yield rows, shards.tick()
    except WriteError:
        raise
    except KeyboardInterrupt:
        with suppress(Exception):  # the interrupt is what the job ends with
            shards.flush(timeout_s=FLUSH_INTERRUPTED_S)
        raise
    except BaseException:
        shards.flush()
        raise
    yield 0, shards.flush()


def _ticking(begin: Callable[[], Iterator[T]], tick_s: float) -> Iterator[T | None]:
    """The items as they come, and None whenever none came for so many seconds."""
    arrived: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()
    broken_off = threading.Event()

    def pump() -> None:
        try:
            for item in begin():
                arrived.put((item, None))
                if broken_off.is_set():
                    return  # with the iterator goes what Ray Data has begun for it
        except BaseException as error:
            arrived.put((None, error))
        else:
            arrived.put((None, StopIteration()))

    threading.Thread(target=pump, daemon=True).start()
    try:
        while True:
            try:
                item, error = arrived.get(timeout=tick_s)
            except queue.Empty:
                yield None
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        broken_off.set()


# A writer that dies is replaced; what it raises is not tried again here, but where it is raised.
@ray.remote(num_cpus=WRITE_CPUS, max_retries=2)
def _write_blocks(write: Write, *blocks: Any) -> Any:
    return write(pa.concat_tables([BlockAccessor.for_block(block).to_arrow() for block in blocks]))


def _split(refs: list[ObjectRef], timeout: float | None) -> tuple[list[ObjectRef], list[ObjectRef]]:
    return ray.wait(refs, num_returns=len(refs), timeout=timeout) if refs else ([], [])


def _results(refs: list[ObjectRef]) -> list[Any]:
    results = []
    for ref in refs:
        try:
            results.append(ray.get(ref))
        except RayTaskError as error:
            if isinstance(error.cause, RayError):
                continue  # A machine was lost with the rows on it: they are missed afterwards.
            if is_of_storage(error.cause):
                raise WriteError(error.cause) from None
            raise
        except RayError:
            pass  # As above, with the writer.
    return results

"""One job at a time writes an output: a lease that lies in the output itself.

Each job that wants an output writes a lease file of its own there and looks at those of others.
Whoever sees another one that is alive withdraws, so that of two that start at one moment never both
go on. A lease is alive as long as its heartbeat is; of a process on this machine it is also known
whether it still runs. No storage needs to have locks for that, only to list what was written.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import psutil
from fsspec.core import url_to_fs

from pipelines.records import one_line
from pipelines.storage import join, read_bytes, remove, write_bytes

PREFIX = ".lease-"
HEARTBEAT_S = 10.0
"""Between two heartbeats; a lease is a small file."""
STALE_S = 60.0
"""A lease whose heartbeat is older has lapsed; a storage that was away shortly does not matter."""
CLOCK_STEP_S = 60.0
"""By which a correction of the clock may move the start of a process that still runs."""
ATTEMPTS = 5
"""Of jobs that start at one moment and make way for each other."""


class OutputHeld(ValueError):
    """Another job writes this output; the message is one line that says which."""


@dataclass(frozen=True)
class Lease:
    """Attributes:
    job: name of the job.
    host, boot, namespace: the machine, its start, and the process namespace that `pid` counts in.
    pid, process_started: which process, even where numbers are used again; seconds since the epoch.
    since, heartbeat: seconds since the epoch.
    """

    id: str
    job: str
    host: str
    boot: str
    namespace: str
    pid: int
    process_started: float
    since: float
    heartbeat: float


@contextmanager
def held_output(url: str, job: str) -> Iterator[None]:
    """Hold an output while the block runs.

    Where the lease is taken over by another job meanwhile (this one did not reach the storage for
    longer than `STALE_S`), the process ends at once: it must not write on.

    Args:
        url: of a folder that can be written.
        job: name of the job, for whoever is refused.

    Raises:
        OutputHeld: if another job holds it.
    """
    lease = _acquire(url, job)
    over = threading.Event()
    keeper = threading.Thread(target=_keep, args=(url, lease, over), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join(HEARTBEAT_S)
        with suppress(Exception):  # a storage that is away: the lease lapses by itself
            remove(_file(url, lease.id))


def _acquire(url: str, job: str) -> Lease:
    for attempt in range(ATTEMPTS):
        lease = _own(job)
        _write(url, lease)
        try:
            others = _alive(url, lease)
        except BaseException:
            remove(_file(url, lease.id))
            raise
        if not others:
            return lease
        remove(_file(url, lease.id))
        holder = min(others, key=lambda other: other.since)
        began_together = lease.since - holder.since < HEARTBEAT_S
        if not began_together or attempt == ATTEMPTS - 1:
            break
        time.sleep(random.uniform(0.2, 2.0))
    now = time.time()
    raise OutputHeld(
        f"output: {url} is being written by {holder.job} (process {holder.pid} on {holder.host}, "
        f"for {now - holder.since:.0f} s, last heartbeat {now - holder.heartbeat:.0f} s ago); wait "
        "for it, stop it, or choose another output; its lease ends with it, and on a machine that "
        f"is lost {STALE_S:.0f} s after its last heartbeat"
    )


def _own(job: str) -> Lease:
    now = time.time()
    return Lease(
        id=uuid.uuid4().hex,
        job=job,
        pid=os.getpid(),
        process_started=psutil.Process().create_time(),
        since=now,
        heartbeat=now,
        **_machine(),
    )


def _machine() -> dict[str, str]:
    boot = namespace = ""
    with suppress(OSError):  # of Linux; elsewhere the host's name has to do
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return {"host": socket.gethostname(), "boot": boot, "namespace": namespace}


def _alive(url: str, own: Lease) -> list[Lease]:
    """The leases of others that hold; what has lapsed is cleared away."""
    fs, path = url_to_fs(url)
    fs.invalidate_cache()
    others = []
    for name in fs.ls(path, detail=False):
        file = name.rsplit("/", 1)[-1]
        if not file.startswith(PREFIX) or file == f"{PREFIX}{own.id}.json":
            continue
        other = _read(join(url, file))
        if other is None or _has_lapsed(url, other):
            remove(join(url, file))
        else:
            others.append(other)
    return others


def _read(url: str) -> Lease | None:
    """A lease; None for what was given back meanwhile, or holds nothing that such a job wrote."""
    try:
        values = json.loads(read_bytes(url))
        return Lease(**{field.name: values[field.name] for field in fields(Lease)})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _has_lapsed(url: str, lease: Lease) -> bool:
    here = _machine()
    if all(getattr(lease, name) == value for name, value in here.items()):
        try:
            process = psutil.Process(lease.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True  # killed, and its parent has not asked for it
            return abs(process.create_time() - lease.process_started) > CLOCK_STEP_S
        except psutil.NoSuchProcess:
            return True
    if time.time() - lease.heartbeat <= STALE_S:
        return False
    # The clocks of two machines may differ: a heart that beats is seen to beat.
    time.sleep(1.5 * HEARTBEAT_S)
    later = _read(_file(url, lease.id))
    return later is None or later.heartbeat == lease.heartbeat


def _keep(url: str, lease: Lease, over: threading.Event) -> None:
    """Renew the lease until the job is over."""
    while not over.wait(HEARTBEAT_S):
        try:
            read_bytes(_file(url, lease.id))
        except FileNotFoundError:
            print(
                f"error: output: the lease of {url} was taken over: this job did not reach the "
                f"storage for more than {STALE_S:.0f} s",
                file=sys.stderr,
            )
            os._exit(1)
        except Exception:
            continue  # away: tried again with the next heartbeat
        with suppress(Exception):
            _write(url, replace(lease, heartbeat=time.time()))


def _write(url: str, lease: Lease) -> None:
    try:
        write_bytes(_file(url, lease.id), json.dumps(asdict(lease)).encode())
    except Exception as error:  # each storage has its own
        raise ValueError(f"output: {url} cannot be written: {one_line(error)}") from None


def _file(url: str, lease_id: str) -> str:
    return join(url, f"{PREFIX}{lease_id}.json")

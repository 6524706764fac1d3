"""Start Ray, or join the cluster that `RAY_ADDRESS` names, with a console for a person."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import warnings

import ray
from ray.data import DataContext
from ray.exceptions import AuthenticationError

from pipelines.records import one_line
from pipelines.running import cluster_token
from pipelines.running.job_error import JobError

CONNECT_S = 10.0
"""For the head of a cluster to answer."""
NOT_HERE = "Ray did not start on this machine"
OOM_RETRIES = "2"
"""Times that Ray starts a task again that it killed for memory; its own default has no bound."""


def join_cluster(log_to_driver: bool = False) -> None:
    """Start or join; nothing happens where that is done.

    Args:
        log_to_driver: whether the console shows what workers print.

    Raises:
        JobError: if that fails, in one line that says what to do.
    """
    # Ray's core prints advice about Ray Data's own actors as errors.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_task_oom_retries", OOM_RETRIES)
    if ray.is_initialized():
        return
    _check_address(os.environ.get("RAY_ADDRESS", ""))
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=log_to_driver)
    except Exception as error:  # of its own kinds, and of the sockets and processes below it
        ray.shutdown()
        raise JobError(_explain(error)) from error
    finally:
        # Ray puts a handler of its own there.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminated)


def _check_address(address: str) -> None:
    """See that a cluster's address answers, to this token: Ray would try for minutes, unheard.

    Raises:
        JobError: if it does not.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # none, `auto` or `local`
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise JobError(_explain(error)) from error
    if why := cluster_token.refused(address, CONNECT_S):
        raise JobError(f"RAY_ADDRESS: the cluster at {address} cannot be joined: {why}")


def _explain(error: Exception) -> str:
    address = os.environ.get("RAY_ADDRESS")
    if isinstance(error, AuthenticationError):
        where = f"RAY_ADDRESS: the cluster at {address} cannot be joined" if address else NOT_HERE
        return f"{where}: {cluster_token.explained(error)}"
    if isinstance(error, OSError) and error.filename and cluster_token.lies_at(error.filename):
        # Ray makes a token for a cluster of this process's own.
        return (
            f"{NOT_HERE}: {error}; set HOME to a folder that can be written, RAY_AUTH_TOKEN to a "
            "token of your own, or RAY_AUTH_MODE=disabled"
        )
    if address:
        return (
            f"RAY_ADDRESS: the cluster at {address} cannot be joined: {one_line(error)}; start it, "
            "or unset the variable to run on this machine"
        )
    return (
        f"{NOT_HERE}: {one_line(error)}; it waits for its own processes, "
        "which a machine under heavy load starts too late: try again when it is less busy, or "
        "start Ray beforehand (`ray start --head`) and set RAY_ADDRESS=auto"
    )


def quiet_ray_data(no_progress_s: float) -> None:
    """Let the jobs show their own progress: Ray Data counts blocks, people count clips.

    Args:
        no_progress_s: seconds without any block done after which Ray Data gives up; -1 never does.
            Each graph says how long its slowest step may take.
    """
    # The only way to bound a task's retries; the successor of these arguments is not there yet.
    warnings.filterwarnings("ignore", message=".*`ray_remote_args` is deprecated.*")
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.issue_detectors_config.detectors = []
    context.execution_no_progress_timeout_s = no_progress_s
    logger = logging.getLogger("ray.data")
    logger.setLevel(logging.ERROR)
    # Tracebacks go to Ray's own log files; the jobs say in a line what went wrong.
    for handler in logger.handlers:
        if type(handler).__name__ == "PlainRayHandler":
            handler.setLevel(logging.CRITICAL)

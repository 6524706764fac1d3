"""Run the service on this machine, or on the cluster that `RAY_ADDRESS` names, until a signal.

python -m serve model=RUN/model          (key=value for each key of `ServeSettings`, and host, port)
python -m serve deploy CONFIG            (to a cluster, once no secret stands in the config)

Ctrl-C and SIGTERM drain it: no request is taken any more, clips under way are finished within
`drain_s`, and what waits stays in the job store for the next start.
"""

from __future__ import annotations

from pipelines.running.interrupts import Interrupted, run_job

# isort: split

import os
import sys
import time

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.mistakes import first_mistake
from pipelines.records import one_line
from pipelines.running.job_error import JobError

APPLICATION = "handi"


class Address(BaseModel):
    """Where the service listens."""

    model_config = ConfigDict(extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")


def main() -> None:
    if sys.argv[1:2] == ["deploy"] and len(sys.argv) == 3:
        from serve.deploy import deploy

        try:
            return deploy(sys.argv[2])
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
    pairs = [argument.partition("=") for argument in sys.argv[1:]]
    if not pairs or not all(equals for _, equals, _ in pairs):
        print(__doc__, file=sys.stderr)
        raise SystemExit(2)
    arguments = {key: value for key, _, value in pairs}
    try:
        address = Address.model_validate(arguments)
    except ValidationError as error:
        print(f"error: {first_mistake(error, '{}=...')}", file=sys.stderr)
        raise SystemExit(2) from None
    arguments["hosts"] = f"{arguments.get('hosts', '')},{address.host}"
    run(address, {key: arguments[key] for key in arguments.keys() - Address.model_fields.keys()})


def run(address: Address, arguments: dict[str, str]) -> None:
    """Serve until a signal comes.

    Raises:
        JobError: if Ray or the service do not start.
        Interrupted: once the service is drained.
    """
    from ray import serve
    from ray.serve.schema import LoggingConfig

    from pipelines.running.cluster import join_cluster
    from serve.app import app
    from serve.settings import ServeSettings

    application = app(arguments)
    # Serve's controller reads it: whoever is silent or broken is not given `drain_s` to end well.
    os.environ.setdefault("RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS", "1")
    join_cluster(log_to_driver=True)
    runs_already = serve_is_running()
    try:
        quiet = LoggingConfig(log_level="WARNING")
        http = {"host": address.host, "port": address.port}
        serve.start(http_options=http, logging_config=quiet)
        serve.run(application, name=APPLICATION)
        print(f"http://{address.host}:{address.port}", flush=True)
        while True:
            time.sleep(1)
    except (RuntimeError, OSError) as error:  # a replica that cannot start, a port that is taken
        drain(0, runs_already)
        raise JobError(f"the service did not start: {one_line(error)}") from error
    except Interrupted as interrupt:
        drain_s = ServeSettings.model_validate(arguments).drain_s
        print(
            f"draining: no request is taken, clips under way have {drain_s:g} s to end",
            file=sys.stderr,
            flush=True,
        )
        drained = drain(drain_s, runs_already)
        interrupt.outcome = "drained" if drained else f"not drained within {drain_s:g} s (drain_s)"
        interrupt.outcome += "; jobs that have not ended are kept"
        raise


def drain(seconds: float, others: bool) -> bool:
    """Take the application away, which lets each replica end what it runs; whether all have.

    Args:
        others: whether Serve itself stays, for the applications that it ran before.
    """
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        serve.delete(APPLICATION, _blocking=False)
        deadline = time.monotonic() + seconds
        while there := APPLICATION in serve.status().applications:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
    except RayServeException:  # it did not run yet
        there = False
    if not others:
        serve.shutdown()
    return not there


def serve_is_running() -> bool:
    """Whether the cluster runs applications on Serve already."""
    from ray import serve

    return bool(serve.status().applications)


if __name__ == "__main__":
    run_job(main)

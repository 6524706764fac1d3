"""The token that a cluster asks for (`RAY_AUTH_MODE=token`), tried before Ray tries for long."""

from __future__ import annotations

from pathlib import Path

import grpc
from ray._private.grpc_utils import init_grpc_channel
from ray.exceptions import AuthenticationError

from pipelines.records import one_line

HARMLESS = {
    False: "/ray.rpc.NodeInfoGcsService/GetClusterId",
    True: "/ray.rpc.RayletDriver/ClusterInfo",
}
"""A call that needs a token and nothing else, to a cluster's head and to its Ray Client server."""

REMEDY = (
    "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token) "
    "to what `ray get-auth-token` gives on the cluster"
)


def refused(address: str, seconds: float) -> str | None:
    """Why a cluster does not take this process's token; None if it does, or something else fails.

    Args:
        address: `HOST:PORT`, or `ray://HOST:PORT` of a Ray Client server.
        seconds: to wait for the answer.
    """
    channel = init_grpc_channel(address.removeprefix("ray://"))
    call = channel.unary_unary(HARMLESS[address.startswith("ray://")])
    try:
        call(b"", timeout=seconds)
    except AuthenticationError as error:  # none is found
        return explained(error)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            return f"it refuses this process's token, which is missing or wrong; {REMEDY}"
    finally:
        channel.close()
    return None


def lies_at(path: str) -> bool:
    """Whether a token of this user lies, or would lie, at or below a path."""
    token = Path.home() / ".ray" / "auth_token"
    return Path(path) in (token, *token.parents)


def explained(error: AuthenticationError) -> str:
    """What Ray says of a token, in one line, and what to do."""
    said = one_line(ValueError(error.message)).partition(". ")[0].rstrip(".:")
    return f"{said}; {REMEDY}"

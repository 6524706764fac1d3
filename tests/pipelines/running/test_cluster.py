"""A Ray that does not start is told in one line. No Ray is started."""

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import ray
from ray.exceptions import AuthenticationError

from pipelines.running.cluster import join_cluster
from pipelines.running.job_error import JobError


def test_a_cluster_that_nobody_runs_is_one_line_that_names_the_variable(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would try for minutes"))
    with pytest.raises(
        JobError, match=r"RAY_ADDRESS: .* 127\.0\.0\.1:1 cannot be joined: "
    ) as error:
        join_cluster()
    assert "\n" not in str(error.value)


def test_a_machine_under_heavy_load_is_one_line_that_says_what_to_do(monkeypatch):
    def times_out(**_):
        raise RuntimeError(
            "The current node timed out during startup.\nThis could happen because..."
        )

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", times_out)
    with pytest.raises(
        JobError, match=r"timed out during startup.*try again when it is less busy"
    ) as error:
        join_cluster()
    assert "\n" not in str(error.value)


class Head(grpc.GenericRpcHandler):
    """A cluster's head that asks every call for a token."""

    def service(self, call):
        def answer(_, context):
            if ("authorization", "Bearer " + "a" * 32) not in call.invocation_metadata:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def head():
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Head()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize("mode", ["disabled", "token"])
def test_a_cluster_that_refuses_the_token_is_one_line_at_once(monkeypatch, head, scheme, mode):
    monkeypatch.setenv("RAY_ADDRESS", f"{scheme}{head}")
    with_token(monkeypatch, "b" * 32 if mode == "token" else None)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would try for long"))
    with pytest.raises(JobError, match=r"RAY_ADDRESS: .*refuses.*RAY_AUTH_TOKEN") as error:
        join_cluster()
    assert "\n" not in str(error.value) and "b" * 32 not in str(error.value)


def test_a_cluster_that_takes_the_token_is_joined(monkeypatch, head):
    joined = []
    monkeypatch.setenv("RAY_ADDRESS", head)
    with_token(monkeypatch, "a" * 32)
    monkeypatch.setattr(ray, "init", lambda **_: joined.append(1))
    join_cluster()
    assert joined


@pytest.mark.parametrize("address", [None, "auto"])
def test_a_token_that_ray_cannot_find_is_one_line(monkeypatch, address):
    def refuses(**_):
        raise AuthenticationError("RAY_AUTH_TOKEN_PATH is set but file cannot be opened: /no/such")

    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    else:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", refuses)
    with pytest.raises(JobError, match=r"/no/such; set RAY_AUTH_MODE=token") as error:
        join_cluster()
    assert "\n" not in str(error.value)


def test_a_home_without_room_for_a_token_is_one_line(monkeypatch):
    def fails(**_):
        raise PermissionError(errno.EACCES, "Permission denied", str(Path.home() / ".ray"))

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(JobError, match=r"\.ray.*RAY_AUTH_MODE=disabled"):
        join_cluster()


def with_token(monkeypatch, token):
    """As Ray's loader and its channels see it, which read the variables once a process."""
    header = {"authorization": f"Bearer {token}"} if token else {}

    class Loader:
        def has_token(self):
            return bool(header)

        def get_token_for_http_header(self):
            return header

    monkeypatch.setattr(
        "ray._private.authentication.authentication_utils.is_token_auth_enabled",
        lambda: bool(header),
    )
    monkeypatch.setattr(
        "ray._private.authentication.grpc_authentication_client_interceptor"
        ".AuthenticationTokenLoader.instance",
        Loader,
    )

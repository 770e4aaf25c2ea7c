"""What flytekit's connectors raise: a user's error is permanent where a task starts, and fails no job that runs."""

from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError

import httpx
import pytest
from flytekit.exceptions.user import (
    FlyteRecoverableException,
    FlyteUserException,
    FlyteUserRuntimeException,
    FlyteValueException,
)

from connector_core import InvalidInputError, PermanentError, Phase, TransientError
from connector_core.errors import PermissionDeniedError
from connector_core.plugins import PluginSource
from connector_core.testing import running_server
from connector_plugin_flytekit.faults import translated


def by_httpx(status: int) -> Exception:
    request = httpx.Request("GET", "http://backend/")
    return httpx.HTTPStatusError("refused", request=request, response=httpx.Response(status, request=request))


def by_urllib(status: int) -> Exception:
    return HTTPError("http://backend/", status, "refused", {}, None)  # type: ignore[arg-type]


def by_an_sdk(status: int) -> Exception:
    error = RuntimeError("refused")
    error.status = status  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize("made", [by_httpx, by_urllib, by_an_sdk])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidInputError),
        (401, PermissionDeniedError),
        (403, PermissionDeniedError),
        (404, InvalidInputError),
        (422, InvalidInputError),
    ],
)
def test_a_status_that_says_the_request_is_no_good_is_permanent(
    made: Callable[[int], Exception], status: int, kind: type[PermanentError]
) -> None:
    error = translated(made(status), "do")
    assert type(error) is kind
    assert error is not None
    assert error.error_code == f"HTTP{status}"
    assert translated(made(status), "get") is None


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503, 302])
def test_a_status_that_may_pass_is_left_to_the_host(status: int) -> None:
    assert translated(by_httpx(status), "do") is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FlyteUserException("no such table"), PermanentError),
        (FlyteValueException("x", "no such table"), InvalidInputError),
        (FlyteUserRuntimeException(ValueError("no such table")), PermanentError),
        (FlyteUserRuntimeException(FlyteRecoverableException("busy")), TransientError),
    ],
)
def test_a_users_error_of_flytekit_is_permanent_where_a_task_starts(error: Any, kind: type) -> None:
    assert type(translated(error, "do")) is kind
    assert type(translated(error, "create")) is kind
    assert type(translated(error, "get")) is TransientError


def test_any_other_exception_is_left_to_the_host() -> None:
    assert translated(ValueError("anything"), "do") is None


async def test_a_sync_tasks_user_error_ends_it_for_good(bridge: PluginSource, site: Any) -> None:
    site.plugin(
        "strict",
        """
        import httpx
        class Strict(SyncConnectorBase):
            name = "Strict"
            def __init__(self): super().__init__(task_type_name="strict")
            async def do(self, task_template, inputs=None, **kwargs):
                request = httpx.Request("GET", "http://backend/")
                response = httpx.Response(404, request=request)
                raise httpx.HTTPStatusError("no such table", request=request, response=response)
        ConnectorRegistry.register(Strict())
        """,
    )
    async with running_server(plugins=[bridge]) as host:
        answer = await host.get("strict", await host.create("strict"))
    assert (Phase(answer.phase), answer.agent_error.code) == (Phase.FAILED, "HTTP404")
    assert "no such table" in answer.message

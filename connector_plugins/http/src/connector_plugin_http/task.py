"""The tasks that a workflow author writes for these connectors; need the extra `flytekit`."""

from collections.abc import Mapping
from typing import Any

from flytekit.configuration import SerializationSettings
from flytekit.core.base_task import PythonTask
from flytekit.core.interface import Interface

from connector_plugin_http.authoring import DeclaredCall, DeclaredJob


class HttpJob(PythonTask[None]):
    """A job at an endpoint that the operator has named, such as a DAG run of an Airflow.

    Args:
        name: the task's name.
        endpoint: the endpoint's name, from the operator's `[plugins.http.endpoints.NAME]`.
        values: what the recipe of that endpoint asks for, by name; the task's inputs go over them.
        recipe: which recipe, where the endpoint has several.
        inputs: the types of the task's inputs by name.
        outputs: the types of the outputs by name; the recipe says which ones there are.
        kwargs: whatever else flytekit's tasks take, such as `metadata`.
    """

    def __init__(
        self,
        name: str,
        endpoint: str,
        *,
        values: Mapping[str, Any] | None = None,
        recipe: str = "",
        inputs: Mapping[str, type] | None = None,
        outputs: Mapping[str, type] | None = None,
        **kwargs: Any,
    ) -> None:
        self._declared = DeclaredJob(endpoint, dict(values or {}), recipe)
        interface = Interface(inputs=dict(inputs or {}), outputs=dict(outputs or {}))
        super().__init__(task_type="http_job", name=name, task_config=None, interface=interface, **kwargs)

    def get_custom(self, settings: SerializationSettings) -> dict[str, Any]:  # noqa: ARG002 - flytekit's signature
        """Return what the connector reads."""
        return self._declared.to_custom()


class HttpCall(PythonTask[None]):
    """One request to an endpoint; its outputs are `status_code` (int) and `text` (str), and `json` where it is declared.

    Args:
        name: the task's name.
        endpoint: the endpoint's name.
        path: below the endpoint's URL; `{NAME}` stands for an input, here and in what follows.
        method: the method; the operator allows it with the path.
        query: the query by name.
        headers: further headers.
        body: sent as JSON.
        inputs: the types of the task's inputs by name.
        outputs: the types of the outputs by name, among `status_code`, `text` and `json`.
        kwargs: whatever else flytekit's tasks take, such as `metadata`.
    """

    def __init__(
        self,
        name: str,
        endpoint: str,
        path: str = "",
        *,
        method: str = "GET",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        inputs: Mapping[str, type] | None = None,
        outputs: Mapping[str, type] | None = None,
        **kwargs: Any,
    ) -> None:
        self._declared = DeclaredCall(endpoint, method, path, query or {}, headers or {}, body)
        interface = Interface(inputs=dict(inputs or {}), outputs=dict(outputs or {"status_code": int, "text": str}))
        super().__init__(task_type="http_call", name=name, task_config=None, interface=interface, **kwargs)

    def get_custom(self, settings: SerializationSettings) -> dict[str, Any]:  # noqa: ARG002 - flytekit's signature
        """Return what the connector reads."""
        return self._declared.to_custom()

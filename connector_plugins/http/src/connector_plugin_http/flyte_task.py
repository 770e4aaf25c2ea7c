"""The task that a workflow author writes for the connector of jobs with SDK 2; needs the extra `flyte`.

Engines of the 2.x line call no sync connectors, so that single calls have no task here.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from flyte.extend import TaskTemplate
from flyte.models import NativeInterface, SerializationContext

from connector_plugin_http.authoring import DeclaredJob


class HttpJob(TaskTemplate[Any, Any, Any]):
    """A job at an endpoint that the operator has named, such as a DAG run of an Airflow.

    Args:
        name: the task's name.
        endpoint: the endpoint's name, from the operator's `[plugins.http.endpoints.NAME]`.
        values: what the recipe of that endpoint asks for, by name; the task's inputs go over them.
        recipe: which recipe, where the endpoint has several.
        inputs: the types of the task's inputs by name.
        outputs: the types of the outputs by name; the recipe says which ones there are.
        kwargs: whatever else the SDK's tasks take, such as `retries`.
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
        interface = NativeInterface(
            inputs={key: (value, inspect.Parameter.empty) for key, value in (inputs or {}).items()},
            outputs=dict(outputs or {}),
        )
        super().__init__(task_type="http_job", name=name, interface=interface, **{"image": None, **kwargs})

    def custom_config(self, sctx: SerializationContext) -> dict[str, Any]:  # noqa: ARG002 - the SDK's signature
        """Return what the connector reads."""
        return self._declared.to_custom()

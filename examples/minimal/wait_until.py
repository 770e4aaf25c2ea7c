from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from connector_core import AsyncConnectorBase, InvalidInputError, Phase, Resource, ResourceMeta, hookimpl


@dataclass
class Wait(ResourceMeta):
    moment: datetime


class WaitUntil(AsyncConnectorBase[Wait]):
    name = "Wait until"
    task_type_name = "wait_until"

    async def create(self, inputs: Mapping[str, object]) -> Wait:
        moment = inputs.get("moment")
        if not isinstance(moment, datetime):
            raise InvalidInputError(f"wait_until needs an input 'moment' that is a datetime, not {moment!r}")
        return Wait(moment)

    async def get(self, resource_meta: Wait) -> Resource:
        has_come = datetime.now(UTC) >= resource_meta.moment
        return Resource(Phase.SUCCEEDED if has_come else Phase.RUNNING)

    async def delete(self, resource_meta: Wait) -> None:
        pass  # nothing runs anywhere


@hookimpl
def register_connectors() -> list[WaitUntil]:
    return [WaitUntil()]

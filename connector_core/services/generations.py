"""The generations of the protocol that a host serves, and the services of each."""

import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from connector_core.errors import SettingsError
from connector_core.jobs import Jobs
from connector_core.observing.recorder import Recorder
from connector_core.protocol.v1 import V1
from connector_core.registry import ConnectorRegistry
from connector_core.secrets import SecretSource
from connector_core.services.async_service import AsyncConnectorService
from connector_core.services.metadata_service import ConnectorMetadataService, SecondMetadataService
from connector_core.services.sync_service import SyncConnectorService
from connector_core.settings import Settings

_log = logging.getLogger(__name__)

_FIRST = tuple(f"flyteidl.service.{name}" for name in ("SyncAgentService", "AsyncAgentService", "AgentMetadataService"))
_SECOND = tuple(f"flyteidl2.connector.{name}" for name in ("AsyncConnectorService", "ConnectorMetadataService"))

_EXTRA = "the extra v2 is not installed: pip install 'connector-core[v2]'"


class Generations:
    """The first generation of the protocol, and the second one where it is chosen and available.

    Args:
        settings: choose the generations.
        secrets: takes note of those that callers bring, to be kept out of the log.

    Attributes:
        without_v2: why the second one is not served; empty where it is.

    Raises:
        SettingsError: the second one is required, but not available.
    """

    def __init__(self, settings: Settings, secrets: SecretSource | None = None) -> None:
        self._secrets = secrets or SecretSource()
        self._first = V1(retryable_as_state=settings.retryable_failures == "state")
        self._second, self.without_v2 = _load(settings.protocols)

    @property
    def names(self) -> Sequence[str]:
        """The services' full names, those of the first generation first."""
        return _FIRST if self._second is None else (*_FIRST, *_SECOND)

    def descriptors(self) -> Sequence[ServiceDescriptor]:
        """Return the services' descriptors, in the same order; imported on demand, which few hosts need."""
        from flyteidl.service import agent_pb2

        files = [agent_pb2.DESCRIPTOR, *([self._second.DESCRIPTOR] if self._second is not None else [])]
        return [service for file in files for service in sorted(file.services_by_name.values(), key=_place)]

    def servicers(self, registry: ConnectorRegistry, jobs: Jobs, recorder: Recorder) -> Mapping[str, object]:
        """Make the servicers, by the services' full names, over one registry and the same jobs."""
        servicers: list[object] = [
            SyncConnectorService(registry, jobs, recorder, self._first),
            AsyncConnectorService(registry, jobs, recorder, self._first),
            ConnectorMetadataService(registry, recorder),
        ]
        if self._second is not None:
            dialect = self._second.V2(self._secrets.note_brought)
            servicers += [
                AsyncConnectorService(registry, jobs, recorder, dialect),
                SecondMetadataService(registry, recorder, dialect),
            ]
        return dict(zip(self.names, servicers, strict=True))


def _place(service: ServiceDescriptor) -> int:
    """Return where a service stands in its file: by name, they come in another order in each process."""
    place: int = service.index
    return place


def _load(wanted: str) -> tuple[Any, str]:
    """Return the second generation's package, or the reason why it is missing."""
    if wanted == "v1":
        return None, "the setting protocols has v1 alone"
    package, reason = _import()
    if package is None and wanted == "both":
        raise SettingsError(f"protocols is both, and engines of the 2.x line cannot be served: {reason}")
    if package is None and reason is not _EXTRA:
        _log.warning("not serving engines of the 2.x line: %s", reason)
    return package, reason


def _import() -> tuple[Any, str]:
    try:
        package = importlib.import_module("connector_core.protocol.v2")
    except ModuleNotFoundError as error:
        if error.name == "flyteidl2":
            return None, _EXTRA
        return None, f"the installed flyteidl2 is not whole, or too old: {error}"
    except Exception as error:  # noqa: BLE001 - generated code that does not fit the installed protobuf raises what it likes
        return None, f"the installed flyteidl2 cannot be imported: {type(error).__name__}: {error}"
    if found := package.contradictions():
        return None, f"the installed flyteidl2 does not go with the installed flyteidl: {'; '.join(found)}"
    return package, ""

"""What an operator should know of connectors that trust their resource metas."""

from connector_core.connector import AsyncConnectorBase
from connector_core.plugins.outcomes import PluginLoadResult
from connector_core.settings import Settings


def metadata_risks(result: PluginLoadResult, settings: Settings) -> list[str]:
    """Say which loaded connectors a forged resource meta could harm, where signing does not keep forged ones out."""
    if settings.signing.all_keys():
        return []
    return [
        f"connector {entry.name!r} of plugin {entry.plugin}: {entry.connector.metadata_risk}, and resource metas are not "
        "signed here: who reaches the gRPC port can run code on the host. Set [signing] once no task of another server runs"
        for plugin in result.loaded
        for entry in plugin.connectors
        if isinstance(entry.connector, AsyncConnectorBase) and entry.connector.metadata_risk
    ]

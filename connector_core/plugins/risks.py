"""What an operator should know of connectors that trust their resource metas."""

from collections import defaultdict

from connector_core.connector import AsyncConnectorBase
from connector_core.plugins.outcomes import PluginLoadResult
from connector_core.settings import Settings


def metadata_risks(result: PluginLoadResult, settings: Settings) -> list[str]:
    """Say which loaded connectors a forged resource meta could harm, where signing does not keep forged ones out."""
    if settings.signing.all_keys():
        return []
    at_risk: dict[str, list[str]] = defaultdict(list)
    for plugin in result.loaded:
        for entry in plugin.connectors:
            if isinstance(entry.connector, AsyncConnectorBase) and (what := entry.connector.metadata_risk):
                at_risk[what].append(f"{entry.name!r} of plugin {entry.plugin.name!r}")
    return [
        f"resource metas are not signed here, and a connector that {what} runs whatever code is in a forged one, for everyone "
        f"who reaches the gRPC port: {', '.join(connectors)}. Set [signing] once no task of another server runs"
        for what, connectors in at_risk.items()
    ]

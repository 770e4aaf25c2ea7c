"""The log of a command that runs plugin code."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from connector_core.hostlog import HostLog
from connector_core.plugins import PluginLoadResult
from connector_core.secrets import SecretSource
from connector_core.settings import Settings


def open_log(settings: Settings, secrets: SecretSource) -> HostLog:
    """Return the log on stderr that the settings describe, which keeps the host's secrets and those of its plugins out.

    Args:
        settings: the host's.
        secrets: where its plugins get theirs from.

    Raises:
        SettingsError: the file of keys or of tokens that the settings name cannot be used.
    """
    keys = {key.decode(errors="replace") for key in (*settings.signing.all_keys(), *settings.gateway_tokens())}
    own = frozenset(keys | {urlsplit(settings.memory.url.get_secret_value()).password or ""})
    return HostLog(settings.log_level, settings.log_format, lambda: own | secrets.handed_out)


def loggers_of(result: PluginLoadResult) -> Mapping[str, str]:
    """Return the plugin's name by the names of modules, after which loggers are called, that are its own."""
    found: dict[str, set[str]] = {}
    for loaded in result.loaded:
        for connector in loaded.descriptions:
            for name in (connector.module, connector.module.partition(".")[0]):
                found.setdefault(name, set()).add(loaded.identity.name)
    return {name: plugins.pop() for name, plugins in found.items() if len(plugins) == 1 and name != "connector_core"}

"""The commands that look at the installed plugins."""

from typing import Any

from connector_core.cli.options import AS_JSON, CHOICE, argument, command, flag, plugin_settings


@command("list", AS_JSON, *CHOICE)
def list_plugins(as_json: bool, **choice: Any) -> int:
    """List the plugins that a host started here would serve, with what each brings."""
    from connector_core.cli.inspect import show_list

    return show_list(plugin_settings(**choice), as_json=as_json)


@command(
    "doctor",
    argument("plugin", help="Only this plugin.", required=False),
    flag("--flytekit", help="Say of each installed flytekit connector how it is served."),
    flag("--flyte", help="Say of each installed connector of flyte's SDK 2 how it is served."),
    AS_JSON,
    *CHOICE,
)
def doctor(plugin: str | None, flytekit: bool, flyte: bool, as_json: bool, **choice: Any) -> int:
    """Examine every installed plugin: what it brings, how long it takes, what fails and where, what clashes.

    The exit code is 1 when something is wrong.
    """
    from connector_core.cli.inspect import show_bridged, show_examination

    settings = plugin_settings(**choice)
    if flytekit or flyte:
        return show_bridged(settings, "flytekit" if flytekit else "flyte", as_json=as_json)
    return show_examination(settings, plugin, as_json=as_json)

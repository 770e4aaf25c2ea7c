"""The commands that look at the installed plugins."""

from typing import Annotated, Any

import typer

from connector_core.cli.options import CHOICE, AsJson, given_settings, takes_settings


@takes_settings(*CHOICE)
def list_plugins(as_json: AsJson = False, **given: Any) -> int:
    """List the plugins that a host started here would serve, with what each brings."""
    from connector_core.cli.inspect import show_list

    return show_list(given_settings(given), as_json=as_json)


@takes_settings(*CHOICE)
def doctor(
    plugin: Annotated[str | None, typer.Argument(metavar="PLUGIN", help="Only this plugin.")] = None,
    flytekit: Annotated[
        bool, typer.Option("--flytekit", help="Say of each installed flytekit connector how it is served.")
    ] = False,
    flyte: Annotated[
        bool, typer.Option("--flyte", help="Say of each installed connector of flyte's SDK 2 how it is served.")
    ] = False,
    as_json: AsJson = False,
    **given: Any,
) -> int:
    """Examine every installed plugin: what it brings, how long it takes, what fails and where, what clashes.

    The exit code is 1 when something is wrong.
    """
    from connector_core.cli.inspect import show_bridged, show_examination

    settings = given_settings(given)
    if flytekit or flyte:
        return show_bridged(settings, "flytekit" if flytekit else "flyte", as_json=as_json)
    return show_examination(settings, plugin, as_json=as_json)

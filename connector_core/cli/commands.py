"""typer's commands and groups as this program has them: values as they are given, and plain help."""

from typing import Any

from typer.core import TyperCommand, TyperGroup


class _AsGiven:
    """Stands where typer 0.29 and newer keep what coerces a parameter's value, and leaves the value alone.

    Theirs imports pydantic for the first parameter, which costs a start 60 ms and 8 MB. Nothing is lost: settings
    are validated by `load_settings`, and each other parameter that is not a text has a callback.
    """

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ARG002 - typer's signature
        """Return the value; of a list that was not given, an empty one."""
        return () if value is None and (param.multiple or param.nargs == -1) else value


_AS_GIVEN = _AsGiven()


def _as_given(params: list[Any]) -> list[Any]:
    """Keep parameters from coercion: the one use of a private part of typer, without which it is only slower."""
    for param in params:
        if hasattr(param, "_runtime_param"):
            param._runtime_param = _AS_GIVEN
    return params


class PlainCommand(TyperCommand):
    """A command, whose help is the same whatever the version of typer."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, which do not coerce."""
        return _as_given(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the command in its usage line."""
        return ["[OPTIONS]", *(argument_usage(param) for param in self.get_params(ctx) if is_argument(param))]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options."""
        params = self.get_params(ctx)
        if arguments := [(argument_usage(param), param.help or "") for param in params if is_argument(param)]:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        options = [param.get_help_record(ctx) for param in params if not is_argument(param)]
        with formatter.section("Options"):
            formatter.write_dl([record for record in options if record is not None])  # hidden ones have none


class PlainGroup(TyperGroup):
    """A group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, which do not coerce."""
        return _as_given(super().get_params(ctx))


def is_argument(param: Any) -> bool:
    """Return whether a parameter is an argument, and not an option."""
    return bool(param.param_type_name == "argument")


def argument_usage(param: Any) -> str:
    """Return how an argument is written in a usage line."""
    name: str = param.metavar or param.name.upper()
    shown = name if param.required else f"[{name}]"
    return f"{shown}..." if param.nargs == -1 else shown

"""Connections to PostgreSQL: opened with a session's settings, their errors told apart."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from connector_core import BackendUnavailableError, ConnectorError, PermissionDeniedError, get_secret
from connector_plugin_postgres.config import SECTION, Database

if TYPE_CHECKING:
    import asyncpg

_EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 - PostgreSQL counts from it, with and without a time zone
_DAY_ZERO = date(2000, 1, 1).toordinal()
_INFINITE = {2**63 - 1: "infinity", -(2**63): "-infinity", 2**31 - 1: "infinity", -(2**31): "-infinity"}
_CHECKS_CONNECTIONS = 14
_CLOSE_SECONDS = 2.0
_LOGIN_REFUSED = ("28", "3D")


class OutOfRange(str):
    """A moment that Python has no value for: `infinity`, or a year outside of 1 to 9999."""

    __slots__ = ()


async def connect(name: str, database: Database, application: str) -> "asyncpg.Connection[Any]":
    """Open a connection and set its session up.

    Raises:
        BackendUnavailableError: the server cannot be reached, or has no connection left.
        PermissionDeniedError: the server does not let the connection's user in.
    """
    import asyncpg  # for hosts that run something

    settings = {"application_name": application, "standard_conforming_strings": "on"}
    settings["statement_timeout"] = str(round(database.statement_timeout * 1000))
    settings["default_transaction_read_only"] = "on" if database.read_only else "off"
    if database.role:
        settings["role"] = database.role
    password = get_secret(database.secret, database.group).get_secret_value() if database.secret else None
    try:
        connection = await asyncpg.connect(
            database.dsn,
            password=password,
            timeout=database.connect_timeout,
            server_settings=settings,
            statement_cache_size=0,
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _not_connected(name, error) from error
    try:
        await _set_up(connection, database)
    except BaseException as error:
        connection.terminate()
        if is_lost(error, connection):
            raise _not_connected(name, error) from error
        raise
    return connection


async def close(connection: Any) -> None:
    """Close a connection; what was not committed on it is undone by the server."""
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await connection.close()
    except BaseException as error:
        connection.terminate()
        if not isinstance(error, Exception):
            raise


async def _set_up(connection: Any, database: Database) -> None:
    import asyncpg

    if database.connection_check_interval and connection.get_server_version().major >= _CHECKS_CONNECTIONS:
        interval = str(round(database.connection_check_interval * 1000))
        with contextlib.suppress(asyncpg.InvalidParameterValueError):  # the server's system cannot do that
            await connection.execute("SELECT set_config('client_connection_check_interval', $1, false)", interval)
    # asyncpg's own decoders turn infinity into the year 9999, and a month into 30 days.
    for kind, (encode, decode) in _MOMENTS.items():
        await connection.set_type_codec(kind, schema="pg_catalog", format="tuple", encoder=encode, decoder=decode)
    await connection.set_type_codec("interval", schema="pg_catalog", format="text", encoder=_interval_text, decoder=str)


def _not_connected(name: str, error: BaseException) -> ConnectorError:
    state = getattr(error, "sqlstate", None) or ""
    if state.startswith(_LOGIN_REFUSED):
        return PermissionDeniedError(
            f"connection {name!r}: the server refuses the login: {error}; the operator sets it in {SECTION}",
            error_code=f"SQLSTATE_{state}",
        )
    reason = str(error) or type(error).__name__
    return BackendUnavailableError(f"connection {name!r}: the server cannot be reached: {reason}")


def is_lost(error: BaseException, connection: Any) -> bool:
    """Say whether an error means that the connection is gone, and how its statement ended is not known from it."""
    import asyncpg

    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state.startswith(("08", "57P")) or state == "25P03"
    if isinstance(error, asyncpg.InterfaceError | OSError):
        # Files of results raise such errors, too.
        return connection is not None and connection.is_closed()
    return isinstance(error, asyncpg.InternalClientError)


def _from_microseconds(zone: Any) -> Callable[[tuple[int]], datetime | OutOfRange]:
    def decode(value: tuple[int]) -> datetime | OutOfRange:
        try:
            return (_EPOCH + timedelta(microseconds=value[0])).replace(tzinfo=zone)
        except OverflowError:
            return OutOfRange(_INFINITE.get(value[0], "a year outside of 1 to 9999"))

    return decode


def _to_microseconds(value: Any) -> tuple[int]:
    if not isinstance(value, datetime):
        raise TypeError(f"expected a datetime, got {type(value).__name__}")  # asyncpg says for which parameter
    naive = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    return ((naive - _EPOCH) // timedelta(microseconds=1),)


def _from_days(value: tuple[int]) -> date | OutOfRange:
    try:
        return date.fromordinal(_DAY_ZERO + value[0])
    except (ValueError, OverflowError):
        return OutOfRange(_INFINITE.get(value[0], "a year outside of 1 to 9999"))


def _to_days(value: Any) -> tuple[int]:
    if not isinstance(value, date):
        raise TypeError(f"expected a date or datetime, got {type(value).__name__}")
    return (value.toordinal() - _DAY_ZERO,)


def _interval_text(value: Any) -> str:
    if not isinstance(value, timedelta):
        raise TypeError(f"expected a timedelta, got {type(value).__name__}")
    return f"{value.days} days {value.seconds}.{value.microseconds:06} seconds"


_MOMENTS: dict[str, tuple[Callable[[Any], tuple[int]], Callable[[tuple[int]], Any]]] = {
    "timestamptz": (_to_microseconds, _from_microseconds(UTC)),
    "timestamp": (_to_microseconds, _from_microseconds(None)),
    "date": (_to_days, _from_days),
}

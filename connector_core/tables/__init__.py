"""Tables of settings: classes with annotated fields, read from what an operator wrote, each mistake named with its place.

A value may be written as the type that a field has, or as the text that a variable of the environment can hold.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from msgspec import Meta

from connector_core.errors import SettingsError
from connector_core.tables.declaring import After, Before, Field, Flag, Table, described, finite, made_table
from connector_core.tables.mistakes import Mistake, TableError, explain, near
from connector_core.tables.readers import file_name, reader

__all__ = [
    "After",
    "Before",
    "Field",
    "Flag",
    "Meta",
    "Mistake",
    "Table",
    "TableError",
    "described",
    "file_name",
    "finite",
    "made_table",
    "near",
    "read",
    "read_table",
]

TableT = TypeVar("TableT", bound=Table)


def read(kind: type[TableT], given: Mapping[str, Any]) -> TableT:
    """Return a table of what is given, for those who explain mistakes in their own words.

    Raises:
        TableError: with every mistake.
    """
    table: TableT = reader(kind)(given)
    return table


def read_table(kind: type[TableT], given: Mapping[str, Any], title: str) -> TableT:
    """Return a table of what is given.

    Args:
        kind: the table's class.
        given: what the operator wrote, such as the `config` of a plugin.
        title: what the table is called in errors, such as `[plugins.warehouse]`.

    Raises:
        SettingsError: naming each key that is unknown or has an impossible value.
    """
    try:
        return read(kind, given)
    except TableError as error:
        raise SettingsError(f"{title}: {'; '.join(map(explain, error.mistakes))}") from None

"""The entry point's module: the hook that brings the connector."""

from collections.abc import Mapping, Sequence
from typing import Any

from connector_core import hookimpl
from connector_plugin_duckdb.config import load_config
from connector_plugin_duckdb.connector import DuckDBConnector


@hookimpl
def register_connectors(config: Mapping[str, Any], places: Sequence[str]) -> Sequence[DuckDBConnector]:
    """Bring the DuckDB connector, set up by `[plugins.duckdb]`, with what a local run names in addition."""
    return [DuckDBConnector(load_config(config).opened(places))]

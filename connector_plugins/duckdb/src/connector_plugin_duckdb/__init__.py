"""A Flyte connector that runs SQL on an embedded DuckDB."""

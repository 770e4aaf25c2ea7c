"""A Flyte connector that runs SQL on PostgreSQL."""

"""Connectors that are written for Flyte's SDK 2, served as they are."""

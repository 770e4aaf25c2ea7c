"""A Flyte connector for jobs and calls of systems with an HTTP API, declared in the operator's settings."""

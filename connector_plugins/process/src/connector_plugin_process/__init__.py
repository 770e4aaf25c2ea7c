"""A Flyte connector that runs allowed commands as local processes which outlive the host."""

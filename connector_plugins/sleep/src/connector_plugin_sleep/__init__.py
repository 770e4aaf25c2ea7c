"""A Flyte connector whose jobs do nothing for a while."""

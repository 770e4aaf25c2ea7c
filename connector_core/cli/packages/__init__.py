"""Plugins' packages come and go: an installer does it, the plugins are loaded before and after, and harm is undone."""

"""Processes of their own for plugins: started, supervised and called over an inherited pair of sockets.

Nothing is imported here: a location's process is `python -m connector_core.locations`, which needs half of this room.
"""

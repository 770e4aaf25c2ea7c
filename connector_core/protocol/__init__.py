"""The protocol in both of its generations: messages read and written, errors as statuses, and a client.

Nothing is imported here: `v2` needs an extra, and the client is for those who call hosts.
"""

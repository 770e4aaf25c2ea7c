"""flytekit's connectors on connector-host, as they are."""

"""`connector-host serve --reload`: a parent that watches sources, and serves by a child that it starts anew."""

"""`python -m connector_core.cli` is `connector-host`, with this interpreter."""

from connector_core.cli import main

if __name__ == "__main__":
    main()

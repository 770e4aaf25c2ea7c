"""`python -m connector_core.locations FD`: a location's process, started by a host and by nobody else."""

import sys

from connector_core.locations.child import main

if __name__ == "__main__":
    main(sys.argv)

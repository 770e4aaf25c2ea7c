"""What Flyte's SDK warns of while it is imported is its own affair, whichever test imports it first."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import flyte.io  # noqa: F401 - pydantic has deprecated how its classes are configured

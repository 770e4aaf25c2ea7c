"""Which distributions of others are run, and in which versions; the page that says what was run names them too."""

FLYTEKIT = "1.16.31"
SERVER = [f"flytekit=={FLYTEKIT}", "httpx", "prometheus-client"]
"""What flytekit's server needs. The extra that it has for that, `connector`, holds gRPC and protobuf to older versions."""

OF_OPENAI = [f"flytekitplugins-openai=={FLYTEKIT}", "openai==3.54.0"]
OF_CLOUDS = [
    f"flytekitplugins-awssagemaker=={FLYTEKIT}",
    "botocore==1.40.61",
    f"flytekitplugins-snowflake=={FLYTEKIT}",
    "snowflake-connector-python==4.8.1",
]

FAKESNOW = ["fakesnow[server]==0.12.1", "snowflake-connector-python==4.8.1"]
"""The server; without the second one it gets a client that it does not import with."""

FLYTE = ["flyte[connector]==2.12.1", "flyteplugins-snowflake==2.12.1", "snowflake-connector-python==4.8.1"]
"""Flyte's SDK 2, with what its server needs."""

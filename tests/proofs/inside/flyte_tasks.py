"""Tasks of Flyte's SDK 2 as their author writes them, serialised by the SDK itself: run in its environment."""

import sys
from pathlib import Path

from flyte import TaskEnvironment
from flyte._internal.runtime.task_serde import translate_task_to_wire
from flyte.io import DataFrame
from flyte.models import SerializationContext
from flyteplugins.snowflake import Snowflake, SnowflakeConfig

context = SerializationContext(version="v1", project="flyte", domain="development", org="acme")
config = SnowflakeConfig(user="sam", account="acme-eu1", database="SHOP", schema="PUBLIC", warehouse="COMPUTE")
with_key = {"plugin_config": config, "snowflake_private_key": "snowflake_private_key"}

tasks = [
    Snowflake(name=name, query_template=statement, **with_key)
    for name, statement in {
        "create_table": "create or replace table pieces (customer varchar, pieces integer)",
        "broken": "select * from nowhere",
    }.items()
]
tasks.append(
    Snowflake(
        name="insert_batch",
        query_template="insert into pieces (customer, pieces) values (%(customer)s, %(pieces)s)",
        inputs={"customer": list[str], "pieces": list[int]},
        batch=True,
        **with_key,
    )
)
tasks.append(
    Snowflake(
        name="query",
        query_template="select pieces from pieces where customer = %(customer)s",
        inputs={"customer": str},
        output_dataframe_type=DataFrame,
        **with_key,
    )
)

TaskEnvironment.from_task("snowflake", *tasks)
for task in tasks:
    template = translate_task_to_wire(task, context).task_template
    (Path(sys.argv[1]) / f"{task.name}.pb").write_bytes(template.SerializeToString())

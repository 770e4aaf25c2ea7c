"""Tasks as a workflow's author writes them, serialised by flytekit itself: run in its environment with a folder to fill."""

import sys
from collections import OrderedDict
from pathlib import Path

from flytekit import kwtypes
from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.extras.webhook import WebhookTask
from flytekit.sensor.file_sensor import FileSensor
from flytekit.tools.translator import get_serializable
from flytekit.types.structured import StructuredDataset

settings = SerializationSettings(
    image_config=ImageConfig(), project="flyte", domain="development", version="v1", env={"FROM": "the workflow"}
)


def webhooks():
    yield WebhookTask(
        name="post",
        url="{inputs.url}",
        method="POST",
        headers={"X-Team": "{inputs.team}"},
        data={"text": "{inputs.text}", "nested": {"times": "{inputs.times}", "list": ["a", "{inputs.text}"]}},
        dynamic_inputs=kwtypes(url=str, text=str, team=str, times=int),
        show_data=True,
        show_url=True,
    )
    yield WebhookTask(
        name="get",
        url="{inputs.url}",
        method="GET",
        headers={"Accept": "text/plain"},
        data={"q": "{inputs.text}"},
        dynamic_inputs=kwtypes(url=str, text=str),
    )


def sensors():
    yield FileSensor(name="wait_for_file")


def openai():
    from flytekitplugins.openai import ChatGPTTask
    from flytekitplugins.openai.batch.task import BatchEndpointTask

    yield ChatGPTTask(
        name="chat",
        openai_organization="org-of-tests",
        chatgpt_config={"model": "gpt-test", "temperature": 0.5, "max_tokens": 16},
    )
    yield BatchEndpointTask(
        name="batch",
        openai_organization="org-of-tests",
        config={"metadata": {"team": "red"}, "completion_window": "24h"},
    )
    yield BatchEndpointTask(name="batch_of_defaults", openai_organization="org-of-tests", config={})


def aws():
    from flytekitplugins.awssagemaker_inference import BotoConfig, BotoTask, SageMakerEndpointTask

    yield BotoTask(
        name="model",
        task_config=BotoConfig(
            service="sagemaker",
            method="create_model",
            config={
                "ModelName": "{inputs.name}-{idempotence_token}",
                "PrimaryContainer": {"Image": "{images.serving}", "ModelDataUrl": "s3://bucket/model.tar.gz"},
                "ExecutionRoleArn": "arn:aws:iam::123456789012:role/sagemaker",
            },
            region="us-east-2",
            images={"serving": "{account_id}.dkr.ecr.{region}.{base}/sagemaker-tritonserver:21.08-py3"},
        ),
        inputs=kwtypes(name=str),
    )
    yield BotoTask(
        name="endpoint_config",
        task_config=BotoConfig(
            service="sagemaker",
            method="create_endpoint_config",
            config={
                "EndpointConfigName": "{inputs.name}",
                "ProductionVariants": [
                    {
                        "VariantName": "variant-1",
                        "ModelName": "{inputs.model}",
                        "InitialInstanceCount": 1,
                        "InstanceType": "ml.m4.xlarge",
                    }
                ],
            },
            region="us-east-2",
        ),
        inputs=kwtypes(name=str, model=str),
    )
    yield BotoTask(
        name="parameters",
        task_config=BotoConfig(
            service="ssm", method="describe_parameters", config={"MaxResults": 5}, region="us-east-2"
        ),
        inputs={},
    )
    yield SageMakerEndpointTask(
        name="endpoint",
        config={"EndpointName": "{inputs.name}", "EndpointConfigName": "{inputs.config}"},
        region="us-east-2",
        inputs=kwtypes(name=str, config=str),
    )


def snowflake():
    from flytekitplugins.snowflake import SnowflakeConfig, SnowflakeTask

    config = SnowflakeConfig(user="sam", account="acme-eu1", database="SHOP", schema="PUBLIC", warehouse="COMPUTE")
    for name, statement in {
        "create_table": "create or replace table orders (customer varchar, pieces integer)",
        "insert": "insert into orders values ('bob', 3), ('eve', 5)",
        "broken": "select * from nowhere",
    }.items():
        yield SnowflakeTask(name=name, query_template=statement, task_config=config)
    yield SnowflakeTask(
        name="query",
        query_template="select pieces from orders where customer = %(customer)s",
        task_config=config,
        inputs=kwtypes(customer=str),
        output_schema_type=StructuredDataset,
    )


def main(folder, *groups):
    for group in groups:
        for task in globals()[group]():
            template = get_serializable(OrderedDict(), settings, task).template
            (folder / f"{task.name}.pb").write_bytes(template.to_flyte_idl().SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

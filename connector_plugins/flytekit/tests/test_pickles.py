"""Which resource metas are seen to be unpickled."""

import pickle
from pickle import loads as read_it
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest
from flytekit.extend.backend.base_connector import ResourceMeta
from flytekit.sensor.base_sensor import SensorMetadata

from connector_plugin_flytekit.metas import unpickles


def helper(data: bytes) -> Any:
    return _deeper(data)


def _deeper(data: bytes) -> Any:
    return pickle.loads(data)


class ByModule(ResourceMeta):
    @classmethod
    def decode(cls, data: bytes) -> Any:
        return cloudpickle.loads(data)


class ByName(ResourceMeta):
    @classmethod
    def decode(cls, data: bytes) -> Any:
        return read_it(data)


class Inherited(ByModule):
    pass


class Inside(ResourceMeta):
    @staticmethod
    def decode(data: bytes) -> Any:
        import dill  # type: ignore[import-not-found]

        return dill.loads(data)


class ByHelper(ResourceMeta):
    @classmethod
    def decode(cls, data: bytes) -> Any:
        return [helper(part) for part in (data,)]


class Plain(ResourceMeta):
    pass


class Own(ResourceMeta):
    @classmethod
    def decode(cls, data: bytes) -> Any:
        return cls(*data.decode().split(","))


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        (ByModule, "cloudpickle"),
        (ByName, "_pickle"),
        (Inherited, "cloudpickle"),
        (Inside, "dill"),
        (ByHelper, "pickle"),
        (Plain, None),
        (Own, None),
        (SensorMetadata, None),
        (None, None),
    ],
)
def test_code_that_unpickles_is_seen(kind: Any, module: str | None) -> None:
    assert unpickles(kind) == module

"""Undo of what the import of flyte's SDK does to a process: its log lines go the host's way."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

SDK = "flyte.connectors"
"""The module that every connector of the SDK imports."""

_FOR_GRPC = ("GRPC_VERBOSITY", "GRPC_CPP_MIN_LOG_LEVEL", "GRPC_ENABLE_FORK_SUPPORT", "GLOG_minloglevel", "ABSL_LOG")
"""Variables that the SDK sets, and the host's children would inherit."""


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Undo at the block's end what the SDK's import in it has changed, and nothing that others have.

    The SDK is made for programs of its own: importing it replaces `sys.excepthook` and the log record factory, wraps the root
    logger's formatters, logs past the root logger and sets variables.
    """
    if SDK in sys.modules:
        yield
        return
    hook, factory = sys.excepthook, logging.getLogRecordFactory()
    unset = [name for name in _FOR_GRPC if name not in os.environ]
    formatters = [(handler, handler.formatter) for handler in logging.getLogger().handlers]
    try:
        yield
    finally:
        if "flyte" in sys.modules:
            if _is_sdk(sys.excepthook):
                sys.excepthook = hook
            if _is_sdk(logging.getLogRecordFactory()):
                logging.setLogRecordFactory(factory)
            for handler, formatter in formatters:
                if _is_sdk(type(handler.formatter)):
                    handler.setFormatter(formatter)
            for name in unset:
                os.environ.pop(name, None)
            _log_to_host()


def _is_sdk(thing: object) -> bool:
    return str(getattr(thing, "__module__", "")).split(".")[0] == "flyte"


def _log_to_host() -> None:
    for name in ("flyte", "flyte.user"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True

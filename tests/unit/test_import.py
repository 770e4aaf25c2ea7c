"""Importing does nothing: no gRPC for authors, no threads, no settings read."""

import subprocess
import sys
import textwrap


def run(code: str) -> str:
    """Run Python code in a process of its own, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_core_leaves_grpc_out() -> None:
    loaded = run("""
        import sys
        import connector_core
        others = ("grpc", "click", "starlette", "pydantic", "prometheus_client", "structlog")
        print([name for name in others if name in sys.modules])
    """)
    assert loaded == "[]"


def test_what_the_core_offers_is_there() -> None:
    assert run("from connector_core import *; print(AsyncConnectorBase.__name__, hookimpl is not None)")


def test_importing_every_module_starts_no_thread_and_reads_no_environment() -> None:
    """Reads by our own modules, that is: gRPC's and others' are theirs."""
    assert (
        run("""
        import importlib, os, pkgutil, sys, threading
        from collections.abc import Mapping

        class Watched(type(os.environ)):
            def __getitem__(self, key):
                frame = sys._getframe(1)
                while frame.f_globals.get("__name__") in {"os", "_collections_abc", "collections.abc"}:
                    frame = frame.f_back
                reader = frame.f_globals.get("__name__", "")
                assert not reader.startswith("connector_core"), (reader, key)
                return super().__getitem__(key)

        import connector_core
        os.environ.__class__ = Watched
        os.environ.get("HOME")
        for module in pkgutil.walk_packages(connector_core.__path__, "connector_core."):
            if not module.name.startswith("connector_core.template"):
                importlib.import_module(module.name)
        print([thread.name for thread in threading.enumerate()])
    """)
        == "['MainThread']"
    )

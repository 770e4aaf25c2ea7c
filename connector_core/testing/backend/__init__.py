"""A backend for tests: it starts jobs, remembers every one of them, and has the trouble that a test plans."""

from connector_core.testing.backend.backend_connector import BackendConnector, BackendJobMeta
from connector_core.testing.backend.backend_jobs import BackendCall, FakeBackendError, Job, JobState
from connector_core.testing.backend.held_requests import Hold
from connector_core.testing.backend.service import FakeBackend

__all__ = [
    "BackendCall",
    "BackendConnector",
    "BackendJobMeta",
    "FakeBackend",
    "FakeBackendError",
    "Hold",
    "Job",
    "JobState",
]

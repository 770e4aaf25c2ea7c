"""The file that stands for a job's row where transactions are read-only: written last, below the output prefix."""

import asyncio
import base64
import json

from connector_core import Phase
from connector_plugin_postgres.ledger import Ending
from connector_plugin_postgres.storage import Storage, translated

_LONGEST = 16 * 1024 * 1024
_NAME = 16


class Manifest:
    """A job's manifest.

    Args:
        storage: where it is.
        uri: its place.
        job: the job that it has to be of.
    """

    def __init__(self, storage: Storage, uri: str, job: str) -> None:
        self._storage = storage
        self._uri = uri
        self._job = job

    @staticmethod
    def uri_for(prefix: str, job: str) -> str:
        """Return where the manifest of a job is."""
        return f"{prefix.rstrip('/')}/_postgres-{job[:_NAME]}.json"

    async def write(self, ending: Ending) -> None:
        """Write how the job ended, when everything else is in its place."""
        content = {"job": self._job, "outputs": base64.b64encode(ending.outputs).decode()}
        await asyncio.to_thread(self._write, json.dumps(content).encode())

    async def read(self) -> Ending | None:
        """Return how the job ended, if it is there and of this job."""
        content = await asyncio.to_thread(self._storage.read, self._uri, _LONGEST)
        try:
            found = json.loads(content or b"null")
            if isinstance(found, dict) and found.get("job") == self._job:
                return Ending(Phase.SUCCEEDED, base64.b64decode(found["outputs"]))
        except (ValueError, KeyError, TypeError):
            pass  # something else is there
        return None

    def _write(self, content: bytes) -> None:
        target = self._storage.open(self._uri)
        try:
            with translated(f"write {self._uri}"):
                target.file.write(content)
                target.commit()
        except BaseException:
            target.discard()
            raise

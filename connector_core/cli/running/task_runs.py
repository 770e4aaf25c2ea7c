"""The work of the commands that run tasks, on a host: run, show, print the log, delete."""

import asyncio
import contextlib
import json
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from flyteidl.admin import agent_pb2

from connector_core.cli.running.display import is_over, phase_name, with_message
from connector_core.cli.running.following import Attendance, LogReader
from connector_core.cli.running.host_client import CallError
from connector_core.cli.running.job import Job
from connector_core.cli.running.order import Order, category_of
from connector_core.cli.running.outputs import print_json, print_outputs
from connector_core.cli.running.session import Interrupted, Manner, Session, carry_out
from connector_core.errors import SettingsError
from connector_core.resource import Phase
from connector_core.task import TaskCategory

_RUN_FOLDER = "connector-host-run-"
"""The head of the name of a folder for outputs that nobody asked for."""

__all__ = ["Manner", "Order", "delete_job", "run_task", "show_job", "show_logs"]


def run_task(order: Order, manner: Manner, *, output_prefix: str | None, detach: bool) -> int:
    """Run a task to its end, or start its job and print the handle; return the exit code.

    Raises:
        SetupError: what is asked cannot be used, or the host not be put together.
    """
    request = order.to_request()
    category = category_of(request.template)

    async def run(session: Session) -> int:
        try:
            if await session.interrupts.before_first(session.client.is_sync(category)):
                return await _answer_at_once(session, request, detach=detach)
            job = await _create(session, request)
            return await (_detach(session, job) if detach else _attend(session, job))
        except CallError as error:
            _explain_folder(session, request.output_prefix, str(error))
            raise

    with _output_folder(output_prefix, is_here=not manner.endpoint, keep=detach) as request.output_prefix:
        places = [request.output_prefix, *order.places()]
        return carry_out(run, manner, category, live_hint="" if detach else "Ctrl-C stops it", places=places)


def show_job(handle: str, manner: Manner, *, wait: bool) -> int:
    """Show how a job is doing, or watch it to its end.

    Raises:
        SetupError: as `run_task` does.
    """
    job = Job.from_text(handle)

    async def show(session: Session) -> int:
        if wait:
            return await _attend(session, job, owns=False)
        resource = await session.interrupts.before_first(session.client.get(job))
        session.view.state(resource)
        if is_over(resource):
            session.view.say(with_message(phase_name(resource), resource))
        _print(session, resource)
        return 0

    hint = "Ctrl-C ends watching; the job goes on" if wait else ""
    return carry_out(show, manner, job.category, endpoint=job.endpoint, live_hint=hint)


def show_logs(handle: str, manner: Manner, *, follow: bool) -> int:
    """Print a job's log.

    Raises:
        SetupError: as `run_task` does.
    """
    job = Job.from_text(handle)

    async def show(session: Session) -> int:
        reader = LogReader(session.client, job, lambda lines: print(*lines, sep="\n", file=session.out, flush=True))
        work = _follow(session, job, reader) if follow else reader.read_to_end()
        await session.interrupts.before_first(work)
        return 0

    return carry_out(show, manner, job.category, endpoint=job.endpoint)


def delete_job(handle: str, manner: Manner) -> int:
    """Ask the connector to delete a job, and wait for that.

    Raises:
        SetupError: as `run_task` does.
    """
    job = Job.from_text(handle)

    async def delete(session: Session) -> int:
        attendance = Attendance(session.client, job, session.view, manner.interval)
        resource = await session.interrupts.before_first(attendance.delete())
        message = "Deleted; the job is" if is_over(resource) else "Delete requested; the job is still"
        session.view.say(f"{message} {with_message(phase_name(resource), resource)}")
        return 0

    return carry_out(delete, manner, job.category, endpoint=job.endpoint)


@contextlib.contextmanager
def _output_folder(prefix: str | None, *, is_here: bool, keep: bool) -> Iterator[str]:
    """Yield the output prefix: unless one is given, that of a new folder, which is removed if nothing is put into it.

    For a host elsewhere (not `is_here`) it is only named: that may run as another user, who could not write into ours.
    """
    if prefix is not None:
        yield prefix if "://" in prefix else Path(prefix).resolve().as_uri()
        return
    if not is_here:
        yield (Path(tempfile.gettempdir()).resolve() / f"{_RUN_FOLDER}{uuid.uuid4().hex}").as_uri()
        return
    folder = Path(tempfile.mkdtemp(prefix=_RUN_FOLDER)).resolve()
    try:
        yield folder.as_uri()
    finally:
        if any(folder.iterdir()):
            print(f"what the task has written is in {folder}", file=sys.stderr)
        elif not keep:
            folder.rmdir()


async def _answer_at_once(session: Session, request: agent_pb2.CreateTaskRequest, *, detach: bool) -> int:
    if detach:
        raise SettingsError(f"{request.template.type!r} is answered at once, so there is nothing to --detach from")
    session.view.doing("running")
    session.view.start_clock()
    try:
        resource = await session.interrupts.before_first(session.client.execute(request))
    except Interrupted:
        session.view.say("stopped")
        raise
    return _show_end(session, resource, request.output_prefix)


async def _create(session: Session, request: agent_pb2.CreateTaskRequest) -> Job:
    """Start the job. A create that is under way is awaited even after a Ctrl-C, as its job could not be found again."""
    session.view.doing("creating")
    session.view.start_clock()
    creating = asyncio.create_task(session.client.create(request))
    try:
        await session.interrupts.before_first(asyncio.wait_for(asyncio.shield(creating), None))
    except Interrupted:
        session.view.say("waiting for the create, to delete what it starts; Ctrl-C again gives up waiting")
        try:
            await session.interrupts.before_second(asyncio.wait_for(asyncio.shield(creating), None))
        except Interrupted:
            creating.cancel()
            session.view.say("given up: a job may have been started")
            raise
    session.view.doing("")
    category: TaskCategory = category_of(request.template)
    return Job(category, creating.result(), request.output_prefix, session.endpoint)


async def _attend(session: Session, job: Job, *, owns: bool = True) -> int:
    session.view.doing("")
    attendance = Attendance(session.client, job, session.view, session.manner.interval)
    try:
        resource = await attendance.until_end(session.interrupts, owns=owns)
    except (Interrupted, CallError):
        session.view.say(f"the job may be running still: connector-host get|logs|delete {job.to_text()}")
        raise
    return _show_end(session, resource, job.output_prefix)


async def _detach(session: Session, job: Job) -> int:
    try:
        resource = await session.client.get(job)
    except CallError as error:
        resource = agent_pb2.Resource(message=str(error))
    if is_over(resource) and resource.phase != Phase.SUCCEEDED.value:
        return _show_end(session, resource, job.output_prefix)
    handle = job.to_text()
    if session.manner.as_json:
        described = {"handle": handle, "phase": phase_name(resource), "message": resource.message}
        print(json.dumps(described, indent=2), file=session.out, flush=True)
    else:
        session.view.say(with_message(phase_name(resource), resource))
        session.view.say("the handle is for: connector-host get|logs|delete HANDLE")
        print(handle, file=session.out, flush=True)
    return 0


async def _follow(session: Session, job: Job, reader: LogReader) -> None:
    over = asyncio.Event()

    async def watch() -> None:
        try:
            while True:
                if is_over(await session.client.get(job)):
                    return
                await asyncio.sleep(session.manner.interval)
        finally:
            over.set()

    watching = asyncio.create_task(watch())
    try:
        await reader.follow(over, session.manner.interval)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def _show_end(session: Session, resource: agent_pb2.Resource, prefix: str) -> int:
    """Show a job's last state and outputs; return 0 only for a success that nobody interrupted."""
    session.view.ended(resource)
    _print(session, resource)
    _explain_folder(session, prefix, f"{resource.message} {resource.outputs}")
    if session.interrupts.is_interrupted:
        return session.interrupts.exit_code
    return 0 if resource.phase == Phase.SUCCEEDED.value else 1


def _explain_folder(session: Session, prefix: str, text: str) -> None:
    """Say where a host's outputs are, where a text is about the folder that was made up for a host on another machine."""
    folder = url2pathname(urlsplit(prefix).path)
    if session.endpoint and _RUN_FOLDER in prefix and folder in text and not Path(folder).exists():
        session.view.say(
            f"{folder} is a folder on the machine of {session.endpoint}: with --output-prefix, name a folder there that "
            "this host may write to, or a URI that can be read from here as well, such as s3://BUCKET/FOLDER"
        )


def _print(session: Session, resource: agent_pb2.Resource) -> None:
    if session.manner.as_json:
        print_json(resource, session.out)
    else:
        print_outputs(resource, session.out)

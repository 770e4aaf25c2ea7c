"""What must be true of a world once things have settled, with each honest exception as code: docs/explanation/semantics.md."""

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum, auto

from grpc import StatusCode

from connector_core import Phase
from connector_core.testing.backend import BackendJobMeta, Job, JobState
from connector_core.testing.propeller import Attempt, Call, EngineTask
from tests.support.faulty_world import LOST, LOST_REPLY, World, creates_of, is_promise, key_of, last_word

OK = StatusCode.OK
MAX_FAILED_GETS = 6
MAX_FAILED_ROUNDS = 10
PASSING = {429, 503, LOST_REPLY}
"""Statuses of a backend whose trouble passes."""

_ENDS = {JobState.SUCCEEDED: Phase.SUCCEEDED, JobState.FAILED: Phase.FAILED, JobState.CANCELLED: Phase.FAILED}


class Answer(Enum):
    """What is known of the answer to an attempt's create."""

    GOT = auto()
    SENT = auto()
    PERHAPS = auto()
    NONE = auto()


# At any time


def broken_at_any_time(world: World) -> list[str]:
    """Return what is wrong now, and will not be right later."""
    return [*_given_anothers_job(world), *_live_after_delete(world), *_reverted(world), *_promise_forgotten(world)]


def _given_anothers_job(world: World) -> Iterator[str]:
    for task, attempt in world.attempts():
        job = job_of(world, attempt)
        if job is not None and job.spec["output_prefix"] != attempt.output_prefix:
            yield f"{task} was given {job.id}, which is the job of {job.spec['output_prefix']}"


def _live_after_delete(world: World) -> Iterator[str]:
    for task, attempt in world.attempts():
        if is_promised(attempt):
            continue  # the job may be started later, and is deleted then: see `_superfluous`
        if _is_deleted(task, attempt) and (job := job_of(world, attempt)) is not None and job.is_live:
            yield f"{job.id} is live after a DeleteTask that was answered OK: {task}"


def _reverted(world: World) -> Iterator[str]:
    if not world.memory.survives and world.ends:
        return  # a terminal phase stands as long as it is remembered
    yield from world.reversions
    for task, attempt in world.attempts():
        polls = [
            call for call in task.calls if call not in world.asked
        ]  # one after the other, as the engine makes them
        told = last_word(polls, attempt.number)
        phases = [
            int(call.resource.phase) for call in polls if call.attempt == attempt.number and call.resource is not None
        ]
        if told is not None and set(phases[phases.index(told) :]) != {told}:
            yield f"a terminal phase has reverted: {phases} of {task}"


def _promise_forgotten(world: World) -> Iterator[str]:
    """A memory that survives knows of every promise: a poll or a DeleteTask never finds that it does not."""
    if not world.memory.survives:
        return
    for task in world.tasks:
        for call in task.calls:
            text = call.details if call.resource is None else call.resource.message
            if "setting memory.kind" in text or "what was remembered" in text:
                yield f"a promise is not known any more: {text} ({task})"


# Once the engine knows of each task that it has ended, or that its job runs


def doubled(world: World) -> list[str]:
    """Return the live jobs that should not be: beside another one of their task, without an excuse."""
    return [
        f"{job.id} of attempt {attempt.number} is live beside what {task} has now"
        for task, attempt in world.attempts()
        for job in _superfluous(world, task, attempt)
    ]


def _superfluous(world: World, task: EngineTask, attempt: Attempt) -> Sequence[Job]:
    live = [job for job in jobs_for(world, attempt) if job.is_live]
    if is_promised(attempt) and _is_deleted(task, attempt):
        return [] if _is_unknown(world, attempt) else live
    if _is_superseded(world, task, attempt):
        return [] if _outlives_its_attempt(world, task, attempt) else live
    return [] if _may_be_started_twice(world, attempt) else live[1:]


def _is_superseded(world: World, task: EngineTask, attempt: Attempt) -> bool:
    """Whether a later attempt of the task has come to a host."""
    return any(world.backend_was_asked(later) for later in task.attempts[attempt.number + 1 :])


def _outlives_its_attempt(world: World, task: EngineTask, attempt: Attempt) -> bool:
    """Whether nobody can know that this attempt's job is to be deleted.

    A create that was answered is never deleted without DeleteTask, also where the answer did not arrive, crossed the
    deadline, or was not saved. Of a create that fails the host knows no job, though the backend may have started one and
    lost its reply. What a host had under way when it crashed is not known, nor is anything that it kept in its process.
    """
    return answer_to(world, task, attempt) is not Answer.NONE or _is_unknown(world, attempt)


def _is_unknown(world: World, attempt: Attempt) -> bool:
    """Whether the hosts cannot know an attempt's job, though the backend may have started it."""
    return (
        _reply_of_start_was_lost(world, attempt)
        or attempt.output_prefix in world.forgotten
        or attempt.output_prefix in world.lost_with_memory
    )


def _may_be_started_twice(world: World, attempt: Attempt) -> bool:
    """Whether one attempt may have several jobs: never at a backend that takes the key.

    At one that does not, a create that is repeated starts another job where the host cannot know the first.
    """
    return not world.is_idempotent and _is_unknown(world, attempt)


def _reply_of_start_was_lost(world: World, attempt: Attempt) -> bool:
    statuses = _statuses_of_start(world, attempt)
    return LOST_REPLY in (statuses[-1:] if world.is_idempotent else statuses)


def _statuses_of_start(world: World, attempt: Attempt) -> list[int]:
    key = key_of(attempt)
    return [call.status for call in world.backend.calls if call.operation == "start" and call.subject == key]


# When all has ended


def broken_in_the_end(world: World) -> list[str]:
    """Return what is wrong when all jobs and tasks have ended."""
    return [
        *broken_at_any_time(world),
        *_deleted_without_reason(world),
        *_ended_otherwise(world),
        *_polls_failed(world),
        *_creates_failed(world),
    ]


def _deleted_without_reason(world: World) -> Iterator[str]:
    for task, attempt in world.attempts():
        for job in jobs_for(world, attempt):
            if "cancelled" in job.history and not _may_be_deleted(world, task, attempt, job):
                yield f"{job.id} of attempt {attempt.number} was deleted, though nobody asked for it: {task}"


def _may_be_deleted(world: World, task: EngineTask, attempt: Attempt, job: Job) -> bool:
    asked = [call for call in task.calls_of("DeleteTask") if call.attempt == attempt.number and _arrived(call)]
    if asked and (is_promised(attempt) or job_of(world, attempt) is job):
        return True
    if is_promised(attempt) and last_word(task.calls, attempt.number) == Phase.RETRYABLE_FAILED.value:
        return True  # told that its create was lost, which ended after all
    if world.promising is not None and _is_superseded(world, task, attempt):
        return True  # its create was promised, and still under way when the later attempt arrived
    answer = answer_to(world, task, attempt)
    unanswered = answer is Answer.NONE or answer is Answer.PERHAPS or (answer is Answer.SENT and world.ends > 0)
    return unanswered and _is_superseded(world, task, attempt)


def _ended_otherwise(world: World) -> Iterator[str]:
    for task in world.tasks:
        is_ended = task in world.aborted or task in world.deleted
        if task.is_forgotten or is_ended or task.attempt.failed_gets >= MAX_FAILED_GETS:
            continue
        if (expected := _expected_end(world, task)) is not None and task.phase not in expected:
            yield f"{task} should have ended in {expected}"
        jobs = _jobs_of(world, task.attempt)
        if task.phase is Phase.SUCCEEDED and jobs and task.outputs not in [job.outputs for job in jobs]:
            yield f"{task} has the outputs {task.outputs}, its jobs' are {[job.outputs for job in jobs]}"


def _expected_end(world: World, task: EngineTask) -> set[Phase] | None:
    """Return the phases that a task may have ended in; `None` where its end is the engine's own doing."""
    if task.attempt.resource_meta is None:
        used_up = len(task.attempts) >= task.max_attempts or task.failed_rounds >= MAX_FAILED_ROUNDS
        return None if used_up else set()
    jobs = _jobs_of(world, task.attempt)
    expected = {_ENDS[job.state] for job in jobs}
    if not jobs or any("purged" in job.history for job in jobs):
        expected.add(
            Phase.FAILED
        )  # a create that failed for good; the backend had forgotten the job before it was asked
    if is_promised(task.attempt) and _is_unknown(world, task.attempt):
        expected.add(Phase.FAILED)  # the create failed for all that the hosts know
    return expected


def _polls_failed(world: World) -> Iterator[str]:
    """A backend's trouble never fails a poll within the error budget; what fails one is the engine, the network, an end."""
    for task in world.tasks:
        for call in task.calls_of("GetTask"):
            if call.code is not OK and not _is_planned(call) and not world.ends:
                yield f"a poll failed though the host should have ridden it out: {call.details} ({task})"


def _creates_failed(world: World) -> Iterator[str]:
    """A create fails where the backend's trouble passes; what it refuses for good is answered, as a job that has failed."""
    for task, attempt in world.attempts():
        failed = [call for call in creates_of(task, attempt) if call.code is not OK and not _is_cut(world, call)]
        if failed and not world.ends and PASSING.isdisjoint(_statuses_of_start(world, attempt)):
            yield f"a create failed though it should not have: {failed[0].details} ({task})"


# What is known


def answer_to(world: World, task: EngineTask, attempt: Attempt) -> Answer:
    """Return what is known of the answer to an attempt's create."""
    calls = creates_of(task, attempt)
    if any(call.code is OK for call in calls):
        return Answer.GOT
    if any("the reply was lost" in call.details for call in calls):
        return Answer.SENT
    if len(calls) == 1 and attempt.output_prefix in world.unanswered_for_sure:
        return Answer.NONE
    may_have_crossed = world.ends or any(_is_cut(world, call) for call in calls)
    return Answer.PERHAPS if may_have_crossed and calls else Answer.NONE


def job_of(world: World, attempt: Attempt) -> Job | None:
    """Return the job whose handle the engine has; `None` where it has none, or that of a create that failed for good.

    A promise is the handle of the job that the backend has for its attempt, so far.
    """
    jobs = _jobs_of(world, attempt)
    return jobs[-1] if jobs else None


def _jobs_of(world: World, attempt: Attempt) -> Sequence[Job]:
    """Return the job whose handle the engine has; each job of an attempt that was promised, of which there may be several."""
    meta = attempt.resource_meta
    if meta is None:
        return []
    if is_promise(meta):
        return jobs_for(world, attempt)
    if meta.startswith(b"\0"):
        return []
    job_id = BackendJobMeta.decode(meta).job_id
    return [next(job for job in world.backend.jobs if job.id == job_id)]


def is_promised(attempt: Attempt) -> bool:
    """Return whether what the engine has of an attempt is a promise."""
    return attempt.resource_meta is not None and is_promise(attempt.resource_meta)


def jobs_for(world: World, attempt: Attempt) -> Sequence[Job]:
    """Return every job that was started for an attempt."""
    return [job for job in world.backend.jobs if job.spec["output_prefix"] == attempt.output_prefix]


def described(world: World) -> str:
    """Return all that happened, for a failure's message."""
    lines = [f"after {world.ends} ends of hosts; the backend takes keys: {world.is_idempotent}"]
    for task in world.tasks:
        lines.append(str(task))
        lines += [f"    attempt {call.attempt}: {call} {call.details[:150]}" for call in task.calls]
    keys = Counter(job.spec["output_prefix"] for job in world.backend.jobs)
    for job in world.backend.jobs:
        prefix = job.spec["output_prefix"]
        lines.append(f"{job.id} of {prefix} ({keys[prefix]} of it): {job.history}")
    return "\n".join(lines)


def _is_deleted(task: EngineTask, attempt: Attempt) -> bool:
    return any(call.attempt == attempt.number and call.code is OK for call in task.calls_of("DeleteTask"))


def _is_cut(world: World, call: Call) -> bool:
    """Return whether a create's caller has gone: at the test's word or, where creates have a deadline, at that."""
    has_passed = world.promising is not None and call.code is StatusCode.DEADLINE_EXCEEDED
    return has_passed or _is_planned(call)


def _arrived(call: Call) -> bool:
    return LOST not in call.details


def _is_planned(call: Call) -> bool:
    return "planned by the test" in call.details or "fell silent" in call.details

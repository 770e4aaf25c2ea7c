"""A call in the fake backend's hands, and what a test does to it: refuse it, lose its reply, hold it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from connector_core.testing.backend.backend_jobs import FakeBackendError, Job


@dataclass
class Trouble:
    """An error to answer, with or without the effect that was asked for; for ever where `times` is `None`."""

    operation: str
    status: int
    message: str
    has_effect: bool
    times: int | None


class Request:
    """A call: it takes effect at the backend whether or not its caller still waits."""

    def __init__(self, operation: str, subject: str | None, effect: Callable[[], Job], trouble: Trouble | None) -> None:
        self.operation = operation
        self.subject = subject
        self.status = 0
        self.is_answered = False
        self._effect = effect
        self._trouble = trouble
        self._outcome: Job | FakeBackendError | None = None

    def take_effect(self) -> bool:
        """Do what was asked; returns whether it was now, since it is done only once."""
        if self._outcome is not None:
            return False
        self._outcome = self._work_out()
        self.status = self._outcome.status if isinstance(self._outcome, FakeBackendError) else 200
        return True

    def answer(self) -> Job:
        """Return the answer, or raise it."""
        if self._outcome is None:
            raise RuntimeError(f"{self.operation} was answered before it took effect")
        if isinstance(self._outcome, FakeBackendError):
            raise self._outcome
        return self._outcome

    def _work_out(self) -> Job | FakeBackendError:
        trouble = self._trouble
        if trouble is not None and not trouble.has_effect:
            return FakeBackendError(trouble.status, trouble.message)
        try:
            job = self._effect()
        except FakeBackendError as error:
            return error
        return job if trouble is None else FakeBackendError(trouble.status, trouble.message)


@dataclass(eq=False)
class Hold:
    """Keeps calls of one operation until the test lets them go; made by `FakeBackend.hold` and `hold_reply`."""

    operation: str
    takes_effect: bool
    until: Callable[[Callable[[], bool]], Awaitable[bool]]
    let_go: Callable[["Hold"], None]
    requests: list[Request] = field(default_factory=list)

    async def reached(self, count: int = 1) -> None:
        """Return when so many calls have come."""
        await self.until(lambda: len(self.requests) >= count)

    def release(self) -> None:
        """Let all calls go on, those to come too. What they ask for happens, even where nobody waits any more."""
        self.let_go(self)

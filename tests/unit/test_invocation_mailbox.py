"""A mailbox hands callbacks to a loop from any thread: all of them, in order, and none that is lost."""

import asyncio
import gc
import threading
import weakref
from functools import partial
from typing import Any

from connector_core.invocation.loops import Mailbox
from tests.fakes import PATIENCE


async def delivered(mailbox: Mailbox) -> None:
    """Wait until all that has been posted so far is delivered."""
    done = asyncio.Event()
    mailbox.post(done.set)
    async with asyncio.timeout(PATIENCE):
        await done.wait()


async def test_letters_come_in_order() -> None:
    mailbox, seen = Mailbox(asyncio.get_running_loop()), list[int]()
    for number in range(100):
        mailbox.post(partial(seen.append, number))
    assert not seen, "nothing is called where it is posted"
    await delivered(mailbox)
    assert seen == list(range(100))


async def test_letters_of_many_threads_all_come_each_threads_in_order() -> None:
    mailbox, seen = Mailbox(asyncio.get_running_loop()), list[tuple[int, int]]()
    together = threading.Barrier(8)

    def post_many(writer: int) -> None:
        together.wait(PATIENCE)
        for number in range(500):
            mailbox.post(partial(seen.append, (writer, number)))

    await asyncio.gather(*(asyncio.to_thread(post_many, writer) for writer in range(4)), _wait_in_thread(together, 4))
    await delivered(mailbox)
    for writer in range(4):
        assert [number for who, number in seen if who == writer] == list(range(500))


async def _wait_in_thread(barrier: threading.Barrier, parties: int) -> None:
    for _ in range(parties):
        threading.Thread(target=barrier.wait, args=(PATIENCE,), daemon=True).start()


async def test_letters_are_delivered_on_the_loops_thread() -> None:
    mailbox, seen = Mailbox(asyncio.get_running_loop()), list[threading.Thread]()
    await asyncio.to_thread(mailbox.post, lambda: seen.append(threading.current_thread()))
    await delivered(mailbox)
    assert seen == [threading.current_thread()]


async def test_a_letter_may_post_another() -> None:
    mailbox, seen = Mailbox(asyncio.get_running_loop()), list[str]()
    mailbox.post(lambda: mailbox.post(lambda: seen.append("answer")))
    await delivered(mailbox)
    await delivered(mailbox)
    assert seen == ["answer"]


async def test_a_letter_that_fails_loses_no_other_and_is_reported() -> None:
    loop = asyncio.get_running_loop()
    mailbox, seen, reported = Mailbox(loop), list[str](), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _loop, context: reported.append(context))

    def fail() -> None:
        raise RuntimeError("no")

    mailbox.post(fail)
    mailbox.post(lambda: seen.append("next"))
    await delivered(mailbox)
    assert seen == ["next"]
    assert [str(context["exception"]) for context in reported] == ["no"]


def test_a_closed_loop_drops_its_letters_and_keeps_nothing() -> None:
    class Weight:
        def read(self) -> None: ...

    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    loop.close()
    weights = [Weight() for _ in range(3)]
    kept = [weakref.ref(weight) for weight in weights]
    for weight in weights:
        mailbox.post(weight.read)
    del weight, weights
    gc.collect()
    assert [ref() for ref in kept] == [None, None, None]

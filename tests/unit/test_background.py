"""Work in the background ends with its context, whatever a client makes of the cancellation."""

import asyncio

import pytest

from shared.background import in_background


async def test_work_goes_on_while_the_context_lasts_and_has_ended_after_it() -> None:
    rounds, is_over = 0, asyncio.Event()

    async def work() -> None:
        nonlocal rounds
        try:
            while True:
                rounds += 1
                await asyncio.sleep(0)
        finally:
            is_over.set()

    async with in_background(work, "work"):
        while rounds < 3:
            await asyncio.sleep(0)
        assert not is_over.is_set()

    assert is_over.is_set()


@pytest.mark.parametrize("swallowed", [1, 3])
async def test_a_cancellation_that_a_client_takes_for_its_own_is_repeated(swallowed: int) -> None:
    """A loop that goes on after every error, around a client that raises its own one when it is cancelled."""
    begun, cancelled = asyncio.Event(), 0

    async def client() -> None:
        nonlocal cancelled
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            cancelled += 1
            if cancelled <= swallowed:
                raise ConnectionError("closed") from error
            raise

    async def work() -> None:
        while True:
            try:
                await client()
            except ConnectionError:
                continue

    async with asyncio.timeout(20), in_background(work, "work", patience=0.01):
        await begun.wait()

    assert cancelled == swallowed + 1


async def test_an_error_of_the_context_ends_the_work_and_is_passed_on() -> None:
    async def work() -> None:
        await asyncio.sleep(3600)

    with pytest.raises(ValueError, match="of the context"):
        async with in_background(work, "work"):
            raise ValueError("of the context")

"""Coroutines of commands end with the one error that the user needs."""

import asyncio

import pytest

from lnagents.cli.output import run
from lnagents.model.errors import NodeDiedError


async def fail(error: Exception) -> None:
    raise error


async def in_groups(error: Exception) -> None:
    async with asyncio.TaskGroup() as outer:

        async def inner() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(60))
                group.create_task(fail(error))

        outer.create_task(inner())


def test_an_expected_error_leaves_its_groups() -> None:
    with pytest.raises(NodeDiedError, match="alice ended"):
        run(in_groups(NodeDiedError("alice ended")))


def test_an_unexpected_error_keeps_its_trace() -> None:
    with pytest.raises(ExceptionGroup):
        run(in_groups(ZeroDivisionError()))


def test_the_result_comes_back() -> None:
    assert run(asyncio.sleep(0, result=7)) == 7

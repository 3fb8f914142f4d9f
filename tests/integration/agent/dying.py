"""`python dying.py STEP CONFIG`: a daemon that SIGKILL ends at one step of a delegation."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from lnagents.agent.delegation_ledger import DelegationLedger
from lnagents.agent.ledger import PaymentLedger
from lnagents.cli import main
from lnagents.lnd import HtlcInterceptor, LndClient

Call = Callable[..., Awaitable[Any]]

SENT_SECONDS = 0.05
"""In which a node has taken over what it was asked to send, and nothing has arrived yet."""


def die(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def before(call: Call) -> Call:
    async def dead(*args: Any, **kwargs: Any) -> Any:
        die()

    return dead


def after(call: Call) -> Call:
    async def dying(*args: Any, **kwargs: Any) -> Any:
        await call(*args, **kwargs)
        die()

    return dying


def amid(call: Call) -> Call:
    async def dying(*args: Any, **kwargs: Any) -> Any:
        task = asyncio.ensure_future(call(*args, **kwargs))
        await asyncio.sleep(SENT_SECONDS)
        die(task)

    return dying


STEPS: dict[str, tuple[type, str, Callable[[Call], Call]]] = {
    "taken on": (PaymentLedger, "begin_attempt", before),
    "attempt recorded": (LndClient, "send_to_route", before),
    "attempt sent": (LndClient, "send_to_route", amid),
    "paid": (LndClient, "send_to_route", after),
    "payment recorded": (PaymentLedger, "settle", after),
    "settling recorded": (DelegationLedger, "settling", after),
    "answered": (HtlcInterceptor, "answer", after),
}
NOTHING_SENT = ("taken on", "attempt recorded")

if __name__ == "__main__":
    owner, name, how = STEPS[sys.argv[1]]
    setattr(owner, name, how(getattr(owner, name)))
    sys.argv[1:] = ["agent", "run", "--config", sys.argv[2]]
    main()

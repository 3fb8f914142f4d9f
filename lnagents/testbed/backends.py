"""Makes the backend that a testbed's state names."""

from __future__ import annotations

from lnagents.testbed.backend import Backend, BackendKind, Progress
from lnagents.testbed.native import NativeBackend
from lnagents.testbed.state import StateFolder, TestbedState


def open_backend(folder: StateFolder, state: TestbedState, progress: Progress) -> Backend:
    """The backend of a testbed that is to be started, or that was."""
    if state.backend is BackendKind.COMPOSE:
        # Python's Docker client takes longer to import than a small network to start.
        from lnagents.testbed.compose import ComposeBackend

        return ComposeBackend(folder, state, progress=progress)
    return NativeBackend(folder, state, progress)

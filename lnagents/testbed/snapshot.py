"""Keeps a whole network's state, and brings it back: chain, nodes and Apertures as one."""

from __future__ import annotations

import shutil
from pathlib import Path

from lnagents.model.errors import TestbedError
from lnagents.model.topology import Topology
from lnagents.testbed.backend import (
    BITCOIND,
    MINER,
    Backend,
    ServiceState,
    aperture_services,
    lightning_services,
)
from lnagents.testbed.bitcoin import BitcoinClient
from lnagents.testbed.provision import Lightning, prepare_chain, wait_active, wait_nodes
from lnagents.testbed.threads import in_thread
from lnagents.testbed.together import to_its_end, while_alive

START_STATE = "start"
"""Name of the snapshot that is made when a network has come up."""


async def save(backend: Backend, bitcoin: BitcoinClient, name: str = START_STATE) -> None:
    """Freeze all services, copy their data, and let them go on; replaces an earlier `name`.

    Raises:
        BackendError: the copy could not be made, for instance because the disk is full.
    """
    await bitcoin.flush()
    target = _folder(backend, name)
    draft = target.with_suffix(".draft")
    await in_thread(shutil.rmtree, draft, True)
    states = await backend.states()
    running = [name for name, state in states.items() if state is ServiceState.RUNNING]
    try:
        # bitcoind last, because the nodes wait for its answers.
        await backend.pause([name for name in running if name != BITCOIND])
        await backend.pause([name for name in running if name == BITCOIND])
        await backend.save_state(draft)
    finally:
        await to_its_end(backend.resume(running))
    await in_thread(shutil.rmtree, target, True)
    await in_thread(draft.rename, target)


async def discard(backend: Backend, name: str) -> None:
    """Remove the snapshot `name`; fine if there is none."""
    await in_thread(shutil.rmtree, _folder(backend, name), True)


async def restore(
    backend: Backend,
    bitcoin: BitcoinClient,
    lightning: Lightning,
    topology: Topology,
    name: str = START_STATE,
) -> None:
    """Stop everything, put the kept data back, start everything, and wait for all channels.

    Raises:
        TestbedError: there is no snapshot `name`, or a service did not come back.
    """
    source = _folder(backend, name)
    if not await in_thread(source.is_dir):
        raise TestbedError(f"there is no snapshot {name!r} in {backend.directory}")
    names = lightning_services(topology)
    services = (MINER, *aperture_services(topology), *names, BITCOIND)
    await backend.kill(services)
    try:
        await backend.load_state(source)
        await backend.start([BITCOIND])
        await while_alive(backend, _start_nodes(backend, bitcoin, lightning, topology))
    except BaseException:
        # All or nothing: half a network would look like one that works.
        await to_its_end(backend.kill(services))
        raise


def _folder(backend: Backend, name: str) -> Path:
    return backend.directory / f"snapshot-{name}"


async def _start_nodes(
    backend: Backend, bitcoin: BitcoinClient, lightning: Lightning, topology: Topology
) -> None:
    await prepare_chain(topology, bitcoin)
    await backend.start(lightning_services(topology))
    for name in lightning.sites:
        await backend.node(name)
    await wait_nodes(lightning.sites, lightning.clients)
    await backend.start(aperture_services(topology))
    await wait_active(topology, lightning)
    await backend.start([MINER])

"""``python -m crd_bridge``: run the bridge until SIGTERM or SIGINT.

Environment: ``TEMPORAL_*`` as the Temporal CLI reads them, ``KUBECONFIG`` outside of a pod,
``OUTLAST_CONNECT_DEADLINE`` (seconds to reach both, 60), ``OUTLAST_PAYLOAD_KEYS_FILE`` (as the worker's),
``OUTLAST_NAMESPACE`` (outlast-system; it contains the Lease by which one of several bridges acts), ``OUTLAST_POD``
(the name under which it holds the Lease; if unset, a new one for each process), ``OUTLAST_HEALTH_ADDRESS`` (host:port
of ``/healthz`` and ``/readyz``) and ``OUTLAST_METRICS_ADDRESS`` (of Prometheus metrics); not served if unset.
"""

import asyncio
import logging
import os
import signal
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from clients import kube
from clients.installation import CANNOT_CONNECT, connected, refuse_other_clusters
from clients.settings import Connections, connections
from crd_bridge.bridge import Bridge
from crd_bridge.election import Election
from crd_bridge.reported import Reported
from programs import frame, garbage, health
from programs.health import Health
from programs.reach import Reach, looks

log = logging.getLogger("crd_bridge")


@dataclass(frozen=True)
class Settings:
    """Settings of one bridge."""

    connections: Connections
    namespace: str  # the installation's namespace
    identity: str  # the name under which it holds the Lease


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        ValueError: a variable's value cannot be used; the message names it.
    """
    return Settings(
        connections=connections(environment),
        namespace=environment.get("OUTLAST_NAMESPACE") or "outlast-system",
        identity=environment.get("OUTLAST_POD") or f"{socket.gethostname()}_{uuid.uuid4()}",
    )


def main() -> int:
    """Run; return 0 after a signal to stop, 1 with one line on stderr if it cannot run."""
    return frame.run("crd_bridge", lambda: asyncio.run(_main(from_environment())), CANNOT_CONNECT)


async def _main(settings: Settings) -> None:
    work = asyncio.current_task()
    assert work is not None
    stopping = asyncio.Event()

    def stop() -> None:
        stopping.set()
        work.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await run(settings)
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
        log.info("stopped")


async def run(settings: Settings) -> None:
    """Connect to both sides and bridge them whenever this process is elected, until cancelled.

    Raises:
        WrongClusterError: the Temporal namespace belongs to another cluster.
        ConnectionError: Temporal or the API server is unreachable.
        OSError: the address for ``/healthz`` cannot be listened on.
        RPCError: Temporal became unreachable before the bridge had started.
    """
    told = Health()
    async with (
        health.served(settings.connections.health_address, told),
        connected(settings.connections) as here,
        await kube.connect() as apart,  # no other call delays a renewal
    ):
        await refuse_other_clusters(here.temporal, here.cluster_id)
        election = Election(apart, settings.namespace, settings.identity, here.meter)
        bridges: list[Bridge] = []  # the bridge of this term, if this process is elected

        def hurry(side: str) -> None:
            for bridge in bridges:
                bridge.hurry()

        latest: Reported | None = None  # what the bridge of the last term has reported

        async def bridge_them() -> None:
            nonlocal latest
            bridge = Bridge(
                here.kube, here.temporal, here.cluster_id,
                meter=here.meter, permission=election.permission, reported=election.reported,
            )  # fmt: skip
            bridges.append(bridge)
            try:
                await bridge.run()
            finally:
                bridges.remove(bridge)
                latest = bridge.reported

        def reported() -> Reported | None:
            return bridges[0].reported if bridges else latest

        reach = Reach(looks(here.kube, here.temporal), here.meter, back=hurry)
        told.stuck = lambda: [each for bridge in bridges for each in bridge.stuck]
        told.missing = lambda: [
            *reach.missing, *election.missing, *(each for bridge in bridges for each in bridge.stale)
        ]  # fmt: skip
        told.notes = lambda: election.notes
        async with reach.kept(), garbage.collected():
            await election.lead(bridge_them, reported)


if __name__ == "__main__":
    frame.end(main())

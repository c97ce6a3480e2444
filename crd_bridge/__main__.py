"""``python -m crd_bridge``: run the bridge until SIGTERM or SIGINT.

Environment: ``TEMPORAL_*`` as the Temporal CLI reads them, ``KUBECONFIG`` outside of a pod,
``OUTLAST_CONNECT_DEADLINE`` (seconds to reach both, 60), ``OUTLAST_PAYLOAD_KEYS_FILE`` (as the worker's),
``OUTLAST_HEALTH_ADDRESS`` (host:port of ``/healthz`` and ``/readyz``) and ``OUTLAST_METRICS_ADDRESS`` (of Prometheus
metrics); not served where unset.
"""

import asyncio
import logging
import os
import signal
import sys

from temporalio.service import RPCError

from clients import health
from clients.health import Health
from clients.installation import WrongClusterError, connected, refuse_other_clusters
from clients.reach import Reach, looks
from clients.settings import Connections, connections
from crd_bridge.bridge import Bridge

log = logging.getLogger("crd_bridge")


def main() -> int:
    """Run; 0 after a signal to stop, 1 with one line on stderr where it cannot run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_main(connections(os.environ)))
    except (WrongClusterError, RPCError, OSError, ValueError) as error:
        print(f"crd_bridge: {error}", file=sys.stderr)
        return 1
    return 0


async def _main(settings: Connections) -> None:
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


async def run(settings: Connections) -> None:
    """Connect to both sides and bridge them until cancelled.

    Raises:
        WrongClusterError: the Temporal namespace belongs to another cluster.
        ConnectionError: Temporal or the API server is out of reach.
        OSError: the address for ``/healthz`` cannot be listened on.
        RPCError: Temporal went away again before the bridge was at work.
    """
    told = Health()
    async with health.served(settings.health_address, told), connected(settings) as here:
        await refuse_other_clusters(here.temporal, here.cluster_id)
        bridge = Bridge(here.kube, here.temporal, here.cluster_id, meter=here.meter)
        reach = Reach(looks(here.kube, here.temporal), here.meter, back=lambda side: bridge.hurry())
        told.stuck, told.missing = lambda: bridge.stuck, lambda: reach.missing + bridge.stale
        async with reach.kept():
            await bridge.run()


if __name__ == "__main__":
    sys.exit(main())

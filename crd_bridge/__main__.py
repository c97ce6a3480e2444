"""``python -m crd_bridge``: run the bridge until SIGTERM or SIGINT.

Environment: ``TEMPORAL_*`` as the Temporal CLI reads them, ``KUBECONFIG`` outside of a pod,
``OUTLAST_CONNECT_DEADLINE`` (seconds to reach both, 60), ``OUTLAST_PAYLOAD_KEYS_FILE`` (as the worker's),
``OUTLAST_HEALTH_ADDRESS`` and ``OUTLAST_METRICS_ADDRESS`` (host:port to serve ``/healthz`` and Prometheus metrics at;
not served where unset).
"""

import asyncio
import logging
import signal
import sys

from clients.installation import WrongClusterError, connected, refuse_other_clusters
from crd_bridge import health
from crd_bridge.bridge import Bridge
from crd_bridge.settings import Settings, from_environment

log = logging.getLogger("crd_bridge")


def main() -> int:
    """Run; 0 after a signal to stop, 1 with one line on stderr where it cannot run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_main(from_environment()))
    except (WrongClusterError, OSError, ValueError) as error:
        print(f"crd_bridge: {error}", file=sys.stderr)
        return 1
    return 0


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
    """Connect to both sides and bridge them until cancelled.

    Raises:
        WrongClusterError: the Temporal namespace belongs to another cluster.
        ConnectionError: Temporal or the API server is out of reach.
        OSError: the address for ``/healthz`` cannot be listened on.
    """
    async with connected(settings.connections) as here:
        await refuse_other_clusters(here.temporal, here.cluster_id)
        bridge = Bridge(here.kube, here.temporal, here.cluster_id, meter=here.meter)
        async with health.served(settings.health_address, lambda: bridge.stale):
            await bridge.run()


if __name__ == "__main__":
    sys.exit(main())

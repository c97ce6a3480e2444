"""``python -m worker``: run Outlast's workflows and activities until SIGTERM or SIGINT.

Environment: ``TEMPORAL_*`` as the Temporal CLI reads them, ``KUBECONFIG`` outside of a pod, ``OUTLAST_GCE_ENDPOINT``,
``OUTLAST_SSH_PORT`` (22), ``OUTLAST_SSH_KEY_FILE``, ``OUTLAST_NAMESPACE`` (outlast-system), ``OUTLAST_METRICS_ADDRESS``
(host:port of Prometheus metrics; not served where unset), ``OUTLAST_CONNECT_DEADLINE`` (60 s),
``OUTLAST_SWEEP_INTERVAL`` (10m) and ``OUTLAST_TIMING_<NAME>`` (seconds, see :mod:`api.timings`).
"""

import asyncio
import logging
import signal
import sys

from aiohttp import ClientError
from kubernetes.aio.config import ConfigException

from clients.kube import Kube, KubeError, connect
from worker.connections import temporal
from worker.registration import build_worker
from worker.settings import Settings, from_environment
from worker.sweeping import WrongClusterError, ensure_schedule

log = logging.getLogger("worker")


def main() -> int:
    """Run; 0 after a signal to stop, 1 with one line on stderr where it cannot run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(run(from_environment()))
    except (WrongClusterError, ConnectionError, ConfigException, ValueError) as error:
        print(f"worker: {error}", file=sys.stderr)
        return 1
    return 0


async def run(settings: Settings) -> None:
    """Connect to both sides and work until a signal says to stop; what runs then is given time to end.

    Raises:
        WrongClusterError: the Temporal namespace belongs to another cluster.
        ConnectionError: Temporal or the API server is out of reach.
        ConfigException: nothing says how to reach an API server.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    kube = await connect()
    try:
        cluster_id = await _cluster_id(kube, settings.connect_deadline)
        client = await temporal(settings)
        await ensure_schedule(client, settings, cluster_id)
        async with build_worker(client, kube, settings, cluster_id):
            log.info("cluster %s, Temporal %s/%s", cluster_id, settings.temporal_address, settings.temporal_namespace)
            await stop.wait()
            log.info("stopping")
    finally:
        await kube.close()


async def _cluster_id(kube: Kube, deadline: float) -> str:
    """UID of the namespace kube-system, asked for again until ``deadline`` seconds have passed."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline
    while True:
        try:
            return str((await kube.get("/api/v1/namespaces/kube-system"))["metadata"]["uid"])
        except KubeError as error:
            raise ConnectionError(f"the Kubernetes API server refuses: {error}; deploy/base has the rights") from error
        except (ClientError, TimeoutError, OSError) as error:
            if loop.time() >= end:
                raise ConnectionError(
                    f"the Kubernetes API server was not reached in {deadline:.0f} s ({error}): check KUBECONFIG"
                ) from error
        await asyncio.sleep(1)


if __name__ == "__main__":
    sys.exit(main())

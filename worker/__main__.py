"""``python -m worker``: run Outlast's workflows and activities until SIGTERM or SIGINT.

Environment: ``TEMPORAL_*`` as the Temporal CLI reads them, ``KUBECONFIG`` outside of a pod, ``OUTLAST_GCE_ENDPOINT``,
``OUTLAST_SSH_PORT`` (22), ``OUTLAST_SSH_KEY_FILE``, ``OUTLAST_NAMESPACE`` (outlast-system), ``OUTLAST_METRICS_ADDRESS``
(host:port of Prometheus metrics; not served where unset), ``OUTLAST_HEALTH_ADDRESS`` (host:port of ``/healthz`` and
``/readyz``; not served where unset), ``OUTLAST_CONNECT_DEADLINE`` (60 s),
``OUTLAST_PAYLOAD_KEYS_FILE`` (payloads are encrypted where it is set, see :mod:`clients.encryption`),
``OUTLAST_SWEEP_INTERVAL`` (10m), ``OUTLAST_SWEEP_GRACE`` (10m), ``OUTLAST_SWEEP_DRY_RUN`` (false),
``OUTLAST_SWEEP_IMAGES_AFTER`` (images of jobs that are gone are kept if unset),
``OUTLAST_SHARED_SECRET_NAMESPACES`` (comma-separated), ``OUTLAST_IDENTITY_GRANTS`` (who may use the worker's own
cloud identity), ``OUTLAST_ALLOWED_NETWORKS`` and ``OUTLAST_DENIED_NETWORKS`` (private networks that specs may lead
to, and networks that they may not; comma-separated), ``OUTLAST_CREATES_PER_SECOND`` (2; VMs, over all workers of the
cluster),
``TEMPORAL_DEPLOYMENT_NAME`` with ``TEMPORAL_WORKER_BUILD_ID`` (worker versioning, see docs/upgrading.md; off where both
are unset) and ``OUTLAST_TIMING_<NAME>`` (seconds, see :mod:`api.timings`).
"""

import asyncio
import contextlib
import logging
import signal
import sys

from temporalio.service import RPCError

from clients import health
from clients.health import Health
from clients.installation import WrongClusterError, connected
from clients.reach import Reach, looks
from worker.registration import build_workers
from worker.settings import Settings, from_environment
from worker.sweeping import ensure_schedule

log = logging.getLogger("worker")


def main() -> int:
    """Run; 0 after a signal to stop, 1 with one line on stderr where it cannot run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(run(from_environment()))
    except (WrongClusterError, RPCError, OSError, ValueError) as error:
        print(f"worker: {error}", file=sys.stderr)
        return 1
    return 0


async def run(settings: Settings) -> None:
    """Connect to both sides and work until a signal says to stop; what runs then is given time to end.

    Raises:
        WrongClusterError: the Temporal namespace belongs to another cluster.
        ConnectionError: Temporal or the API server is out of reach.
        OSError: the address for ``/healthz`` cannot be listened on.
        RPCError: Temporal went away again before the worker was at work.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    told = Health()
    async with health.served(settings.connections.health_address, told), connected(settings.connections) as here:
        await ensure_schedule(here.temporal, settings, here.cluster_id)
        reach = Reach(looks(here.kube, here.temporal), here.meter)
        told.missing = lambda: reach.missing
        async with reach.kept(), contextlib.AsyncExitStack() as stack:
            for worker in build_workers(here.temporal, here.kube, settings, here.cluster_id):
                await stack.enter_async_context(worker)
            log.info("at work")
            await stop.wait()
            log.info("stopping")


if __name__ == "__main__":
    sys.exit(main())

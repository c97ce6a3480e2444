"""``python -m worker``: run Outlast's workflows and activities until SIGTERM or SIGINT.

Environment: ``TEMPORAL_*`` as the Temporal CLI reads them, ``KUBECONFIG`` outside of a pod, ``OUTLAST_GCE_ENDPOINT``,
``OUTLAST_SSH_PORT`` (22), ``OUTLAST_SSH_KEY_FILE``, ``OUTLAST_NAMESPACE`` (outlast-system),
``OUTLAST_WORKER_DEPLOYMENT`` (outlast-worker; this worker's Deployment, on which alarms are shown),
``OUTLAST_METRICS_ADDRESS`` (host:port of Prometheus metrics; not served if unset), ``OUTLAST_HEALTH_ADDRESS``
(host:port of ``/healthz`` and ``/readyz``; not served if unset), ``OUTLAST_CONNECT_DEADLINE`` (60 s),
``OUTLAST_PAYLOAD_KEYS_FILE`` (payloads are encrypted if it is set, see :mod:`clients.encryption`),
``OUTLAST_SWEEP_INTERVAL`` (10m), ``OUTLAST_SWEEP_GRACE`` (10m), ``OUTLAST_SWEEP_DRY_RUN`` (false),
``OUTLAST_SWEEP_IMAGES_AFTER`` (if unset, images of jobs that are gone are kept), ``OUTLAST_SHARED_SECRET_NAMESPACES``
(comma-separated), ``OUTLAST_IDENTITY_GRANTS`` (who may use the worker's own cloud identity),
``OUTLAST_ALLOWED_NETWORKS`` and ``OUTLAST_DENIED_NETWORKS`` (private networks that specs may lead to, and networks
that they may not; comma-separated), ``OUTLAST_CREATES_PER_SECOND`` (2; VMs, over all workers of the cluster),
``OUTLAST_ACTIVITIES`` (100), ``OUTLAST_LONG_ACTIVITIES`` (1000) and ``OUTLAST_WORKFLOW_TASKS`` (100; all at once),
``OUTLAST_CACHED_WORKFLOWS`` (by the memory limit),
``OUTLAST_STICKY_TIMEOUT`` (for which a workflow's task waits for the worker that keeps the workflow),
``TEMPORAL_DEPLOYMENT_NAME`` with ``TEMPORAL_WORKER_BUILD_ID`` (worker versioning, see docs/upgrading.md; off if both
are unset) and ``OUTLAST_TIMING_<NAME>`` (seconds, see :mod:`api.timings`).
"""

import asyncio
import contextlib
import logging
import signal

from clients import kube
from clients.installation import CANNOT_CONNECT, connected
from clients.search_attributes import Registration
from programs import frame, garbage, health
from programs.health import Health
from programs.reach import Reach, looks
from worker.currency import Currency
from worker.memory import Memory
from worker.registration import activities, at_work, build_workers
from worker.settings import Settings, from_environment
from worker.sweeping import ensure_schedule
from worker.urgency import UrgentFirst
from worker.versions import standing

log = logging.getLogger("worker")


def main() -> int:
    """Run; return 0 after a signal to stop, 1 with one line on stderr if it cannot run."""
    return frame.run("worker", lambda: asyncio.run(run(from_environment())), CANNOT_CONNECT)


async def run(settings: Settings) -> None:
    """Connect to both sides and work until a signal to stop; work that runs then is given time to end.

    Raises:
        WrongClusterError: the Temporal namespace belongs to another cluster.
        ConnectionError: Temporal or the API server is unreachable.
        OSError: the address for ``/healthz`` cannot be listened on.
        RPCError: Temporal became unreachable before the worker had started.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    told = Health()
    async with (
        health.served(settings.connections.health_address, told),
        connected(settings.connections) as here,
        await kube.connect() as apart,  # no other call delays what answers a notice
    ):
        await ensure_schedule(here.temporal, settings, here.cluster_id)
        attributes = Registration()
        reach = Reach(looks(here.kube, here.temporal), here.meter)
        memory = Memory(apart, here.meter, settings.daemons)
        told.missing, told.notes, told.stuck = lambda: reach.missing, lambda: memory.notes, lambda: memory.stuck
        async with (
            reach.kept(), memory.kept(), attributes.sought(here.temporal), contextlib.AsyncExitStack() as stack
        ):  # fmt: skip
            implementations = activities(here.temporal, here.kube, settings, attributes, memory, apart)
            urgent_first = UrgentFirst(settings.room.prompt // 2, memory.marked)
            workers = build_workers(here.temporal, here.kube, settings, implementations, urgent_first)
            await stack.enter_async_context(at_work(workers))
            await stack.enter_async_context(garbage.collected(lambda: urgent_first.quiet))
            if version := settings.version:
                currency = Currency(version, lambda: standing(here.temporal, version), here.meter)
                told.notes = lambda: [*currency.notes, *memory.notes]
                await stack.enter_async_context(currency.kept())
            log.info("at work")
            await stop.wait()
            log.info("stopping")


if __name__ == "__main__":
    frame.end(main())

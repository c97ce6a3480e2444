"""``python -m crd_bridge``: run the bridge until SIGTERM or SIGINT.

Environment: ``TEMPORAL_*`` as the Temporal CLI reads them, ``KUBECONFIG`` outside of a pod,
``OUTLAST_CONNECT_DEADLINE`` (seconds to reach both, 60), ``OUTLAST_HEALTH_ADDRESS`` and ``OUTLAST_METRICS_ADDRESS``
(host:port to serve ``/healthz`` and Prometheus metrics at; not served where unset).
"""

import asyncio
import logging
import signal
import sys

import aiohttp
from kubernetes.aio.config import ConfigException
from temporalio.common import MetricMeter
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from clients import kube
from crd_bridge import health, temporal
from crd_bridge.bridge import Bridge, cluster_id
from crd_bridge.settings import Settings, from_environment

log = logging.getLogger("crd_bridge")


class Refused(Exception):
    """The bridge must not or cannot run here; the message says why and what to do."""


def main() -> int:
    """Run; 0 after a signal to stop, 1 with one line on stderr where it cannot run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_main(from_environment()))
    except (Refused, ConnectionError, ConfigException, OSError, ValueError) as error:
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
        Refused: the API server is out of reach, or the Temporal namespace belongs to another cluster.
        ConnectionError: Temporal is out of reach.
        ConfigException: nothing says how to reach an API server.
    """
    runtime = Runtime(telemetry=_telemetry(settings))
    cluster = await kube.connect()
    try:
        identity = await _identity(cluster, settings.connect_deadline)
        client = await temporal.connect(
            settings.temporal_address,
            settings.temporal_namespace,
            settings.connect_deadline,
            runtime=runtime,
            data_converter=pydantic_data_converter,
            **{key: value for key, value in settings.temporal.items() if key not in ("target_host", "namespace")},
        )
        await _own(temporal.Gateway(client), identity, settings.temporal_namespace)
        meter: MetricMeter = runtime.metric_meter
        bridge = Bridge(cluster, client, identity, meter=meter)
        async with health.served(settings.health_address, lambda: bridge.stale):
            log.info("cluster %s, Temporal %s/%s", identity, settings.temporal_address, settings.temporal_namespace)
            await bridge.run()
    finally:
        await cluster.close()


def _telemetry(settings: Settings) -> TelemetryConfig:
    if not settings.metrics_address:
        return TelemetryConfig()
    return TelemetryConfig(metrics=PrometheusConfig(bind_address=settings.metrics_address))


async def _identity(cluster: kube.Kube, deadline: float) -> str:
    """The cluster's id, asked for again until ``deadline`` seconds have passed."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline
    while True:
        try:
            async with asyncio.timeout_at(end):
                return await cluster_id(cluster)
        except kube.KubeError as error:
            raise Refused(
                f"the Kubernetes API server refuses: {error}; see deploy/base for the rights needed"
            ) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if loop.time() + 1 >= end:
                said = str(error) or "no answer"
                raise Refused(
                    f"the Kubernetes API server was not reached in {deadline:.0f} s ({said}): check KUBECONFIG"
                ) from error
        await asyncio.sleep(1)


async def _own(gateway: temporal.Gateway, identity: str, namespace: str) -> None:
    """One Temporal namespace a cluster: two would take each other's workflows for their own."""
    owner = await gateway.owner()
    if owner is not None and owner != identity:
        raise Refused(
            f"the Temporal namespace {namespace!r} belongs to the cluster {owner}, and this is {identity}: "
            "give each cluster a namespace of its own (TEMPORAL_NAMESPACE)"
        )


if __name__ == "__main__":
    sys.exit(main())

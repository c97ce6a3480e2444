"""One installation of Outlast: a cluster, known by its id, and the Temporal namespace that belongs to it alone."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.service import RPCError, RPCStatusCode

from api import names
from clients import kube, temporal
from clients.encryption import KEYS_FILE
from clients.kube import Kube, KubeError
from clients.settings import Connections

log = logging.getLogger(__name__)


class WrongClusterError(Exception):
    """The Temporal namespace belongs to another cluster."""


CANNOT_CONNECT = (WrongClusterError, RPCError, OSError, ValueError)
"""The errors that say that a program cannot run here: a setting is wrong, or one of both sides is not the right one."""


@dataclass(frozen=True)
class Installation:
    """Both sides, connected. ``meter`` adds to the metrics that are served."""

    cluster_id: str
    kube: Kube
    temporal: Client
    meter: MetricMeter


@asynccontextmanager
async def connected(settings: Connections) -> AsyncIterator[Installation]:
    """Connect to both sides, for as long as the block runs.

    Raises:
        ConnectionError: one of them is unreachable; the message says which, and what to do.
    """
    runtime = temporal.runtime(settings)
    cluster = await kube.connect()
    try:
        identity = await cluster_id(cluster, settings.deadline)
        client = await temporal.connect(settings, runtime)
        log.info("cluster %s, Temporal %s/%s", identity, settings.temporal_address, settings.temporal_namespace)
        yield Installation(identity, cluster, client, runtime.metric_meter)
    finally:
        await cluster.close()


async def cluster_id(cluster: Kube, deadline: float) -> str:
    """Read what identifies this cluster, the UID of its first namespace; retry until the deadline.

    Raises:
        ConnectionError: the API server refuses, or did not answer within ``deadline`` seconds.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline
    told = ""
    while True:
        try:
            async with asyncio.timeout_at(end):
                return str((await cluster.get(kube.FIRST_NAMESPACE))["metadata"]["uid"])
        except (KubeError, aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, KubeError) and error.status < 500 and error.status != 429:
                raise ConnectionError(
                    f"the Kubernetes API server refuses: {error.message}; see deploy/base for the rights needed"
                ) from error
            said = str(error) or "no answer"
            if loop.time() + 1 >= end:
                raise ConnectionError(
                    f"the Kubernetes API server was not reached in {deadline:.0f} s ({said}): check KUBECONFIG"
                ) from error
            if said != told:
                log.warning("the Kubernetes API server is not reached yet: %s", said)
            told = said
        await asyncio.sleep(1)


async def refuse_other_clusters(client: Client, cluster_id: str) -> None:
    """Check by the sweep's Schedule that the namespace is this cluster's. Before the first worker it is nobody's.

    Raises:
        WrongClusterError: it is another's. Each would take the other's workflows and VMs for its own.
        ConnectionError: the owner cannot be read, because it was encrypted with keys that we do not have.
    """
    try:
        schedule = await client.get_schedule_handle(names.SWEEP_SCHEDULE).describe(rpc_timeout=temporal.RPC_TIMEOUT)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return
        raise
    try:
        owner = (await schedule.memo()).get("cluster")
    except (KeyError, ValueError, RuntimeError) as error:
        raise ConnectionError(
            f"the contents of the Temporal namespace {client.namespace!r} cannot be read ({error}): are they encrypted "
            f"by keys that {KEYS_FILE} does not contain?"
        ) from error
    if owner != cluster_id:
        raise WrongClusterError(
            f"the Temporal namespace {client.namespace!r} belongs to the cluster {owner}, and this is {cluster_id}: "
            "give each cluster a namespace of its own (TEMPORAL_NAMESPACE)"
        )

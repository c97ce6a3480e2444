"""The connection to Temporal, with a deadline and a message that says what to do."""

import asyncio
import logging
from datetime import timedelta

from temporalio.client import Client, Interceptor, WorkflowExecutionDescription
from temporalio.common import Priority
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import KeepAliveConfig, RPCError, RPCStatusCode

from api import metrics
from clients.encryption import data_converter
from clients.settings import Connections

log = logging.getLogger(__name__)

RPC_TIMEOUT = timedelta(seconds=10)
KEEP_ALIVE = KeepAliveConfig(interval_millis=15_000, timeout_millis=5_000)
"""A frontend whose node lost its power is noticed in 20 seconds instead of 45. Temporal takes no more than one ping in
ten seconds (``frontend.keepAliveMinTime``)."""


def fair(namespace: str) -> Priority:
    """Give a workflow, and all that it starts, a share of the service beside those of other namespaces of Kubernetes.

    It has an effect if the service is configured for it: docs/scaling.md.
    """
    return Priority(fairness_key=namespace)


def runtime(settings: Connections) -> Runtime:
    """Make the SDK's runtime, which serves its metrics and ours to Prometheus if an address is set."""
    if not settings.metrics_address:
        return Runtime(telemetry=TelemetryConfig())
    served = PrometheusConfig(
        bind_address=settings.metrics_address, durations_as_seconds=True, histogram_bucket_overrides=metrics.BUCKETS
    )
    return Runtime(telemetry=TelemetryConfig(metrics=served))


async def connect(settings: Connections, runtime: Runtime) -> Client:
    """Connect and check that the namespace exists; retry until the deadline.

    Raises:
        ConnectionError: nothing answered, or not as Temporal, or it has no such namespace; the message says what to do.
    """
    address, namespace = settings.temporal_address, settings.temporal_namespace
    options = {key: value for key, value in settings.temporal.items() if key not in {"target_host", "namespace"}}
    traced = [] if settings.traces is None else [_traces(settings.traces)]
    loop = asyncio.get_running_loop()
    end = loop.time() + settings.deadline
    said = ""
    while True:
        try:
            async with asyncio.timeout_at(end):
                client = await Client.connect(
                    address,
                    namespace=namespace,
                    data_converter=data_converter(settings.keys),
                    runtime=runtime,
                    keep_alive_config=KEEP_ALIVE,
                    interceptors=traced,
                    **options,  # type: ignore[arg-type]
                )
                await client.count_workflows(rpc_timeout=RPC_TIMEOUT)
                return client
        except TimeoutError:
            problem = "no answer"
        except (RPCError, RuntimeError) as error:
            problem = str(error)
            if isinstance(error, RPCError) and error.status == RPCStatusCode.NOT_FOUND:
                raise ConnectionError(
                    f"Temporal at {address} has no namespace {namespace!r}: create it with "
                    f"`temporal operator namespace create {namespace}` or set TEMPORAL_NAMESPACE"
                ) from error
        if loop.time() + 1 >= end:
            raise ConnectionError(
                f"Temporal at {address} was not reached in {settings.deadline:.0f} s ({problem}): "
                "start it or set TEMPORAL_ADDRESS"
            )
        if problem != said:
            log.warning("Temporal at %s is not reached yet: %s", address, problem)
        said = problem
        await asyncio.sleep(1)


def _traces(collector: str) -> Interceptor:
    """Import what makes traces, which takes half a second and packages that not everybody has."""
    try:
        from clients.traces import traces
    except ImportError as error:
        raise ValueError(f"traces need more packages: pip install 'outlast[traces]' ({error})") from None
    return traces(collector)


async def latest_run(
    client: Client, workflow_id: str, timeout: timedelta = RPC_TIMEOUT
) -> WorkflowExecutionDescription | None:
    """Read the latest run with this id; None if Temporal knows none.

    Raises:
        RPCError: Temporal did not say.
    """
    try:
        return await client.get_workflow_handle(workflow_id).describe(rpc_timeout=timeout)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return None
        raise

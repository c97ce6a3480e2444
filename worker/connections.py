"""Reaching Temporal, with a deadline and a message that says what to do."""

import asyncio
from datetime import timedelta

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from worker.settings import Settings


def runtime(settings: Settings) -> Runtime:
    """The SDK's runtime; its Prometheus metrics are served where an address is set."""
    if not settings.metrics_address:
        return Runtime(telemetry=TelemetryConfig())
    return Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=settings.metrics_address)))


async def temporal(settings: Settings) -> Client:
    """Connect and see that the namespace is there, trying again until the deadline.

    Raises:
        ConnectionError: no answer in time, or no such namespace.
    """
    address, namespace = settings.temporal_address, settings.temporal_namespace
    options = {key: value for key, value in settings.temporal.items() if key not in {"target_host", "namespace"}}
    made = runtime(settings)
    loop = asyncio.get_running_loop()
    end = loop.time() + settings.connect_deadline
    while True:
        try:
            client = await Client.connect(
                address,
                namespace=namespace,
                data_converter=pydantic_data_converter,
                runtime=made,
                **options,  # type: ignore[arg-type]
            )
            await client.count_workflows(rpc_timeout=timedelta(seconds=5))
        except (RPCError, RuntimeError) as error:
            if isinstance(error, RPCError) and error.status == RPCStatusCode.NOT_FOUND:
                raise ConnectionError(
                    f"Temporal at {address} has no namespace {namespace!r}: create it with "
                    f"`temporal operator namespace create {namespace}` or set TEMPORAL_NAMESPACE"
                ) from error
            if loop.time() >= end:
                raise ConnectionError(
                    f"Temporal at {address} was not reached in {settings.connect_deadline:.0f} s ({error}): "
                    "start it or set TEMPORAL_ADDRESS"
                ) from error
            await asyncio.sleep(1)
        else:
            return client

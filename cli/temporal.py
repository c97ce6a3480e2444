"""Temporal, as the ``temporal`` CLI reaches it: only operators' commands need it, and do without it where they can."""

import os

from temporalio.client import Client

from clients import temporal
from clients.settings import connections

PATIENCE = "10"
"""Seconds in which Temporal has to answer."""
ADDRESS = "TEMPORAL_ADDRESS"


async def connected() -> Client | None:
    """Connect to Temporal; None if ``TEMPORAL_ADDRESS`` does not say where it is.

    Raises:
        ConnectionError: it does not answer.
    """
    if ADDRESS not in os.environ:
        return None
    settings = connections({**os.environ, "OUTLAST_CONNECT_DEADLINE": PATIENCE})
    return await temporal.connect(settings, temporal.runtime(settings))

"""The registration of the search attributes of :mod:`api.search_attributes` with a Temporal namespace.

Nothing waits for them. A worker whose service refuses to register them runs its workflows without them, says what to
do, and tries again. An unregistered attribute would fail the start of a workflow, or a workflow's task forever.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from api.search_attributes import ALL, LONGEST, SearchAttribute, Values
from clients.background import beside
from clients.temporal import RPC_TIMEOUT

log = logging.getLogger(__name__)

DEADLINE = 30.0
"""Seconds until what was registered has to be usable: the service's parts hear of it one after the other."""
FIRST_POLL, LAST_POLL = 0.2, 3.0
AGAIN = 60.0
"""Seconds until a worker whose service has refused tries again."""
FIRST = 10.0
"""Seconds that a worker's start waits for the first answer."""

_TYPES = {
    "Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "Bool": IndexedValueType.INDEXED_VALUE_TYPE_BOOL,
}
_SAMPLES = {"Keyword": "'-'", "Bool": "true"}
_REFUSALS = frozenset(
    {
        RPCStatusCode.INVALID_ARGUMENT,  # for example: no column is left for another one
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.UNAUTHENTICATED,
        RPCStatusCode.UNIMPLEMENTED,  # Temporal Cloud's frontend has no such operator API
    }
)


_QUICKER = frozenset({RPCStatusCode.ALREADY_EXISTS, RPCStatusCode.UNAVAILABLE})
"""Somebody else registers in the same moment: a release's worker and its setup Job start together."""


class NotRegisteredError(Exception):
    """Search attributes are missing and cannot be registered from here; the message says what to do."""


async def missing(client: Client) -> list[SearchAttribute]:
    """List the attributes that the namespace does not know, or knows with another type.

    Whoever may list workflows may ask this: a query by an unregistered attribute is refused.

    Raises:
        RPCError: Temporal did not say.
    """
    known = await asyncio.gather(*(_is_known(client, attribute) for attribute in ALL))
    return [attribute for attribute, knows in zip(ALL, known, strict=True) if not knows]


async def _is_known(client: Client, attribute: SearchAttribute) -> bool:
    try:
        await client.count_workflows(f"{attribute.name} = {_SAMPLES[attribute.kind]}", rpc_timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status == RPCStatusCode.INVALID_ARGUMENT:
            return False
        raise
    return True


async def ensure(client: Client, deadline: float = DEADLINE) -> None:
    """Register what lacks, and wait until it can be used. Done twice, or by two at once, it changes nothing.

    Raises:
        NotRegisteredError: the service refuses, or they could not be used within ``deadline`` seconds.
        RPCError: Temporal is out of reach.
    """
    end = asyncio.get_running_loop().time() + deadline
    taken, pause = False, FIRST_POLL
    while lacking := await missing(client):
        if asyncio.get_running_loop().time() > end:
            why = f"after {deadline:.0f} s the service does not know them with these types"
            raise NotRegisteredError(remedy(client.namespace, lacking, why))
        taken = taken or await _register(client, lacking)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_POLL)


async def _register(client: Client, lacking: list[SearchAttribute]) -> bool:
    """Ask the service once; False if it has to be asked again.

    Raises:
        NotRegisteredError: it refuses.
        RPCError: it is out of reach.
    """
    request = AddSearchAttributesRequest(
        namespace=client.namespace,
        search_attributes={attribute.name: _TYPES[attribute.kind] for attribute in lacking},
    )
    try:
        await client.operator_service.add_search_attributes(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status in _REFUSALS:
            raise NotRegisteredError(remedy(client.namespace, lacking, str(error))) from error
        if error.status not in _QUICKER:
            raise
        return error.status == RPCStatusCode.ALREADY_EXISTS
    return True


class Registration:
    """Knows whether all attributes are registered, so that workflows may have them."""

    def __init__(self, registered: bool = False) -> None:
        self.registered = registered

    @contextlib.asynccontextmanager
    async def sought(self, client: Client, again: float = AGAIN) -> AsyncIterator[None]:
        """Register them during the block, as soon as the service allows it; the block begins after a first attempt."""
        tried = asyncio.Event()
        async with beside(self._seek(client, again, tried), "search attributes"):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(tried.wait(), FIRST)
            yield

    async def _seek(self, client: Client, again: float, tried: asyncio.Event) -> None:
        told = ""
        while not self.registered:
            try:
                await ensure(client)
                self.registered = True
            except (NotRegisteredError, RPCError) as error:
                if str(error) != told:
                    log.warning("workflows go without search attributes: %s", error)
                told = str(error)
            tried.set()
            if not self.registered:
                await asyncio.sleep(again)


def remedy(namespace: str, lacking: list[SearchAttribute], why: str) -> str:
    """Say which search attributes are not registered, why, and how a person registers them."""
    by_hand = " ".join(f"--name {attribute.name} --type {attribute.kind}" for attribute in lacking)
    return (
        f"the Temporal namespace {namespace!r} lacks the search attributes "
        f"{', '.join(attribute.name for attribute in lacking)} ({why}). Register them with the rights of an operator: "
        f"`temporal operator search-attribute create --namespace {namespace} {by_hand}`; on Temporal Cloud in the "
        "namespace's settings, with the same names and types"
    )


def typed(values: Values) -> TypedSearchAttributes:
    """Make the attributes with which a client starts a workflow."""
    return TypedSearchAttributes([_pair(name, value) for name, value in values.items()])


def _pair(name: str, value: str | bool) -> SearchAttributePair[bool] | SearchAttributePair[str]:
    if isinstance(value, bool):
        return SearchAttributePair(SearchAttributeKey.for_bool(name), value)
    return SearchAttributePair(SearchAttributeKey.for_keyword(name), value[:LONGEST])

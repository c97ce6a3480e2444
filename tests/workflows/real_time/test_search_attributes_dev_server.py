"""Search attributes on the real service: they are registered once, and workflows are found and signalled by them."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner

from api.search_attributes import ALL, ON_DEMAND
from clients.search_attributes import NotRegisteredError, Registration, ensure, missing
from sandbox.binaries import Binaries
from tests.temporal_service import own_service
from tests.workflows.dev_server import TIMINGS, quick_world, vm_of
from tests.workflows.temporal_cli import Cli
from tests.workflows.test_continue_as_new import runs
from tests.workflows.world import World
from workflows.common import continue_as_new as history

KEYWORD = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
OTHERS = {f"Others{number}": KEYWORD for number in range(8)}
"""The attributes of others, which leave two columns for Keywords."""


PAGE = Path(__file__).parents[3] / "docs" / "temporal-cli.md"
QUERIES = re.findall(r'list --query "([^"]+)"', PAGE.read_text())
"""Those of the page."""


@pytest.fixture
async def bare(executables: Binaries) -> AsyncIterator[Client]:
    """Start a service that knows none of our search attributes."""
    async with own_service(executables) as client:
        yield client


async def register(client: Client, **names: IndexedValueType.ValueType) -> None:
    request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=names)
    await client.operator_service.add_search_attributes(request)


async def test_what_lacks_is_registered_and_can_be_used_at_once(bare: Client) -> None:
    assert await missing(bare) == list(ALL)
    await ensure(bare)
    assert await missing(bare) == []
    await ensure(bare)  # nothing is missing


async def test_a_worker_and_the_setup_job_may_register_them_at_once(bare: Client) -> None:
    await asyncio.gather(*(ensure(bare) for _ in range(4)))
    assert await missing(bare) == []


async def test_who_lost_a_race_asks_again(bare: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    add, tries = bare.operator_service.add_search_attributes, []

    async def loses_once(request: AddSearchAttributesRequest, **options: Any) -> Any:
        tries.append(request)
        if len(tries) == 1:  # the service's words if two change one namespace
            raise RPCError("Generated search attributes mapping unavailable.", RPCStatusCode.UNAVAILABLE, b"")
        return await add(request, **options)

    monkeypatch.setattr(bare.operator_service, "add_search_attributes", loses_once)
    await ensure(bare)
    assert len(tries) == 2


async def test_one_with_another_type_is_told_with_how_to_register_it(bare: Client) -> None:
    await register(bare, **{ON_DEMAND: KEYWORD})
    with pytest.raises(NotRegisteredError, match=f"{ON_DEMAND}.*search-attribute create.*{ON_DEMAND} --type Bool"):
        await ensure(bare, deadline=1)
    assert [attribute.name for attribute in await missing(bare)] == [ON_DEMAND]


async def test_where_no_column_is_left_it_says_so(bare: Client) -> None:
    await register(bare, **OTHERS)
    with pytest.raises(NotRegisteredError, match="cannot have more than 10 search attribute of type Keyword"):
        await ensure(bare)


async def test_a_worker_registers_them_before_it_begins(bare: Client) -> None:
    attributes = Registration()
    async with attributes.sought(bare):
        assert attributes.registered


async def test_a_worker_that_is_refused_begins_and_says_so_once(bare: Client, caplog: pytest.LogCaptureFixture) -> None:
    await register(bare, **OTHERS)
    attributes = Registration()
    with caplog.at_level("WARNING", "clients.search_attributes"):
        async with attributes.sought(bare, again=0.05):
            await asyncio.sleep(0.5)
            assert not attributes.registered
    assert len([message for message in caplog.messages if "go without search attributes" in message]) == 1


@pytest.fixture
async def real(executables: Binaries, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Make a quick world on a dev server of its own, with short runs, in which nothing can be bought yet."""
    monkeypatch.setattr(history, "EVENTS", 150)
    async with quick_world(executables, monkeypatch, UnsandboxedWorkflowRunner()) as made:
        made.documents.timings = TIMINGS.model_copy(update={"stockout_rest": 2})
        made.cloud.exhausted.add("us-central1-a")
        async with made.worker():
            yield made


async def test_people_find_jobs_and_signal_many_by_query(real: World, executables: Binaries) -> None:
    cli = Cli(executables.temporal, real.env.client)
    job, team = real.handle.id, f"OutlastNamespace='{real.documents.namespace}'"

    async def found(query: str) -> list[str]:
        listed = json.loads(await cli.run("workflow", "list", "--query", query, "--output", "json"))
        return sorted(each["execution"]["workflowId"] for each in listed)

    async def awaited(query: str, ids: list[str]) -> None:
        async with asyncio.timeout(200):
            while await found(query) != ids:
                await real.pass_time(0.5)

    await real.submit(replicas=1)
    assert len(QUERIES) >= 4
    for query in QUERIES:
        await found(query)  # the service refuses one that it does not understand
    await awaited(f"OutlastPhase='Seeking' AND OutlastWaitsFor='CapacityAvailable' AND {team}", [job])
    assert await found("OutlastProject='p' AND WorkflowType='SpotMarket'") == ["market:p"]

    real.cloud.exhausted.clear()
    await real.running(1, within=120)
    of_job = f"OutlastJobId='{real.documents.start.job_id}'"
    await awaited(f"{of_job} AND ExecutionStatus='Running'", [job, vm_of(real).id])
    await awaited(f"OutlastPhase='Running' AND {team}", [job])
    vms = f"WorkflowType='SpotVM' AND OutlastJob='{real.documents.start.name}' AND {team}"
    assert await found(vms) == [vm_of(real).id]

    query = f"WorkflowType='SpotInstanceJob' AND ExecutionStatus='Running' AND {team}"
    await cli.run("workflow", "signal", "--query", query, "--name", "suspend", "--reason", "a person", "--yes")
    await awaited(f"OutlastPhase='Suspended' AND {query}", [job])
    for _ in range(60):  # until it has continued in another run, which has the same values
        await real.signal("checkpoint_now")
    async with asyncio.timeout(200):
        while await runs(real) == 1:
            await real.pass_time(0.5)
    await awaited(f"OutlastPhase='Suspended' AND {query}", [job])

    await cli.run("workflow", "terminate", "--query", query, "--reason", "a person", "--yes")
    await awaited(f"ExecutionStatus='Terminated' AND {of_job}", [job])

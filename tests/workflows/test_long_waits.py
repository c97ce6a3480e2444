"""Outages last for hours. Every wait ends its run in time, whatever fills the history meanwhile.

The simulated service itself asserts in every story that no run comes near a limit of the service.
"""

import pytest

from activities.signatures import AskMarket
from api.market import Candidate, Choose
from api.timings import Timings
from tests.workflows.documents import vm_spec
from tests.workflows.world import World
from workflows.common.continue_as_new import EVENTS

HOUR = 3600.0
KUBERNETES = {
    "load_job", "report", "observe_replica", "observe_node", "check_owner", "write_vm_entry", "patch_spec",
    "find_capacity", "create_checkpoint", "observe_checkpoint", "read_progress", "stop_replica", "save_logs",
    "take_stock", "release_finalizers", "preflight",
}  # fmt: skip
"""Activities that fail while the API server is away."""


def longest_run(world: World) -> int:
    """Count the Events in the longest run of any workflow."""
    return max(len(run.history.events) for run in world.env.runs())  # type: ignore[attr-defined]


def bytes_of(world: World) -> int:
    """Count the bytes in all runs of all workflows."""
    return sum(run.history.size for run in world.env.runs())  # type: ignore[attr-defined]


async def test_a_market_answers_all_day_during_a_stockout(world: World) -> None:
    """Nothing is bought, so the market has nothing to look for, and VMs ask again and again."""
    candidates = [Candidate(zone="us-central1-a", machine_type="n1-standard-4")]
    for number in range(2_100):
        question = Choose(asker=f"{number:08x}-r0-v1", replica=0, candidates=candidates, namespace="team")
        await world.market.ask_market(AskMarket(project="p", timings=Timings(), question=question))
    assert longest_run(world) < EVENTS * 1.1


@pytest.mark.parametrize("when", ["before it is admitted", "while it is suspended", "while it trains"])
async def test_an_api_server_that_is_away_for_hours(world: World, when: str) -> None:
    world.cluster.steps = 10**9
    if when == "before it is admitted":
        world.documents.missing = "gcp"
        await world.submit(replicas=2)
    else:
        await world.submit(replicas=2, suspend=when == "while it is suspended")
    await world.pass_time(600)
    world.down |= KUBERNETES
    await world.pass_time(3 * HOUR)  # 2,500 events an hour
    assert longest_run(world) < EVENTS * 1.5
    world.down.clear()
    world.documents.missing = None
    if when == "while it is suspended":
        world.documents.edit(suspend=False)
    await world.running(2, within=HOUR)


async def test_a_long_script_does_not_fill_the_history(world: World) -> None:
    """Two replicas look for capacity for hours, with the longest possible metadata of a VM."""
    world.documents.vm_spec = vm_spec(more={"startupScript": "#" * 200 * 1024})
    world.cloud.exhausted = {"us-central1-a"}
    await world.submit(replicas=2)
    await world.pass_time(4 * HOUR)
    world.cloud.exhausted.clear()
    await world.running(2, within=HOUR)
    assert max(run.history.size for run in world.env.runs()) < 8 << 20  # type: ignore[attr-defined]


async def test_long_documents_are_read_once_a_run(world: World) -> None:
    """A training takes days, with the longest possible specs."""
    world.documents.vm_spec = vm_spec(more={"startupScript": "#" * 200 * 1024})
    container = {"name": "train", "image": "train:1", "env": [{"name": "LONG", "value": "x" * 200 * 1024}]}
    world.cluster.steps = 1e9
    await world.submit(replicas=2, jobTemplate={"spec": {"template": {"spec": {"containers": [container]}}}})
    await world.running(2)
    before = bytes_of(world)
    await world.pass_time(6 * HOUR)
    assert bytes_of(world) - before < 10 << 20, "each hour the checks, and a new run after a thousand events"
    world.documents.edit_vm(vm_spec(zones=["us-central1-f"]))
    await world.pass_time(10)
    world.notice(0)
    await world.running(1)
    await world.running(2)
    assert [call.request.spec.gcp.zones for call in world.of("create_vm")][-1] == ["us-central1-f"]

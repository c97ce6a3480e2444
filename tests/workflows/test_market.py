"""What is bought in which zone: candidates, shortages that all jobs learn of, on-demand and the spot return."""

from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.signatures import EnsuredVm, FindPreempted, Preempted, TellMarket
from api import errors, names
from api.market import Candidate, MarketNews
from api.messages import VmStart
from api.timings import Timings
from tests.simulation.simulation import LATENCY
from tests.workflows.documents import vm_spec
from tests.workflows.world import World
from workflows.market.state import MarketState

A, B = "us-central1-a", "us-central1-b"
FALLBACK = {"onDemandFallback": {"after": "10m", "maxReplicas": 1, "pricePerHour": "0.3"}}


def zones_asked(world: World) -> list[str]:
    return [candidate.zone for candidate in world.cloud.asked]


async def memory(world: World) -> MarketState:
    handle = world.env.client.get_workflow_handle(names.market_workflow_id("p"))
    return await handle.query("memory", result_type=MarketState)


async def test_another_zone_is_tried_at_once_where_one_is_exhausted(world: World) -> None:
    world.documents.vm_spec = vm_spec(zones=[B])
    world.cloud.exhausted = {A}
    await world.submit(replicas=1)
    await world.running(1, within=200)
    assert zones_asked(world) == [A, B]
    assert world.documents.condition("CapacityAvailable").status == "True"


async def test_replicas_are_bought_in_different_zones(world: World) -> None:
    world.documents.vm_spec = vm_spec(zones=[B])
    await world.submit(replicas=2)
    await world.running(2)
    assert sorted(zones_asked(world)) == [A, B]


async def test_the_choice_and_its_reasons_are_told(world: World) -> None:
    world.documents.vm_spec = vm_spec(alternatives=[{"zone": "us-east1-c"}])
    world.cloud.prices = {"us-central1/n1-standard-4": 0.25, "us-east1/n1-standard-4": 0.2}
    await world.submit(replicas=1)
    await world.running(1)
    assert zones_asked(world) == ["us-east1-c"]
    assert "us-east1-c (Spot): $0.200 per useful hour ($0.200, 0.004 losses/h)" in world.documents.told("Buying")[0]


async def test_a_price_that_cannot_be_read_leaves_the_order_of_the_spec(world: World) -> None:
    world.documents.vm_spec = vm_spec(alternatives=[{"zone": "us-east1-c"}])
    world.down.add("read_price")
    await world.submit(replicas=1)
    await world.running(1)
    assert zones_asked(world) == [A]


async def test_a_stockout_spares_the_other_replica_its_own(world: World) -> None:
    """Two VMs find a zone exhausted. One of them tries it again after the cooldown, and the other waits for that."""
    world.cloud.exhausted = {A}
    await world.submit(replicas=2)
    await world.pass_time(1800)
    tries = [call.at for call in world.of("create_vm")]
    assert len(tries) <= 2 + 4  # both at first, because neither knew; then at 3, 6, 12 and 24 minutes
    world.cloud.exhausted = set()
    await world.running(2, within=3600)


async def test_settings_that_change_in_a_markets_life_are_heeded(world: World) -> None:
    for zone, seconds in ((A, 3600.0), (B, 60.0)):
        at, candidate = world.clock.now, Candidate(zone=zone, machine_type="n1-standard-4")
        news = MarketNews(vm=zone, kind=errors.NO_CAPACITY, candidate=candidate, at=at)
        await world.market.tell_market(TellMarket(project="p", timings=Timings(stockout_rest=seconds), news=news))
        await world.pass_time(1)
    rests = (await memory(world)).rests.values()
    assert [(rest.until - rest.last).total_seconds() for rest in rests] == [3600, 60]


async def test_a_shortage_says_why_since_when_and_what_is_tried_next(world: World) -> None:
    world.cloud.exhausted = {A}
    await world.submit(replicas=1)
    await world.until(lambda: (c := world.documents.condition("CapacityAvailable")) and c.status == "False")
    condition = world.documents.condition("CapacityAvailable")
    assert condition.reason == errors.NO_CAPACITY
    await world.until(lambda: "next: n1-standard-4" in world.documents.condition("CapacityAvailable").message)
    assert "since " in world.documents.condition("CapacityAvailable").message


async def test_a_shortage_behind_an_unclear_answer_is_not_asked_for_for_ever(world: World) -> None:
    world.documents.vm_spec = vm_spec(zones=[B])
    world.cloud.unclear = {A}
    await world.submit(replicas=1)
    await world.running(1)
    assert zones_asked(world)[-1] == B


async def test_on_demand_is_bought_after_the_wait_and_for_no_more_replicas_than_allowed(world: World) -> None:
    world.documents.vm_spec = vm_spec(more=FALLBACK)
    world.cloud.exhausted = {spot(A)}
    await world.submit(replicas=2)
    await world.pass_time(9 * 60)
    assert {candidate.provisioning for candidate in world.cloud.asked} == {"Spot"}
    await world.running(1, within=400)
    await world.pass_time(1200)
    assert [candidate.provisioning for candidate in world.cloud.asked].count("OnDemand") == 1
    assert world.active == 1


async def test_machines_that_are_not_meant_to_be_preemptible_are_on_demand_and_stay_so(world: World) -> None:
    world.documents.vm_spec = vm_spec(more={"preemptible": False})
    await world.submit(replicas=1)
    await world.running(1)
    await world.pass_time(6 * 3600)
    assert [candidate.provisioning for candidate in world.cloud.asked] == ["OnDemand"]
    assert not world.documents.told("SeeksSpot")


async def test_back_to_spot_by_checkpointing_over(world: World) -> None:
    world.documents.vm_spec = vm_spec(more=FALLBACK)
    world.cloud.exhausted = {spot(A)}
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "5h"})
    await world.running(1, within=1200)
    dear = world.node_of(0)
    await world.pass_time(600)
    world.cloud.exhausted = set()
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1, within=3600)
    assert world.cloud.asked[-1].provisioning == "Spot"
    restored = world.job(0, 1).request.restore
    assert restored is not None
    assert restored.lineage == "0.0"
    assert world.entry(0).preemptions == 0
    await world.until(lambda: dear not in world.cloud.instances)
    await world.delete()
    await world.ended()
    await world.nothing_left()


async def test_who_is_preempted_takes_the_spot_vm_that_is_sought_for_it(world: World) -> None:
    world.documents.vm_spec = vm_spec(more=FALLBACK)
    world.cloud.exhausted = {spot(A)}
    await world.submit(replicas=1)
    await world.running(1, within=1200)
    await world.until(lambda: world.documents.told("SeeksSpot"), within=3600)
    world.cloud.exhausted = set()
    world.cloud.power_off(world.node_of(0))
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1, within=3600)
    await world.pass_time(900)
    assert len(world.cloud.of_job(world.documents.start.job_id)) == 1


async def test_who_is_preempted_while_its_spot_vm_is_given_up_buys_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.documents.vm_spec = vm_spec(more=FALLBACK)
    world.cloud.exhausted = {spot(A)}
    await world.submit(replicas=1)
    await world.running(1, within=1200)
    ensure = world.fleet.ensure_vm

    async def refuse(start: VmStart) -> EnsuredVm:
        monkeypatch.setattr(world.fleet, "ensure_vm", ensure)
        world.clock.after(1.5 * LATENCY, lambda: world.notice(0))  # the job learns of it while its release is under way
        raise ApplicationError("no VM today", non_retryable=True)

    monkeypatch.setattr(world.fleet, "ensure_vm", refuse)
    await world.until(lambda: world.documents.told("SeeksSpot"), within=3600)
    world.cloud.exhausted = set()
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1, within=3600)
    assert not world.documents.told("VMLost")


async def test_dearer_spot_is_told_with_the_figures(world: World) -> None:
    world.documents.vm_spec = vm_spec(zones=[B], more=FALLBACK)
    world.cloud.prices = {"us-central1/n1-standard-4": 0.2}
    await world.submit(replicas=2)
    await world.running(2)
    await world.until(lambda: world.documents.told("OnDemandCheaper"))
    told = [event.message for event in world.documents.events if event.reason == "OnDemandCheaper"]
    assert told == ["2 spot VMs cost $0.400 an hour, one on-demand VM $0.3: on-demand with replicas: 1 would cost less"]


async def test_the_market_remembers_how_long_machines_ran_and_that_one_was_lost(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.pass_time(3600)
    world.cloud.power_off(world.node_of(0))
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    await world.pass_time(60)
    seen = (await memory(world)).observations.of_kind(f"{A}/n1-standard-4")
    assert seen.losses == 1
    assert 1 <= seen.hours <= 1.2


async def test_an_end_that_could_not_be_told_at_first_is_told_at_last(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.down.add("tell_market")
    await world.delete()
    await world.until(lambda: world.of("delete_node"))
    assert (await memory(world)).bought
    world.down.clear()
    assert await world.ended() == "Deleted"
    await world.pass_time(60)
    assert not (await memory(world)).bought


async def loses_one_unseen(world: World) -> None:
    """Lose one of two machines, of which only the market tells the job."""
    await world.submit(replicas=2)
    await world.running(2)
    world.bridge.lost = {"node_changed", "preemption_notice", "replica_changed"}
    began = world.clock.now
    world.cloud.power_off(world.node_of(0))
    await world.until(lambda: world.entry(0).preemptions == 1, within=60)
    assert world.clock.now - began < timedelta(seconds=30)


async def test_the_clouds_own_word_of_a_preemption_is_a_notice(world: World) -> None:
    world.documents.timings = Timings(preempted_poll=5)
    await loses_one_unseen(world)


async def test_refused_credentials_of_one_machine_do_not_blind_the_market_to_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = Candidate(zone=A, machine_type="n1-standard-4")
    timings = Timings(preempted_poll=5)
    news = MarketNews(vm="revoked", kind="Bought", candidate=candidate, at=world.clock.now, namespace="revoked")
    await world.market.tell_market(TellMarket(project="p", timings=timings, news=news))
    found = world.cloud.find_preempted

    def find_preempted(request: FindPreempted) -> Preempted:
        if request.namespace == "revoked":
            raise ApplicationError("the key was revoked", type=errors.PERMISSION, non_retryable=True)
        return found(request)

    monkeypatch.setattr(world.cloud, "find_preempted", find_preempted)
    world.documents.timings = timings
    await loses_one_unseen(world)


def spot(zone: str) -> str:
    gpu: Any = vm_spec().gpu
    return Candidate(zone=zone, machine_type="n1-standard-4", gpu=gpu).key

"""A market in a crowd: a thousand who ask at once, fifty thousand machines, and what it costs if nobody asks."""

from collections import Counter

import pytest
from temporalio import workflow
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner

from activities.signatures import AskMarket, TellMarket
from activities.temporal import market
from activities.temporal.market import MarketActivities
from api import errors, names
from api.market import Candidate, Choice, Choose, MarketNews, MarketStart
from api.timings import Timings
from tests.bench.crowd.actions import counted
from tests.simulation.execution import Execution
from tests.simulation.simulation import Simulation
from tests.workflows.test_market import memory
from tests.workflows.test_mass import _vm_of as vm_of
from tests.workflows.world import World
from workflows.common import continue_as_new
from workflows.market.memory import BOUGHT, ENDED, KEPT

A, B = "us-central1-a", "us-central1-b"
CANDIDATES = [Candidate(zone=zone, machine_type="n1-standard-4") for zone in (A, B)]


async def test_a_market_with_machines_costs_few_actions_an_hour(world: World) -> None:
    world.documents.timings = Timings(preempted_poll=5)
    await world.submit(replicas=2)
    await world.running(2)
    await world.pass_time(1800)
    before = billed(world)
    await world.pass_time(4 * 3600)
    assert (billed(world) - before).total() <= 4 * 15


async def test_a_market_without_machines_costs_next_to_nothing(world: World) -> None:
    await ask(world, 1)
    before = billed(world)
    await world.pass_time(7 * 86_400)
    assert (billed(world) - before).total() <= 7 * 2


async def test_a_thousand_who_ask_at_once_are_answered_in_a_few_updates(world: World) -> None:
    choices = await ask(world, 1000)
    assert {choice.candidate.zone for choice in choices if choice.candidate} == {A, B}
    assert len([choice for choice in choices if choice.candidate]) == 1000
    counts = billed(world)
    assert counts["update"] <= 25
    assert counts.total() <= 30


async def test_fifty_thousand_machines_take_no_more_room_than_five_hundred(world: World) -> None:
    number, sizes = 50_000, []
    for first in range(0, number, 5000):
        await tell(world, [bought(world, each) for each in range(first, first + 5000)])
        sizes.append(len((await memory(world)).model_dump_json()))
    seen = await memory(world)
    assert max(sizes) < 1.2 * sizes[0] < 400_000
    assert len(seen.bought) == KEPT
    assert sum(one.count for one in seen.others.values()) == number - KEPT
    await world.pass_time(6 * 3600)
    for first in range(0, number, 5000):
        await tell(world, [ended(world, each, lost=each % 10 == 0) for each in range(first, first + 5000)])
    seen = await memory(world)
    assert (seen.bought, seen.others) == ({}, {})
    assert 0 < seen.observations.of_kind(f"{A}/n1-standard-4").losses < 1, "it counts once, and fades"
    assert seen.observations.of_kind(f"{B}/n1-standard-4").losses == 0
    assert billed(world)["signal"] == 0
    assert billed(world)["update"] <= 2 * number / 100


async def test_all_zones_are_watched_as_long_as_any_machine_of_many_lives(world: World) -> None:
    world.documents.timings = Timings(preempted_poll=5)
    await tell(world, [bought(world, each) for each in range(1000)])
    await tell(world, [ended(world, each) for each in range(998)])
    await world.pass_time(1800)
    assert watched(world)[-1] == [A, B]
    await tell(world, [ended(world, 998)])
    await world.pass_time(1800)
    assert watched(world)[-1] == [B]
    await tell(world, [ended(world, 999)])
    await world.pass_time(400)
    before = len(watched(world))
    await world.pass_time(86_400)
    assert len(watched(world)) == before


async def test_a_zone_in_which_the_first_machine_is_bought_is_watched_at_once(world: World) -> None:
    world.documents.timings = Timings(preempted_poll=5)
    await tell(world, [bought(world, 0)])
    await world.pass_time(100)
    await tell(world, [bought(world, 1)])
    assert watched(world) == [[A], [B]]
    await world.pass_time(600)
    assert watched(world)[2:] == [[A, B], [A, B]], "one watch follows both"


async def test_news_that_come_twice_count_once(world: World) -> None:
    news = bought(world, 0)
    await tell(world, [news, news, news])
    assert len((await memory(world)).bought) == 1
    shortage = news.model_copy(update={"kind": errors.NO_CAPACITY})
    await tell(world, [shortage, shortage])
    assert [one.times for one in (await memory(world)).rests.values()] == [1]


async def test_news_reach_a_market_that_takes_no_updates(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise RPCError("resource exhausted", RPCStatusCode.RESOURCE_EXHAUSTED, b"")

    monkeypatch.setattr(world.market, "_update", refuse)
    await tell(world, [bought(world, each) for each in range(20)])
    assert len((await memory(world)).bought) == 20
    assert billed(world)["signal"] == 20


@workflow.defn(name=names.MARKET_WORKFLOW)
class OlderMarket:
    """A market's run that a worker of release 0.2.0 carries out: it knows no update ``deal``."""

    @workflow.init
    def __init__(self, start: MarketStart) -> None:
        self.heard: list[str] = []

    @workflow.update
    async def choose(self, request: Choose) -> Choice:
        return Choice(candidate=request.candidates[request.replica], reason="the first")

    @workflow.signal
    def news(self, message: MarketNews) -> None:
        self.heard.append(message.vm)

    @workflow.query
    def vms(self) -> list[str]:
        return self.heard

    @workflow.run
    async def run(self, start: MarketStart) -> None:
        await workflow.wait_condition(lambda: False)


async def test_a_market_of_an_older_release_is_asked_and_told_as_before(idle_world: World) -> None:
    assert isinstance(idle_world.env, Simulation)
    async with idle_world.env.worker([OlderMarket], [], UnsandboxedWorkflowRunner()):
        choices = await ask(idle_world, 8)
        await tell(idle_world, [bought(idle_world, each) for each in range(20)])
        handle = idle_world.env.client.get_workflow_handle(names.market_workflow_id("p"))
        assert sorted(await handle.query("vms")) == [question(each).asker for each in range(20)]
    assert [choice.reason for choice in choices] == ["the first"] * 8


async def test_a_question_beside_one_that_waits_for_prices_is_answered_at_once(world: World) -> None:
    world.down.add("read_price")
    on_demand = [each.model_copy(update={"provisioning": "OnDemand"}) for each in CANDIDATES]
    one = question(1).model_copy(update={"candidates": on_demand})  # their prices are not asked for
    began, answered = world.clock.now, []

    async def ask_one(asked: Choose) -> None:
        await world.market.ask_market(AskMarket(project="p", timings=Timings(), question=asked))
        answered.append((asked.asker, (world.clock.now - began).total_seconds()))

    await world.meanwhile([ask_one(question(0)), ask_one(one)])
    (first, soon), (second, late) = answered
    assert (first, second) == (one.asker, question(0).asker)
    assert soon <= 1 < 5 <= late < 8, "the other gets the spec's order after five seconds"


async def test_runs_that_follow_each_other_quickly_lose_no_question_and_no_news(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continue_as_new, "EVENTS", 12)
    monkeypatch.setattr(market, "MOST", 5)
    world.market = MarketActivities(world.env.client, names.TASK_QUEUE)
    await world.meanwhile([both(world, each) for each in range(300)])
    await world.pass_time(60)
    assert len(runs(world)) > 10
    seen = await memory(world)
    assert len(seen.bought) == 300


async def test_a_stockout_of_days_costs_little_and_ends(world: World) -> None:
    """Ten VMs ask again after each cooldown; one of them tries, and the market's runs stay short."""
    world.documents.timings = Timings(preempted_poll=5)
    world.fleet.living = {f"train-{number}" for number in range(10)}
    world.cloud.exhausted = {A}
    for number in range(10):
        await world.fleet.ensure_vm(vm_of(number))
    await world.pass_time(3600)
    before, tries = billed(world), len(world.cloud.asked)
    await world.pass_time(3 * 86_400)
    days = billed(world) - before
    assert len(world.cloud.asked) - tries <= 3 * 24 * 2 + 2
    assert days.total() <= 3 * 24 * 15
    world.cloud.exhausted = set()
    await world.until(lambda: len(world.cloud.instances) == 10, within=40 * 60)


# --- the crowd


def runs(world: World) -> list[Execution]:
    """All runs of the market."""
    assert isinstance(world.env, Simulation)
    return [run for run in world.env.runs() if run.id == names.market_workflow_id("p")]


def billed(world: World) -> Counter[str]:
    """What the market has cost so far, in Temporal's actions by kind."""
    return counted(event for run in runs(world) for event in run.history.events)


def question(number: int) -> Choose:
    """What a VM asks; every second one begins in the second zone."""
    asker = names.vm_key(f"{number:08x}", 0, 1)
    return Choose(asker=asker, replica=number % 2, candidates=CANDIDATES, namespace="ml")


async def ask(world: World, number: int) -> list[Choice]:
    """Let so many VMs ask at once."""
    asked = [AskMarket(project="p", timings=world.documents.timings, question=question(each)) for each in range(number)]
    return await world.meanwhile(world.market.ask_market(each) for each in asked)


def bought(world: World, number: int, kind: str = BOUGHT, *, lost: bool = False) -> MarketNews:
    """A machine was bought: of the even numbers in one zone, of the odd ones in another."""
    asker, candidate = question(number).asker, CANDIDATES[number % 2]
    name = names.vm_name(asker, 1)
    return MarketNews(
        vm=asker, kind=kind, candidate=candidate, name=name, namespace="ml", lost=lost, at=world.clock.now
    )


def ended(world: World, number: int, *, lost: bool = False) -> MarketNews:
    """It is gone."""
    return bought(world, number, ENDED, lost=lost)


async def tell(world: World, news: list[MarketNews]) -> None:
    """Let as many VMs report at once."""
    told = [TellMarket(project="p", timings=world.documents.timings, news=each) for each in news]
    await world.meanwhile(world.market.tell_market(each) for each in told)


async def both(world: World, number: int) -> None:
    """A VM asks and reports that it was bought."""
    await world.market.ask_market(AskMarket(project="p", timings=Timings(), question=question(number)))
    await world.market.tell_market(TellMarket(project="p", timings=Timings(), news=bought(world, number)))


def watched(world: World) -> list[list[str]]:
    """The zones of each watch so far."""
    return [call.request.zones for call in world.of("watch_preempted")]

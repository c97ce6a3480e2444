"""The activities on a project's market: ask it what to buy, and report what became of that.

A market is one workflow, and Temporal lets only ten updates of a workflow be under way. So the activities of this
process share their calls: while one update is under way, what others ask and report is collected for the next.
"""

import contextlib
from datetime import timedelta

from temporalio import activity
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import TemporalError
from temporalio.service import RPCError, RPCStatusCode

from activities import signatures
from activities.signatures import AskHazard, AskMarket, Done, TellMarket
from api import names
from api.market import Choice, Deal, Dealt, Hazard, MarketNews, MarketStart
from api.search_attributes import PROJECT
from api.timings import Timings
from clients.search_attributes import Registration, typed
from clients.turns import Call, Turns

RPC_SECONDS = timedelta(seconds=5)
ANSWER_SECONDS = timedelta(seconds=12)  # the market may read prices first
AT_ONCE_SECONDS, PATIENT_SECONDS = timedelta(seconds=8), timedelta(seconds=11)

MOST, HEAVIEST = 200, 100 << 10
"""The most items and bytes of one update. Its answer names all candidates with their costs, so it may be six times as
large, and the service takes no payload of 2 MB."""

Dealing = AskMarket | TellMarket


class MarketActivities:
    """Reaches markets by Temporal's API; the first use starts one.

    Args:
        temporal: the service that runs the markets.
        task_queue: the queue of the worker that runs them.
        attributes: says whether they may have search attributes.
    """

    def __init__(
        self, temporal: Client, task_queue: str = names.TASK_QUEUE, attributes: Registration | None = None
    ) -> None:
        self._temporal = temporal
        self._task_queue = task_queue
        self._attributes = attributes or Registration()
        self._updates = Turns[tuple[str, bool], Dealing, Choice | None](self._deal, _fits)

    @activity.defn(name=signatures.ASK_MARKET.name)
    async def ask_market(self, ask: AskMarket) -> Choice:
        """Ask for the market's choice; each call gets a new answer."""
        try:
            at_once = await self._updates.ask((ask.project, False), ask)
            choice = at_once or await self._updates.ask((ask.project, True), ask)
            assert choice is not None, "a patient question is answered"
            return choice
        except WorkflowUpdateFailedError:  # this run of the market is of an older release
            return await self._ask_alone(ask)

    async def _ask_alone(self, ask: AskMarket) -> Choice:
        handle = await self._market(ask.project, ask.timings)
        question = ask.question.model_copy(update={"timings": ask.timings})
        choice: Choice = await handle.execute_update("choose", question, result_type=Choice, rpc_timeout=ANSWER_SECONDS)
        return choice

    @activity.defn(name=signatures.ASK_HAZARD.name)
    async def ask_hazard(self, ask: AskHazard) -> Hazard:
        """Read the loss rate that the market has seen; None if nobody has bought anything yet."""
        handle = self._temporal.get_workflow_handle(names.market_workflow_id(ask.project))
        try:
            found: Hazard = await handle.query("hazard", ask.question, result_type=Hazard, rpc_timeout=RPC_SECONDS)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return Hazard(losses_per_hour=None)
        return found

    @activity.defn(name=signatures.TELL_MARKET.name)
    async def tell_market(self, tell: TellMarket) -> Done:
        """Report the news. A market that does not answer gets them by a signal, which waits for it.

        News that were delivered twice count once.
        """
        if not activity.in_activity() or activity.info().attempt == 1:
            with contextlib.suppress(TemporalError):
                await self._updates.ask((tell.project, False), tell)
                return Done()
        news = tell.news.model_copy(update={"timings": tell.timings})
        await self._market(tell.project, tell.timings, news)
        return Done()

    async def _deal(self, key: tuple[str, bool], calls: list[Call[Dealing, Choice | None]]) -> None:
        """Ask and report several things by one update; a market that does not exist yet is started."""
        project, patient = key
        items = [call.item for call in calls]
        deal = Deal(
            news=[item.news for item in items if isinstance(item, TellMarket)],
            questions=[item.question for item in items if isinstance(item, AskMarket)],
            patient=patient,
            timings=items[-1].timings,
        )
        handle: WorkflowHandle[object, str] = self._temporal.get_workflow_handle(names.market_workflow_id(project))
        try:
            dealt = await self._update(handle, deal)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            dealt = await self._update(await self._market(project, items[-1].timings), deal)
        choices = iter(dealt.choices)
        for call in calls:
            call.succeed(next(choices) if isinstance(call.item, AskMarket) else None)

    async def _update(self, handle: WorkflowHandle[object, str], deal: Deal) -> Dealt:
        seconds = PATIENT_SECONDS if deal.patient else AT_ONCE_SECONDS
        dealt: Dealt = await handle.execute_update("deal", deal, result_type=Dealt, rpc_timeout=seconds)
        return dealt

    async def _market(
        self, project: str, timings: Timings, news: MarketNews | None = None
    ) -> WorkflowHandle[object, str]:
        return await self._temporal.start_workflow(
            names.MARKET_WORKFLOW,
            MarketStart(project=project, timings=timings),
            id=names.market_workflow_id(project),
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal="news" if news else None,
            start_signal_args=[news] if news else [],
            static_summary=f"the spot market of {project}"[:200],
            search_attributes=typed({PROJECT: project}) if self._attributes.registered else None,
            result_type=str,
            rpc_timeout=RPC_SECONDS,
        )


def _fits(items: list[Dealing]) -> int:
    """Return how many of these fit into one update, beginning with the first, which always does."""
    weight = 0
    for count, item in enumerate(items):
        weight += _weight(item)
        if count == MOST or (count and weight > HEAVIEST):
            return count
    return len(items)


def _weight(item: Dealing) -> int:
    """Return about how many bytes an item takes."""
    return len((item.question if isinstance(item, AskMarket) else item.news).model_dump_json())

"""The activities on a project's market: ask it what to buy, tell it what became of that."""

from datetime import timedelta

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from activities import signatures
from activities.signatures import AskHazard, AskMarket, Done, TellMarket
from api import names
from api.market import Choice, Hazard, MarketNews, MarketStart
from api.timings import Timings

RPC_SECONDS = timedelta(seconds=5)
ANSWER_SECONDS = timedelta(seconds=12)  # the market may read prices first


class MarketActivities:
    """Reaches markets by Temporal's API; the first who does begins one.

    Args:
        temporal: the service that runs them.
        task_queue: of the worker that is to run them.
    """

    def __init__(self, temporal: Client, task_queue: str = names.TASK_QUEUE) -> None:
        self._temporal = temporal
        self._task_queue = task_queue

    @activity.defn(name=signatures.ASK_MARKET.name)
    async def ask_market(self, ask: AskMarket) -> Choice:
        """The market's choice; asked again it answers anew."""
        handle = await self._market(ask.project, ask.timings)
        question = ask.question.model_copy(update={"timings": ask.timings})
        choice: Choice = await handle.execute_update("choose", question, result_type=Choice, rpc_timeout=ANSWER_SECONDS)
        return choice

    @activity.defn(name=signatures.ASK_HAZARD.name)
    async def ask_hazard(self, ask: AskHazard) -> Hazard:
        """What the market has seen; where nobody ever bought anything there is none."""
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
        """Signal the news; told twice it is taken in twice, which lengthens a rest and loses nothing."""
        news = tell.news.model_copy(update={"timings": tell.timings})
        await self._market(tell.project, tell.timings, news)
        return Done()

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
            result_type=str,
            rpc_timeout=RPC_SECONDS,
        )

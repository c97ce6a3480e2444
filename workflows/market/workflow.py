"""The market of one project: what all jobs have learned, so that what one job could not buy the others do not try.

There is one such workflow for each project. VMs ask it which candidate to try, and report to it what became of the
attempt. Both come in batches, each by one update, which is answered one after the other. It reads prices, and keeps
watched the operations by which the cloud preempts machines, for all zones at once, however many machines are in them.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import names
    from api.errors import CORRECTABLE
    from api.market import Choice, Choose, Deal, Dealt, Hazard, HazardQuestion, MarketNews, MarketStart
    from workflows.market import memory as policy
    from workflows.market import placement
    from workflows.market.card import card

from workflows.common.continue_as_new import go_on, is_time_to_go_on
from workflows.common.handlers import drop_misfits, refuse_misfits
from workflows.common.patches import patched
from workflows.market.desk import Desk
from workflows.market.polls import Polls
from workflows.market.prices import SECONDS, Prices
from workflows.market.state import MarketState
from workflows.market.watch import PreemptionWatch

IDLE = timedelta(days=1)
"""A market without work wakes this often, so that it moves on to newer code."""


@workflow.defn(name=names.MARKET_WORKFLOW)
class SpotMarket:
    """The market of one project, which lives for ever. Each run hands its memory to the next."""

    @workflow.init
    def __init__(self, start: MarketStart) -> None:
        """Begin with an empty memory, or with that of the run before."""
        self.desk = Desk(start)
        self.state = self.desk.state
        self.prices = Prices(self.desk)

    @workflow.update(description="What several VMs report and ask at the same moment.")
    @refuse_misfits
    async def deal(self, request: Deal) -> Dealt:
        """Record the news, then answer each question. Without patience nobody is kept waiting for prices."""
        self.desk.adopt(request.timings)
        for news in request.news:
            self._learn(news, soon=news.kind in CORRECTABLE)
        waiting = [bool(self.prices.lacking(question)) for question in request.questions]
        self.prices.wanted += [question for question, waits in zip(request.questions, waiting, strict=True) if waits]
        if request.patient and any(waiting):
            await self._await_prices(request.questions)
            waiting = [False for _ in waiting]
        choices = [
            None if waits else self._choose(question)
            for question, waits in zip(request.questions, waiting, strict=True)
        ]
        self._show()
        return Dealt(choices=choices)

    async def _await_prices(self, questions: list[Choose]) -> None:
        try:
            await workflow.wait_condition(
                lambda: not any(self.prices.lacking(question) for question in questions) or is_time_to_go_on(),
                timeout=timedelta(seconds=SECONDS),
                timeout_summary="prices",
            )
        except TimeoutError:
            workflow.logger.info("no prices yet for some of %s VMs", len(questions))

    @workflow.update(description="Which candidate is to be tried next, and why.")
    @refuse_misfits
    async def choose(self, request: Choose) -> Choice:
        """Answer one question, as workers of releases up to 0.2.0 ask it."""
        self.desk.adopt(request.timings)
        if self.prices.lacking(request):
            self.prices.wanted.append(request)
            try:
                await workflow.wait_condition(
                    lambda: not self.prices.lacking(request),
                    timeout=timedelta(seconds=SECONDS),
                    timeout_summary="prices",
                )
            except TimeoutError:
                workflow.logger.info("no prices for %s yet", request.asker)
        return self._choose(request)

    def _choose(self, request: Choose) -> Choice:
        """Choose the candidate whose useful hour is expected to cost least, of those not in cooldown."""
        now = workflow.now()
        choice = placement.choose(request, self.state, now)
        policy.grant_turn(self.state, request, choice, now, self.desk.timings.create_deadline)
        return choice

    @workflow.signal(description="A VM was bought, could not be had, or has ended.")
    @drop_misfits
    def news(self, message: MarketNews) -> None:
        """Record news of one VM: from a worker up to 0.2.0, or that no update could deliver."""
        self.desk.adopt(message.timings)
        self._learn(message, soon=message.kind in CORRECTABLE and patched("corrected-soon"))
        self._show()

    def _learn(self, news: MarketNews, *, soon: bool) -> None:
        """Record what the news means for the next choice."""
        if policy.is_new(self.state, news):
            policy.learn(self.state, news, self.desk.timings.stockout_rest, soon=soon)

    @workflow.query(description="What is remembered: cooldowns, losses, prices, machines.")
    def memory(self) -> MarketState:
        """Return the whole state."""
        return self.state

    @workflow.query(description="How often machines like these are lost.")
    def hazard(self, question: HazardQuestion) -> Hazard:
        """Estimate the loss rate of machines from those of all jobs."""
        return policy.loss_rate_of(self.state, question)

    @workflow.run
    async def run(self, start: MarketStart) -> str:
        """Read prices and look for preempted machines, for ever, in runs of bounded length."""
        self._show()
        if patched("watched-preemptions"):
            await self._trade()
        else:
            await Polls(self.desk, self.prices, IDLE).run()
        await workflow.wait_condition(workflow.all_handlers_finished)
        policy.forget(self.state, workflow.now())
        go_on(self.desk.start, self.state)

    def _show(self) -> None:
        workflow.set_current_details(card(self.desk.project, self.state, workflow.now()))

    async def _trade(self) -> None:
        """Read prices and keep the memory small, until it is time to go on. One timer ends a run without work."""
        self._watch = asyncio.create_task(PreemptionWatch(self.desk).run())
        day = asyncio.create_task(workflow.sleep(IDLE))
        while not (is_time_to_go_on() or day.done()):
            policy.thin_out(self.state, workflow.now())
            await self.prices.read()
            await workflow.wait_condition(
                lambda: (
                    bool(self.prices.wanted)
                    or len(self.state.bought) > policy.KEPT
                    or is_time_to_go_on()  # during a stockout updates fill the history
                    or day.done()
                )
            )

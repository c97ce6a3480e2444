"""The market of one project: what all jobs have learnt of it, so that one job's stockout spares the others theirs.

One entity a project. VMs ask it which candidate to try (an update, so that the answers are given one after the other)
and tell it what became of it; it reads prices, and looks for the operations by which the cloud took machines back:
once a zone, however many machines are there.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import names
    from api.market import Candidate, Choice, Choose, Hazard, HazardQuestion, MarketNews, MarketStart
    from api.messages import PreemptionNotice
    from api.timings import Timings
    from workflows.policy import market as policy
    from workflows.policy import placement
    from workflows.policy.placement import quote_key

from workflows.calls import call, explain
from workflows.history import go_on, is_time_to_go_on
from workflows.market_state import MarketState, Quote

PRICE_SECONDS = 5.0  # that a first choice waits for prices; they are worth a short wait and no more
QUOTE_LASTS = timedelta(days=1)
IDENTITIES = 50  # that are remembered to have asked for a price in vain
IDLE = timedelta(days=1)  # an entity without work wakes daily, so that it moves on to newer code


@workflow.defn(name=names.MARKET_WORKFLOW)
class SpotMarket:
    """Lives as long as its project is used; its memory goes with it from run to run."""

    @workflow.init
    def __init__(self, start: MarketStart) -> None:
        """Begin, or go on after continue-as-new."""
        self.start = start
        self.state = MarketState.model_validate(start.state or {})
        self._unpriced: list[Choose] = []

    @workflow.update(description="Which candidate is to be tried next, and why.")
    async def choose(self, request: Choose) -> Choice:
        """The one whose useful hour is expected to cost least, of those that do not rest."""
        self._heed(request.timings)
        if len(request.candidates) > 1 and self._without_quote(request):
            self._unpriced.append(request)
            try:
                await workflow.wait_condition(
                    lambda: not self._without_quote(request),
                    timeout=timedelta(seconds=PRICE_SECONDS),
                    timeout_summary="prices",
                )
            except TimeoutError:
                workflow.logger.info("no prices for %s yet", request.asker)
        now = workflow.now()
        choice = placement.choose(request, self.state, now)
        policy.granted(self.state, request, choice, now, self.start.timings.create_deadline)
        return choice

    @workflow.signal(description="A VM was bought, could not be had, or has ended.")
    def news(self, message: MarketNews) -> None:
        """Remember what it means for the next choice."""
        self._heed(message.timings)
        policy.learn(self.state, message, self.start.timings.stockout_rest)

    @workflow.query(description="What is remembered: rests, losses, prices, machines.")
    def memory(self) -> MarketState:
        """The whole state."""
        return self.state

    @workflow.query(description="How often machines like these are lost.")
    def hazard(self, question: HazardQuestion) -> Hazard:
        """By what was seen of all jobs' machines."""
        return policy.hazard_of(self.state, question)

    @workflow.run
    async def run(self, start: MarketStart) -> str:
        """Poll and read prices while there is something to do; for ever, in runs of bounded length."""
        # A run by continue-as-new has no static summary, and the SDK sets none.
        workflow.set_current_details(f"the spot market of **{self.start.project}**")
        began = workflow.now()
        while not is_time_to_go_on() and workflow.now() - began < IDLE:
            await self._read_prices()
            await self._look_for_preempted()
            await self._rest()
        await workflow.wait_condition(workflow.all_handlers_finished)
        policy.forget(self.state, workflow.now())
        go_on(self.start, self.state)

    def _heed(self, timings: Timings | None) -> None:
        """An installation's settings may change in the long life of a market: those that came last are in force."""
        if timings is not None:
            self.start = self.start.model_copy(update={"timings": timings})

    async def _rest(self) -> None:
        """Until the next look, or until there is something to look for."""
        polls = self.start.timings.preempted_poll
        busy = bool(self.state.bought) and polls > 0
        try:
            await workflow.wait_condition(
                lambda: (
                    bool(self._unpriced)
                    or (not busy and bool(self.state.bought) and polls > 0)
                    or is_time_to_go_on()  # updates alone fill the history during a stockout
                ),
                timeout=timedelta(seconds=polls) if busy else IDLE,
                timeout_summary="the next look for preempted operations" if busy else "something to do",
            )
        except TimeoutError:
            return

    # --- prices

    def _without_quote(self, request: Choose) -> list[Candidate]:
        """Spot candidates whose price was not read for a day with these credentials; one a region and machine type."""
        fresh = workflow.now() - QUOTE_LASTS
        lacking: dict[str, Candidate] = {}
        for candidate in request.candidates:
            quote = self.state.quotes.get(quote_key(candidate))
            if candidate.provisioning == "Spot" and (
                quote is None or quote.read_at < fresh or (quote.refused and request.identity not in quote.refused)
            ):
                lacking.setdefault(quote_key(candidate), candidate)
        return list(lacking.values())

    async def _read_prices(self) -> None:
        requests, self._unpriced = self._unpriced, []
        lacking = {
            quote_key(candidate): (candidate, request)
            for request in requests
            for candidate in self._without_quote(request)
        }
        await asyncio.gather(*(self._read_price(candidate, request) for candidate, request in lacking.values()))

    async def _read_price(self, candidate: Candidate, asked: Choose) -> None:
        request = act.ReadPrice(
            project=self.start.project, candidate=candidate, namespace=asked.namespace, credentials=asked.credentials
        )
        key, usd, refused = quote_key(candidate), None, list[str]()
        try:
            usd = (await call(act.READ_PRICE, request, summary=f"price of {key}")).usd_per_hour
        except ActivityError as error:
            # Without a price the spec's own order decides.
            workflow.logger.warning("price of %s: %s", key, explain(error)[1])
            if workflow.patched("prices-by-identity"):  # one team's key is no reason to leave the others unpriced
                before = self.state.quotes.get(key)
                refused = [*(before.refused if before else []), asked.identity][-IDENTITIES:]
        self.state.quotes[key] = Quote(usd_per_hour=usd, read_at=workflow.now(), refused=refused)

    # --- preempted machines

    async def _look_for_preempted(self) -> None:
        """One look at each zone with machines of ours; whose machine was taken back is told."""
        if not self.state.bought or self.start.timings.preempted_poll <= 0:
            return
        began = workflow.now()
        found = await self._find_preempted()
        for key in policy.newly_preempted(self.state, found.vms, began) if found else []:
            await self._tell(key)

    async def _find_preempted(self) -> act.Preempted | None:
        """By the credentials of one of the machines: some may be revoked, or gone with their namespace."""
        bought = list(self.state.bought.values())
        zones = sorted({vm.candidate.zone for vm in bought})
        since = self.state.looked_at or min(vm.since for vm in bought)
        for namespace, credentials in dict.fromkeys((vm.namespace, vm.credentials) for vm in bought):
            request = act.FindPreempted(
                project=self.start.project, zones=zones, since=since, namespace=namespace, credentials=credentials
            )
            try:
                return await call(act.FIND_PREEMPTED, request, summary=f"preempted in {', '.join(zones)}?")
            except ActivityError as error:
                reason, message = explain(error)
                workflow.logger.warning("preempted operations: %s", message)
                if reason == "Transient":  # the cloud's own trouble, whoever asks
                    return None
        return None

    async def _tell(self, key: str) -> None:
        handle = workflow.get_external_workflow_handle(names.vm_workflow_id(key))
        try:
            await handle.signal("preemption_notice", PreemptionNotice(source="compute.instances.preempted"))
        except FailureError:
            self.state.bought.pop(key, None)  # its life is over

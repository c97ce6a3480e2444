"""The prices of spot VMs: read once a day for each region and machine type, when somebody asks."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.market import Candidate, Choose
    from workflows.market.placement import quote_key

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.market.desk import Desk
from workflows.market.state import Quote

SECONDS = 5.0
"""How long a choice waits for prices. They are worth a short wait, but no more."""

QUOTE_LASTS = timedelta(days=1)
"""How long a price is used before it is read again."""

IDENTITIES = 50
"""How many identities that got no price are remembered for each price."""


class Prices:
    """Reads the prices that questions need."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.wanted: list[Choose] = []

    def lacking(self, request: Choose) -> list[Candidate]:
        """List spot candidates without a recent price for these credentials, one for each region and machine type.

        A price that decides nothing, because there is one candidate, is part of what the job costs.
        """
        if len(request.candidates) < 2 and not patched("priced-alone"):
            return []
        fresh = workflow.now() - QUOTE_LASTS
        lacking: dict[str, Candidate] = {}
        for candidate in request.candidates:
            quote = self._desk.state.quotes.get(quote_key(candidate))
            if candidate.provisioning == "Spot" and (
                quote is None or quote.read_at < fresh or (quote.refused and request.identity not in quote.refused)
            ):
                lacking.setdefault(quote_key(candidate), candidate)
        return list(lacking.values())

    async def read(self) -> None:
        """Read the prices that are wanted now."""
        requests, self.wanted = self.wanted, []
        lacking = {
            quote_key(candidate): (candidate, request) for request in requests for candidate in self.lacking(request)
        }
        await asyncio.gather(*(self._read(candidate, request) for candidate, request in lacking.values()))

    async def _read(self, candidate: Candidate, asked: Choose) -> None:
        request = act.ReadPrice(
            project=self._desk.project, candidate=candidate, namespace=asked.namespace, credentials=asked.credentials
        )
        key, usd, refused = quote_key(candidate), None, list[str]()
        quotes = self._desk.state.quotes
        try:
            usd = (await call(act.READ_PRICE, request, summary=f"price of {key}")).usd_per_hour
        except ActivityError as error:
            # Without a price the order in the spec decides.
            workflow.logger.warning("price of %s: %s", key, explain(error)[1])
            if patched("prices-by-identity"):  # one team's key is no reason to leave the others unpriced
                before = quotes.get(key)
                refused = [*(before.refused if before else []), asked.identity][-IDENTITIES:]
        quotes[key] = Quote(usd_per_hour=usd, read_at=workflow.now(), refused=refused)

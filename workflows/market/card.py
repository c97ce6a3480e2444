"""The market as a card for Temporal's Web UI: what cannot be bought until when, and what it knows. Pure.

It leaves out the messages of the cloud: each is for the people of one namespace.
"""

from collections import Counter
from datetime import datetime

from workflows.common.markdown import moment, plain, table
from workflows.market.state import MarketState

LISTED = 20
"""How many rows a table has at most."""


def card(project: str, state: MarketState, now: datetime) -> str:
    """Describe the market in Markdown."""
    cooldowns = [(key, each) for key, each in state.rests.items() if each.until > now]
    cooldowns.sort(key=lambda pair: pair[1].until)
    own = sum(each.until > now for each in state.own.values())
    title = f"Not to be had now: {len(cooldowns)}" if cooldowns else "Everything may be tried"
    lines = [f"### {title}", "", f"The spot market of **{project}**, as of {moment(now)}"]
    if cooldowns:
        lines += ["", "Not offered to any job until the time in the last column, and then tried by one VM first:", ""]
        rows = (
            (plain(key), each.reason, f"{each.times} times", moment(each.since), moment(each.until))
            for key, each in cooldowns[:LISTED]
        )
        lines += [*table(("what", "why", "failed", "since", "until"), rows), *_more(len(cooldowns))]
        lines += ["", "*What helps:* more zones or alternatives in the SpotInstanceVMs, a quota, or onDemandFallback."]
    if own:
        lines += ["", f"{own} more concern single VMs, whose own cards say why."]
    machines = Counter(bought.candidate.key for bought in state.bought.values())
    if machines:
        kinds = ((str(count), plain(key)) for key, count in machines.most_common(LISTED))
        lines += ["", *table(("VMs", "kind"), kinds), *_more(len(machines))]
    prices = [(key, quote) for key, quote in sorted(state.quotes.items()) if quote.usd_per_hour is not None]
    if prices:
        read = (
            (plain(key), plain(f"${quote.usd_per_hour:.3f}"), moment(quote.read_at)) for key, quote in prices[:LISTED]
        )
        lines += ["", *table(("spot price", "an hour", "read"), read), *_more(len(prices))]
    return "\n".join(lines)


def _more(count: int) -> list[str]:
    return ["", f"… and {count - LISTED} more: query `memory`"] if count > LISTED else []

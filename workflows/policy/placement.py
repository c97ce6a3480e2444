"""Which candidate is tried next: the one whose useful hour is expected to cost least, of those that do not rest."""

from datetime import datetime, timedelta

from api.market import Candidate, Choice, Choose, Considered
from workflows.market_state import MarketState, Rest
from workflows.policy.hazard import losses_per_hour
from workflows.policy.rests import rests_on, words

LOST_HOURS = 0.25  # of each loss: to notice, buy, join and restore, and the training since the last checkpoint
LEAST_USEFUL = 0.1  # of an hour: a cost stays finite, however often machines are lost
ASK_AGAIN = timedelta(seconds=20)  # while another VM tries what the asker waits for
SAME_ZONE = 1.1  # a zone of a sibling is worth leaving for a tenth more, for its machines go together


def choose(request: Choose, state: MarketState, now: datetime) -> Choice:
    """Rank the candidates; the first that does not rest is the choice.

    Expected cost per useful hour = price / (1 - losses per hour x hours lost with each). Where a price is unknown the
    spec's order decides between machine types and the losses between zones.
    """
    if not request.candidates:
        return Choice(candidate=None, reason="the SpotInstanceVM allows nothing that could be bought")
    considered = [_consider(candidate, request, state, now) for candidate in request.candidates]
    priced = all(one.cost is not None for one in considered)
    order = {kind: number for number, kind in enumerate(dict.fromkeys(map(shape, request.candidates)))}

    def rank(position: int) -> tuple[float, float, int]:
        one = considered[position]
        apart = SAME_ZONE if one.candidate.zone in request.avoid_zones else 1.0
        # On a tie siblings begin at different places of the list: they are bought at the same time.
        turn = (position - request.replica) % len(considered)
        if priced:
            return round(apart * (one.cost or 0), 6), 0, turn
        return order[shape(one.candidate)], round(apart / useful_share(one.losses_per_hour), 6), turn

    ranked = [considered[position] for position in sorted(range(len(considered)), key=rank)]
    free = [one for one in ranked if one.rests_until is None]
    if not free:
        return _none(ranked, request, state, now)
    passed_over = [one for one in ranked[: ranked.index(free[0])] if one.why]
    return Choice(
        candidate=free[0].candidate,
        price=free[0].price,
        reason="; ".join([_praise(free[0]), *(f"not {one.candidate.label}: {one.why}" for one in passed_over[:3])]),
        considered=ranked,
    )


def shape(candidate: Candidate) -> str:
    """A machine type with its GPUs, wherever it is."""
    gpu = f"{candidate.gpu.count}x{candidate.gpu.type}" if candidate.gpu else ""
    return f"{candidate.provisioning}/{candidate.machine_type}/{gpu}"


def quote_key(candidate: Candidate) -> str:
    """What a price is remembered by."""
    return f"{candidate.region}/{shape(candidate)}"


def kind_of(candidate: Candidate) -> str:
    """What losses are remembered by."""
    return f"{candidate.zone}/{candidate.machine_type}"


def useful_share(losses: float) -> float:
    """The part of an hour that is not lost with machines."""
    return max(LEAST_USEFUL, 1 - losses * LOST_HOURS)


def _consider(candidate: Candidate, request: Choose, state: MarketState, now: datetime) -> Considered:
    seen = state.observations.of_kind(kind_of(candidate))
    spot = candidate.provisioning == "Spot"
    losses = losses_per_hour(seen.losses, seen.hours) if spot else 0.0
    quote = state.quotes.get(quote_key(candidate))
    price = quote.usd_per_hour if quote else None
    resting = _longest(candidate, request, state, now)
    return Considered(
        candidate=candidate,
        price=price,
        cost=round(price / useful_share(losses), 4) if price is not None else None,
        losses_per_hour=round(losses, 4),
        rests_until=resting.until if resting else None,
        why=f"{resting.reason} since {resting.since:%H:%M}, rests until {resting.until:%H:%M:%S} UTC"
        if resting
        else "",
    )


def _longest(candidate: Candidate, request: Choose, state: MarketState, now: datetime) -> Rest | None:
    rests = rests_on(state, candidate, request)
    holding = [rest for rest in rests if rest.until > now and rest.tried_by != request.asker]
    return max(holding, key=lambda rest: rest.until, default=None)


def _praise(one: Considered) -> str:
    if one.cost is None:
        return f"{one.candidate.label}: first of those that can be had"
    return (
        f"{one.candidate.label}: ${one.cost:.3f} per useful hour (${one.price:.3f}, {one.losses_per_hour:.3f} losses/h)"
    )


def _none(ranked: list[Considered], request: Choose, state: MarketState, now: datetime) -> Choice:
    next_up = min(ranked, key=lambda one: one.rests_until or datetime.max)
    resting = max(rests_on(state, next_up.candidate, request), key=lambda rest: rest.until)
    others = f" ({len(ranked)} candidates rest)" if len(ranked) > 1 else ""
    reason = (
        f"{words(resting, next_up.candidate, request)}; since {resting.since:%Y-%m-%d %H:%M} UTC{others}; "
        f"next: {next_up.candidate.label} at {resting.until:%H:%M:%S} UTC"
    )
    until = next_up.rests_until
    if resting.tried_by and until:
        until = min(until, now + ASK_AGAIN)  # what becomes of it is known sooner than it could be
    return Choice(candidate=None, reason=reason, blocked_by=resting.reason, until=until, considered=ranked)

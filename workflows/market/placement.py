"""Which candidate is tried next: of those not in cooldown, the one whose useful hour is expected to cost least."""

from datetime import datetime, timedelta

from api.market import Candidate, Choice, Choose, Considered
from workflows.market.cooldowns import cooldowns_on, words
from workflows.market.state import Cooldown, MarketState
from workflows.policy.loss_rate import losses_per_hour

LOST_HOURS = 0.25
"""The hours that a loss costs: to notice it, buy, join and restore, and the training since the last checkpoint."""

LEAST_USEFUL = 0.1
"""The least part of an hour that counts as useful, so that a cost stays finite however often machines are lost."""

ASK_AGAIN = timedelta(seconds=20)
"""How soon to ask again while another VM tries the same candidate."""

SAME_ZONE = 1.1
"""The factor on the cost in a sibling's zone: machines of one zone tend to go together."""


def choose(request: Choose, state: MarketState, now: datetime) -> Choice:
    """Rank the candidates and choose the first that is not in cooldown.

    The expected cost per useful hour is price / (1 - losses per hour x hours lost with each). If a price is unknown,
    the spec's order decides between machine types, and the losses between zones.
    """
    if not request.candidates:
        return Choice(candidate=None, reason="the SpotInstanceVM allows nothing that could be bought")
    considered = [_consider(candidate, request, state, now) for candidate in request.candidates]
    priced = all(one.cost is not None for one in considered)
    order = {kind: number for number, kind in enumerate(dict.fromkeys(map(shape, request.candidates)))}

    def rank(position: int) -> tuple[float, float, int]:
        one = considered[position]
        apart = SAME_ZONE if one.candidate.zone in request.avoid_zones else 1.0
        # Siblings are bought at the same time, so on a tie each begins at another place in the list.
        turn = (position - request.replica) % len(considered)
        if priced:
            return round(apart * (one.cost or 0), 6), 0, turn
        return order[shape(one.candidate)], round(apart / useful_share(one.losses_per_hour), 6), turn

    ranked = [considered[position] for position in sorted(range(len(considered)), key=rank)]
    free = [one for one in ranked if one.rests_until is None]
    if not free:
        return _none(ranked, request, state, now)
    skipped = [one for one in ranked[: ranked.index(free[0])] if one.why]
    return Choice(
        candidate=free[0].candidate,
        price=free[0].price,
        reason="; ".join([_cost_of(free[0]), *(f"not {one.candidate.label}: {one.why}" for one in skipped[:3])]),
        considered=ranked,
    )


def shape(candidate: Candidate) -> str:
    """Return a key for a machine type with its GPUs, in any zone."""
    gpu = f"{candidate.gpu.count}x{candidate.gpu.type}" if candidate.gpu else ""
    return f"{candidate.provisioning}/{candidate.machine_type}/{gpu}"


def quote_key(candidate: Candidate) -> str:
    """Return the key under which a price is remembered."""
    return f"{candidate.region}/{shape(candidate)}"


def kind_of(candidate: Candidate) -> str:
    """Return the key under which losses are remembered."""
    return f"{candidate.zone}/{candidate.machine_type}"


def useful_share(losses: float) -> float:
    """Return the part of an hour that is not lost with machines, from ``losses`` per hour."""
    return max(LEAST_USEFUL, 1 - losses * LOST_HOURS)


def _consider(candidate: Candidate, request: Choose, state: MarketState, now: datetime) -> Considered:
    seen = state.observations.of_kind(kind_of(candidate))
    spot = candidate.provisioning == "Spot"
    losses = losses_per_hour(seen.losses, seen.hours) if spot else 0.0
    quote = state.quotes.get(quote_key(candidate))
    price = quote.usd_per_hour if quote else None
    cooldown = _longest(candidate, request, state, now)
    return Considered(
        candidate=candidate,
        price=price,
        cost=round(price / useful_share(losses), 4) if price is not None else None,
        losses_per_hour=round(losses, 4),
        rests_until=cooldown.until if cooldown else None,
        why=f"{cooldown.reason} since {cooldown.since:%H:%M}, in cooldown until {cooldown.until:%H:%M:%S} UTC"
        if cooldown
        else "",
    )


def _longest(candidate: Candidate, request: Choose, state: MarketState, now: datetime) -> Cooldown | None:
    cooldowns = cooldowns_on(state, candidate, request)
    in_force = [each for each in cooldowns if each.until > now and each.tried_by != request.asker]
    return max(in_force, key=lambda each: each.until, default=None)


def _cost_of(one: Considered) -> str:
    if one.cost is None:
        return f"{one.candidate.label}: the first that is available"
    return (
        f"{one.candidate.label}: ${one.cost:.3f} per useful hour (${one.price:.3f}, {one.losses_per_hour:.3f} losses/h)"
    )


def _none(ranked: list[Considered], request: Choose, state: MarketState, now: datetime) -> Choice:
    next_up = min(ranked, key=lambda one: one.rests_until or datetime.max)
    cooldown = max(cooldowns_on(state, next_up.candidate, request), key=lambda each: each.until)
    others = f" ({len(ranked)} candidates in cooldown)" if len(ranked) > 1 else ""
    reason = (
        f"{words(cooldown, next_up.candidate, request)}; since {cooldown.since:%Y-%m-%d %H:%M} UTC{others}; "
        f"next: {next_up.candidate.label} at {cooldown.until:%H:%M:%S} UTC"
    )
    until = next_up.rests_until
    if cooldown.tried_by and until:
        until = min(until, now + ASK_AGAIN)  # the result of that try is known sooner than the time it may take
    return Choice(candidate=None, reason=reason, blocked_by=cooldown.reason, until=until, considered=ranked)

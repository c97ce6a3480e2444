"""What the market's memory makes of what it hears; the memory is bounded here."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from api.market import Choice, Choose, Hazard, HazardQuestion, MarketNews, PreemptedVm
from workflows.market_state import Bought, MarketState
from workflows.policy.exposure import hazard
from workflows.policy.placement import kind_of
from workflows.policy.rests import FORGOTTEN, keys_of, own_key, own_prefix, rest, shared_key

BOUGHT, ENDED = "Bought", "Ended"
KEPT = 500  # entries of a kind
LAG = timedelta(minutes=2)  # an operation may be listed so much later than it says it happened


def learn(state: MarketState, news: MarketNews, first_rest: float) -> None:
    """Take in what became of a VM or of an attempt; ``first_rest`` in seconds."""
    if news.kind == BOUGHT:
        _bought(state, news)
    elif news.kind == ENDED:
        _ended(state, news)
    else:
        _failed(state, news, first_rest)


def granted(state: MarketState, request: Choose, choice: Choice, now: datetime, create_seconds: float) -> None:
    """After a rest one VM tries, and the others wait for what becomes of it instead of failing one after the other."""
    if choice.candidate is None:
        return
    for key in keys_of(choice.candidate, request.identity):
        resting = state.rests.get(key)
        if resting is not None and resting.until <= now and now - resting.last <= FORGOTTEN:
            resting.tried_by, resting.until = request.asker, now + timedelta(seconds=create_seconds)


def _failed(state: MarketState, news: MarketNews, first_rest: float) -> None:
    for resting in state.rests.values():
        if resting.tried_by == news.vm:  # who learns only of its own spec gives the turn back to those who wait for it
            resting.tried_by, resting.until = None, min(resting.until, news.at)
    shared = shared_key(news)
    memory, key = (state.rests, shared) if shared else (state.own, own_key(news.vm, news.candidate))
    memory[key] = rest(memory.get(key), news, first_rest)


def _bought(state: MarketState, news: MarketNews) -> None:
    """What can be had does not rest."""
    for key in keys_of(news.candidate, news.identity):
        state.rests.pop(key, None)
    for key in [key for key in state.own if key.startswith(own_prefix(news.vm))]:
        del state.own[key]
    state.bought[news.vm] = Bought(
        name=news.name,
        candidate=news.candidate,
        since=news.at,
        namespace=news.namespace,
        credentials=news.credentials,
    )


def _ended(state: MarketState, news: MarketNews) -> None:
    vm = state.bought.pop(news.vm, None)
    if vm is None or vm.candidate.provisioning != "Spot":
        return
    kind, age = kind_of(vm.candidate), _age_hours(vm, news.at)
    state.observations.ran(kind, 0, age)
    if news.lost:
        state.observations.lost(kind, age, news.at)


def hazard_of(state: MarketState, question: HazardQuestion) -> Hazard:
    """The mean of what these machines have to expect; without one that was bought on spot, of any machine.

    Machines that run still count with the hours that they have run for.
    """
    seen = state.observations.model_copy(deep=True)
    spot = {key: vm for key, vm in state.bought.items() if vm.candidate.provisioning == "Spot"}
    for vm in spot.values():
        seen.ran(kind_of(vm.candidate), 0, _age_hours(vm, question.at))
    asked = [spot[key] for key in question.vms if key in spot]
    rates = [hazard(seen, kind_of(vm.candidate), _age_hours(vm, question.at)) for vm in asked] or [hazard(seen, "", 0)]
    return Hazard(losses_per_hour=sum(rates) / len(rates))


def _age_hours(vm: Bought, now: datetime) -> float:
    return max(0.0, (now - vm.since).total_seconds() / 3600)


def newly_preempted(state: MarketState, found: Iterable[PreemptedVm], looked_at: datetime) -> list[str]:
    """Keys of the VMs that these operations took back and that were not told of yet."""
    by_name = {vm.name: key for key, vm in state.bought.items()}
    fresh = [vm for vm in found if vm.operation not in state.told]
    state.told = [*state.told, *(vm.operation for vm in fresh)][-KEPT:]
    state.looked_at = looked_at - LAG
    return [by_name[vm.name] for vm in fresh if vm.name in by_name]


def forget(state: MarketState, now: datetime) -> None:
    """Drop what nobody needs any more."""
    for rests in (state.rests, state.own):
        for key in [key for key, resting in rests.items() if now - max(resting.last, resting.until) > FORGOTTEN]:
            del rests[key]
    state.observations.forget_all_but(KEPT)
    for memory in (state.rests, state.own, state.quotes):
        for key in list(memory)[:-KEPT]:
            del memory[key]

"""What the market's memory makes of what it hears; the memory is bounded here."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from api.market import Choice, Choose, MarketNews, PreemptedVm
from workflows.market_state import Bought, Exposure, MarketState
from workflows.policy.placement import exposure_key
from workflows.policy.rests import FORGOTTEN, keys_of, rest, resting_of

BOUGHT, ENDED = "Bought", "Ended"
ONE_MOMENT = timedelta(minutes=2)  # losses of a kind so close together have one cause
MEMORY = 720.0  # hours of machine time after which older experience fades
KEPT = 500  # entries of a kind
LAG = timedelta(minutes=2)  # an operation may be listed so much later than it says it happened


def learn(state: MarketState, news: MarketNews, first_rest: float) -> None:
    """Take in what became of a VM or of an attempt; ``first_rest`` in seconds."""
    if news.kind == BOUGHT:
        _bought(state, news)
    elif news.kind == ENDED:
        _ended(state, news)
    else:
        key = resting_of(news)
        state.rests[key] = rest(state.rests.get(key), news, first_rest)


def granted(state: MarketState, request: Choose, choice: Choice, now: datetime, create_seconds: float) -> None:
    """After a rest one VM tries, and the others wait for what becomes of it instead of failing one after the other."""
    if choice.candidate is None:
        return
    for key in keys_of(choice.candidate, request.identity):
        resting = state.rests.get(key)
        if resting is not None and resting.until <= now and now - resting.last <= FORGOTTEN:
            resting.tried_by, resting.until = request.asker, now + timedelta(seconds=create_seconds)


def _bought(state: MarketState, news: MarketNews) -> None:
    """What can be had does not rest."""
    for key in keys_of(news.candidate, news.identity):
        state.rests.pop(key, None)
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
    seen = state.exposures.setdefault(exposure_key(vm.candidate), Exposure())
    seen.hours += max(0.0, (news.at - vm.since).total_seconds() / 3600)
    if news.lost and (seen.last_loss is None or news.at - seen.last_loss > ONE_MOMENT):
        seen.losses += 1
    if news.lost:
        seen.last_loss = news.at
    if seen.hours > MEMORY:
        seen.losses, seen.hours = seen.losses * MEMORY / seen.hours, MEMORY


def newly_preempted(state: MarketState, found: Iterable[PreemptedVm], looked_at: datetime) -> list[str]:
    """Keys of the VMs that these operations took back and that were not told of yet."""
    by_name = {vm.name: key for key, vm in state.bought.items()}
    fresh = [vm for vm in found if vm.operation not in state.told]
    state.told = [*state.told, *(vm.operation for vm in fresh)][-KEPT:]
    state.looked_at = looked_at - LAG
    return [by_name[vm.name] for vm in fresh if vm.name in by_name]


def forget(state: MarketState, now: datetime) -> None:
    """Drop what nobody needs any more."""
    for key in [key for key, resting in state.rests.items() if now - max(resting.last, resting.until) > FORGOTTEN]:
        del state.rests[key]
    for memory in (state.rests, state.exposures, state.quotes):
        for key in list(memory)[:-KEPT]:
            del memory[key]

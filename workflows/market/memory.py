"""How news changes the market's memory, and what is forgotten so that it stays bounded."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from api.common import SecretReference
from api.market import OPERATION_LAG, Candidate, Choice, Choose, Hazard, HazardQuestion, MarketNews, PreemptedVm
from workflows.market.cooldowns import FORGOTTEN, keys_of, own_key, own_prefix, prolonged, shared_key
from workflows.market.exposure import loss_rate
from workflows.market.placement import kind_of
from workflows.market.state import Bought, MarketState, Others

BOUGHT, ENDED = "Bought", "Ended"
KEPT = 500
"""How many entries of each kind are kept."""

ASKERS = 20
"""How many credentials are tried in turn, before the next read tries them again."""

BYTES = 1 << 20
"""The largest memory that a run hands to the next. The service takes no input of 2 MB."""


def is_new(state: MarketState, news: MarketNews) -> bool:
    """True if these news have not been heard before: an activity that was repeated may deliver them twice."""
    this = f"{news.vm} {news.kind} {news.at.timestamp():.6f}"
    if this in state.heard:
        return False
    state.heard = [*state.heard, this][-KEPT:]
    return True


def learn(state: MarketState, news: MarketNews, first_cooldown: float, *, soon: bool = True) -> None:
    """Record what became of a VM or of an attempt. ``first_cooldown`` is the first cooldown in seconds."""
    if news.kind == BOUGHT:
        _bought(state, news)
    elif news.kind == ENDED:
        _ended(state, news)
    else:
        _failed(state, news, first_cooldown, soon)


def grant_turn(state: MarketState, request: Choose, choice: Choice, now: datetime, create_seconds: float) -> None:
    """Let one VM try a candidate after its cooldown, while the others wait for the result.

    Otherwise they would all fail, one after the other. A try may take ``create_seconds``.
    """
    if choice.candidate is None:
        return
    for key in keys_of(choice.candidate, request.identity):
        cooldown = state.rests.get(key)
        if cooldown is not None and cooldown.until <= now and now - cooldown.last <= FORGOTTEN:
            cooldown.tried_by, cooldown.until = request.asker, now + timedelta(seconds=create_seconds)


def _failed(state: MarketState, news: MarketNews, first_cooldown: float, soon: bool) -> None:
    for cooldown in state.rests.values():
        # The failure may concern only this VM's spec, so its turn goes to the VMs that wait for it.
        if cooldown.tried_by == news.vm:
            cooldown.tried_by, cooldown.until = None, min(cooldown.until, news.at)
    shared = shared_key(news)
    memory, key = (state.rests, shared) if shared else (state.own, own_key(news.vm, news.candidate))
    memory[key] = prolonged(memory.get(key), news, first_cooldown, soon=soon)


def _bought(state: MarketState, news: MarketNews) -> None:
    """End the cooldowns of what was bought, and remember the VM."""
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
    if vm is None:
        _forget_other(state, news.candidate)
        return
    if vm.candidate.provisioning != "Spot":
        return
    kind, age = kind_of(vm.candidate), _age_hours(vm, news.at)
    state.observations.ran(kind, 0, age)
    if news.lost:
        state.observations.lost(kind, age, news.at)


def thin_out(state: MarketState, now: datetime) -> None:
    """Keep a sample of the machines, so that the size of the memory does not depend on how many there are.

    The newest machines of the most common kind leave it, with the hours that they ran so far. Of all machines of a zone
    only the number is kept, because the zone is watched as long as there are any.
    """
    kinds = Counter(kind_of(vm.candidate) for vm in state.bought.values())
    while len(state.bought) > KEPT:
        [(commonest, _)] = kinds.most_common(1)
        key = next(key for key in reversed(state.bought) if kind_of(state.bought[key].candidate) == commonest)
        kinds[commonest] -= 1
        vm = state.bought.pop(key)
        if vm.candidate.provisioning != "Spot":
            continue
        state.observations.ran(commonest, 0, _age_hours(vm, now))
        before = state.others.get(vm.candidate.zone, Others())
        state.others[vm.candidate.zone] = Others(
            count=before.count + 1, namespace=vm.namespace, credentials=vm.credentials
        )


def _forget_other(state: MarketState, candidate: Candidate) -> None:
    others = state.others.get(candidate.zone)
    if others is None or candidate.provisioning != "Spot":
        return
    others.count -= 1
    if others.count <= 0:
        del state.others[candidate.zone]


def zones_with_machines(state: MarketState) -> list[str]:
    """List the zones in which the cloud may preempt a machine of ours."""
    sample = {vm.candidate.zone for vm in state.bought.values() if vm.candidate.provisioning == "Spot"}
    return sorted(sample | set(state.others))


def askers(state: MarketState, zones: list[str]) -> list[tuple[str, SecretReference | None]]:
    """List namespaces with credentials by which the cloud can be asked about machines in these zones."""
    sample = [(vm.namespace, vm.credentials) for vm in state.bought.values() if vm.candidate.zone in zones]
    others = [(state.others[zone].namespace, state.others[zone].credentials) for zone in zones if zone in state.others]
    return list(dict.fromkeys([*sample, *others]))[:ASKERS]


def looked_at(state: MarketState, zones: list[str], now: datetime) -> datetime:
    """Return from when on the operations in these zones are to be read.

    After weeks without machines these are not those of all the weeks, which may be many.
    """
    oldest = min((vm.since for vm in state.bought.values() if vm.candidate.zone in zones), default=now)
    if state.looked_at is None or any(zone in state.others for zone in zones):
        return state.looked_at or oldest
    return max(state.looked_at, oldest - OPERATION_LAG)


def loss_rate_of(state: MarketState, question: HazardQuestion) -> Hazard:
    """Estimate the mean loss rate of these machines; if none of them is a spot VM, that of any machine.

    Machines that still run count with the hours that they have run so far.
    """
    seen = state.observations.model_copy(deep=True)
    spot = {key: vm for key, vm in state.bought.items() if vm.candidate.provisioning == "Spot"}
    for vm in spot.values():
        seen.ran(kind_of(vm.candidate), 0, _age_hours(vm, question.at))
    asked = [spot[key] for key in question.vms if key in spot]
    rates = [loss_rate(seen, kind_of(vm.candidate), _age_hours(vm, question.at)) for vm in asked] or [
        loss_rate(seen, "", 0)
    ]
    return Hazard(losses_per_hour=sum(rates) / len(rates))


def _age_hours(vm: Bought, now: datetime) -> float:
    return max(0.0, (now - vm.since).total_seconds() / 3600)


def newly_preempted(state: MarketState, found: Iterable[PreemptedVm], looked_at: datetime) -> list[str]:
    """Return the keys of the VMs that these operations preempted and that were not notified yet."""
    by_name = {vm.name: key for key, vm in state.bought.items()}
    fresh = [vm for vm in found if vm.operation not in state.told]
    state.told = [*state.told, *(vm.operation for vm in fresh)][-KEPT:]
    state.looked_at = looked_at - OPERATION_LAG
    return [by_name[vm.name] for vm in fresh if vm.name in by_name]


def watched(state: MarketState, until: datetime | None, told: list[str]) -> None:
    """Record how far a watch has read the operations, and of which of them the VMs know."""
    if until is not None:
        state.looked_at = max(until, state.looked_at or until)
    state.told = list(dict.fromkeys([*state.told, *told]))[-KEPT:]


def forget(state: MarketState, now: datetime) -> None:
    """Drop what is no longer needed, and what is too much."""
    thin_out(state, now)
    for cooldowns in (state.rests, state.own):
        for key in [key for key, cooldown in cooldowns.items() if now - max(cooldown.last, cooldown.until) > FORGOTTEN]:
            del cooldowns[key]
    kept = KEPT
    _keep_last(state, kept)
    while kept > 1 and len(state.model_dump_json()) > BYTES:
        kept //= 2
        _keep_last(state, kept)


def _keep_last(state: MarketState, kept: int) -> None:
    """Keep the last entries of each kind, but all machines."""
    state.observations.forget_all_but(kept)
    for memory in (state.rests, state.own, state.quotes):
        for key in list(memory)[:-kept]:
            del memory[key]

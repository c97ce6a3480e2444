"""How long what cannot be had is left alone, and for whom.

All teams of a project share its market, so it shares only what the cloud said about something that they share: the
capacity of a zone, a quota, the permissions of a key. Everything else (a subnetwork that does not exist, a disk type,
a service account that a key may not act as) may be one spec's own mistake and rests for the VM that met it alone.

People of another namespace read about a shared rest in words made here from typed data. The cloud's own words may name
somebody else's instances and subnetworks, so only the namespace that was told them reads them.
"""

from datetime import timedelta

from api import errors
from api.market import Candidate, Choose, MarketNews
from workflows.market_state import MarketState, Rest
from workflows.policy.backoff import back_off

FORGOTTEN = timedelta(hours=3)  # after that a shortage counts as a new one
DOUBLINGS = 10.0  # the longest rest, in first ones: 3 min → 30 min
UNSUPPORTED = timedelta(hours=1)

EVERY_VM_NEEDS = frozenset(
    {
        "compute.instances.create",
        "compute.instances.setLabels",
        "compute.instances.setMetadata",
        "compute.disks.create",
    }
)
"""Permissions on the project that no spec can do without. Any other is needed for something that a spec names."""


def shared_key(news: MarketNews) -> str | None:
    """Choose what rests for everybody after this failure; None if it may be this one spec's own."""
    match news.kind:
        case errors.NO_CAPACITY:
            return news.candidate.key
        case errors.QUOTA:
            return _quota_key(news.candidate, news.scope)
        case errors.PERMISSION if not news.scope or news.scope in EVERY_VM_NEEDS:
            return _permissions_of(news.identity)
    return None


def own_key(vm: str, candidate: Candidate) -> str:
    """What rests for one VM alone."""
    return own_prefix(vm) + candidate.label


def own_prefix(vm: str) -> str:
    """What all own keys of a VM begin with."""
    return f"{vm}: "


def keys_of(candidate: Candidate, identity: str) -> list[str]:
    """All shared keys that may keep a candidate from being tried."""
    gpus, machine = _gpus_of(candidate), candidate.machine_type
    return [
        candidate.key,
        _permissions_of(identity),
        *dict.fromkeys([_quota_of(gpus, candidate), _quota_of(machine, candidate)]),
        *dict.fromkeys([_everywhere(_number_of_gpus(candidate)), _everywhere(machine)]),
    ]


def rests_on(state: MarketState, candidate: Candidate, request: Choose) -> list[Rest]:
    """Find everything that rests, or has rested, and concerns this candidate of this asker."""
    shared = [state.rests.get(key) for key in keys_of(candidate, request.identity)]
    found = [*shared, state.own.get(own_key(request.asker, candidate))]
    return [rest for rest in found if rest is not None]


def _permissions_of(identity: str) -> str:
    return f"permissions of {identity}"


def _quota_key(candidate: Candidate, metric: str) -> str | None:
    """Say what a quota is about: GPUs or CPUs, in a region or in all of them; None for addresses, disks and the like.

    It rests the candidates that ask for as much of it: a quota that is too small for eight GPUs may well hold one.
    GCE spells metrics ``NVIDIA_T4_GPUS`` and limits ``NVIDIA-T4-GPUS-per-project-region``.
    """
    spelled = metric.upper().replace("-", "_")
    if "GPU" in spelled:
        everywhere = "ALL_REGIONS" in spelled
        return _everywhere(_number_of_gpus(candidate)) if everywhere else _quota_of(_gpus_of(candidate), candidate)
    if "CPU" in spelled:
        machine = candidate.machine_type
        return _everywhere(machine) if "ALL_REGIONS" in spelled else _quota_of(machine, candidate)
    return None


def _quota_of(what: str, candidate: Candidate) -> str:
    return f"quota of {what} in {candidate.region} ({candidate.provisioning})"


def _everywhere(what: str) -> str:
    return f"quota of {what} in all regions"


def _gpus_of(candidate: Candidate) -> str:
    """Of a machine type whose spec names no GPU, but which may have some built in, its own name."""
    return f"{candidate.gpu.count} x {candidate.gpu.type}" if candidate.gpu else candidate.machine_type


def _number_of_gpus(candidate: Candidate) -> str:
    return f"{candidate.gpu.count} GPUs" if candidate.gpu else candidate.machine_type


def rest(before: Rest | None, news: MarketNews, first: float) -> Rest:
    """The rest after one more failure: ``first`` seconds, doubling; forgotten when nothing failed for three hours."""
    recent = before if before and news.at - before.last <= FORGOTTEN else None
    times = recent.times + 1 if recent else 1
    length = UNSUPPORTED if news.kind == errors.UNSUPPORTED else back_off(times, first, ceiling=DOUBLINGS)
    return Rest(
        reason=news.kind,
        message=news.message,
        namespace=news.namespace,
        scope=news.scope,
        since=recent.since if recent else news.at,
        last=news.at,
        until=news.at + length,
        times=times,
    )


def words(rest: Rest, candidate: Candidate, request: Choose) -> str:
    """Say why a candidate rests, in the cloud's words only for the namespace to which the cloud said them."""
    if rest.message and rest.namespace == request.namespace:
        return rest.message
    match rest.reason:
        case errors.NO_CAPACITY:
            return f"{candidate.key} is out of stock"
        case errors.QUOTA:
            where = "all regions" if "ALL_REGIONS" in rest.scope.upper().replace("-", "_") else candidate.region
            quota = f"the quota {rest.scope}" if rest.scope else "a quota"
            return f"{quota} is used up in {where}: ask Google for more (IAM & Admin, Quotas) or use another region"
        case errors.PERMISSION if rest.scope:
            return (
                f"{request.identity} lacks the permission {rest.scope}: grant it to the service account of these "
                "credentials"
            )
        case errors.PERMISSION:
            return (
                f"Google refuses {request.identity}: check that its key is valid, that the project has billing and "
                "that its Compute Engine API is enabled"
            )
    return rest.reason

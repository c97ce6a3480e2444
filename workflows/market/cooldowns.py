"""Cooldowns: how long a candidate that could not be bought is not offered, and to whom.

All teams of a project share its market, so a cooldown is shared only if it concerns something that they share: the
capacity of a zone, a quota, the permissions of a key. Everything else (a subnetwork that does not exist, a disk type,
a service account that a key may not act as) may be the mistake of one spec. It concerns only the VM that met it.

People of another namespace read about a shared cooldown in words made here from typed data. The cloud's own words may
name somebody else's instances and subnetworks, so they are shown only in the namespace that received them.
"""

from datetime import timedelta

from api import errors
from api.market import Candidate, Choose, MarketNews
from workflows.market.state import Cooldown, MarketState
from workflows.policy.backoff import back_off

FORGOTTEN = timedelta(hours=3)
"""A shortage counts as a new one if nothing failed for this long."""

LONGEST = 10.0
"""The longest cooldown as a multiple of the first: 3 minutes become 30."""

UNSUPPORTED = timedelta(hours=1)
"""The cooldown of a configuration that the cloud does not support."""
CORRECTED = timedelta(seconds=100)
"""The longest cooldown of what a person corrects elsewhere than in the spec: it is tried within two minutes."""
CORRECTED_ELSEWHERE = frozenset({errors.PERMISSION, errors.MISSING})
"""A right of a key, a Secret, something in the cloud. An invalid spec is not among them: its edit is heard of."""

EVERY_VM_NEEDS = frozenset(
    {
        "compute.instances.create",
        "compute.instances.setLabels",
        "compute.instances.setMetadata",
        "compute.disks.create",
    }
)
"""The permissions on a project that every spec needs. Any other is needed for something that a spec names."""


def shared_key(news: MarketNews) -> str | None:
    """Return the key of what is in cooldown for everybody after this failure; None if one spec may be the cause."""
    match news.kind:
        case errors.NO_CAPACITY:
            return news.candidate.key
        case errors.QUOTA:
            return _quota_key(news.candidate, news.scope)
        case errors.PERMISSION if not news.scope or news.scope in EVERY_VM_NEEDS:
            return _permissions_of(news.identity)
    return None


def own_key(vm: str, candidate: Candidate) -> str:
    """Return the key of a candidate's cooldown that concerns only one VM."""
    return own_prefix(vm) + candidate.label


def own_prefix(vm: str) -> str:
    """Return what all own keys of a VM begin with."""
    return f"{vm}: "


def keys_of(candidate: Candidate, identity: str) -> list[str]:
    """List all shared keys that may keep a candidate from being tried."""
    gpus, machine = _gpus_of(candidate), candidate.machine_type
    return [
        candidate.key,
        _permissions_of(identity),
        *dict.fromkeys([_quota_of(gpus, candidate), _quota_of(machine, candidate)]),
        *dict.fromkeys([_everywhere(_number_of_gpus(candidate)), _everywhere(machine)]),
    ]


def cooldowns_on(state: MarketState, candidate: Candidate, request: Choose) -> list[Cooldown]:
    """Find every cooldown, in force or over, that concerns this candidate of this asker."""
    shared = [state.rests.get(key) for key in keys_of(candidate, request.identity)]
    found = [*shared, state.own.get(own_key(request.asker, candidate))]
    return [cooldown for cooldown in found if cooldown is not None]


def _permissions_of(identity: str) -> str:
    return f"permissions of {identity}"


def _quota_key(candidate: Candidate, metric: str) -> str | None:
    """Return the key of a quota of GPUs or CPUs, in a region or in all; None for addresses, disks and the like.

    It concerns only the candidates that ask for as much: a quota that is too small for eight GPUs may suffice for one.
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
    """Name the GPUs of a candidate. A machine type may have them built in, so without any its own name is returned."""
    return f"{candidate.gpu.count} x {candidate.gpu.type}" if candidate.gpu else candidate.machine_type


def _number_of_gpus(candidate: Candidate) -> str:
    return f"{candidate.gpu.count} GPUs" if candidate.gpu else candidate.machine_type


def prolonged(before: Cooldown | None, news: MarketNews, first: float, *, soon: bool = True) -> Cooldown:
    """Return the cooldown after one more failure: ``first`` seconds at first, doubling each time.

    It begins again with ``first`` if nothing failed for three hours. With ``soon``, what a person may correct at any
    moment has a short cooldown.
    """
    recent = before if before and news.at - before.last <= FORGOTTEN else None
    times = recent.times + 1 if recent else 1
    length = UNSUPPORTED if news.kind == errors.UNSUPPORTED else back_off(times, first, ceiling=LONGEST)
    if soon and news.kind in CORRECTED_ELSEWHERE:
        length = min(length, CORRECTED)
    return Cooldown(
        reason=news.kind,
        message=news.message,
        namespace=news.namespace,
        scope=news.scope,
        since=recent.since if recent else news.at,
        last=news.at,
        until=news.at + length,
        times=times,
    )


def words(cooldown: Cooldown, candidate: Candidate, request: Choose) -> str:
    """Say why a candidate is in cooldown. Only the namespace that received the cloud's own words reads them."""
    if cooldown.message and cooldown.namespace == request.namespace:
        return cooldown.message
    match cooldown.reason:
        case errors.NO_CAPACITY:
            return f"{candidate.key} is out of stock"
        case errors.QUOTA:
            where = "all regions" if "ALL_REGIONS" in cooldown.scope.upper().replace("-", "_") else candidate.region
            quota = f"the quota {cooldown.scope}" if cooldown.scope else "a quota"
            return f"{quota} is used up in {where}: ask Google for more (IAM & Admin, Quotas) or use another region"
        case errors.PERMISSION if cooldown.scope:
            return (
                f"{request.identity} lacks the permission {cooldown.scope}: grant it to the service account of these "
                "credentials"
            )
        case errors.PERMISSION:
            return (
                f"Google refuses {request.identity}: check that its key is valid, that the project has billing and "
                "that its Compute Engine API is enabled"
            )
    return cooldown.reason

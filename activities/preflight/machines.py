"""The condition that says whether the template's pod can ever run on a machine that may be bought."""

import asyncio
from collections.abc import Awaitable, Callable

from activities.cloud_errors import CloudError
from activities.compute import MachineType
from activities.kubernetes.refusals import kind_of
from activities.placement.machine_fit import Misfit, doubts, misfit
from activities.preflight.devices import device_problem, devices_told
from activities.preflight.volumes import Claim, read_claims
from activities.signatures import Preflight, PreflightRequest
from api import conditions, errors, reasons
from api.common import Condition
from api.market import Candidate
from clients.kube import Json, Kube, KubeError

TOLD = 3  # candidates in one message

MachineTypes = Callable[[Candidate], Awaitable[MachineType | None]]


async def check_machines(kube: Kube, request: PreflightRequest, machine_types: MachineTypes) -> Preflight:
    """Check the template against each candidate; give the condition MachineFits and the candidates that do not fit."""
    try:
        return await _check(kube, request, machine_types)
    except (CloudError, KubeError) as error:
        kind = kind_of(error) if isinstance(error, KubeError) else error.type
        return Preflight(conditions=[_condition("Unknown", kind, str(error))])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Preflight(conditions=[_condition("False", errors.INVALID, f"jobTemplate cannot be placed: {error}")])


async def _check(kube: Kube, request: PreflightRequest, machine_types: MachineTypes) -> Preflight:
    template, candidates = request.spec.job_template["spec"]["template"], [*request.candidates, *request.fallbacks]
    pod = template.get("spec") or {}
    claims, without_devices, machines = await asyncio.gather(
        read_claims(kube, request.job.namespace, pod),
        device_problem(kube, pod),
        asyncio.gather(*(machine_types(each) for each in candidates)),
    )
    if without_devices:
        everything = [each.label for each in candidates]
        return Preflight(conditions=[_condition("False", reasons.NO_DEVICE_CLASS, without_devices)], unfit=everything)
    judged = [
        (candidate, misfit(template, claims, request.vm_spec, candidate, machine))
        for candidate, machine in zip(candidates, machines, strict=True)
        if machine is not None  # CloudReady reports one that the zone does not have
    ]
    return _told(judged, _warnings(template, claims, request))


def _warnings(template: Json, claims: list[Claim], request: PreflightRequest) -> list[str]:
    candidate = request.candidates[0] if request.candidates else None
    told = doubts(template, request.vm_spec, candidate) if candidate else []
    return [*told, *devices_told(template.get("spec") or {})]


def _told(judged: list[tuple[Candidate, Misfit | None]], warnings: list[str]) -> Preflight:
    """Write the condition. One candidate that fits is enough; the others are named, because they may be mistakes."""
    if not judged:
        return Preflight(
            conditions=[_condition("Unknown", reasons.NO_MACHINE_TYPE, "no machine type could be checked")]
        )
    misfits = [(candidate, found) for candidate, found in judged if found]
    unfit = [candidate.label for candidate, _ in misfits]
    by_message: dict[str, list[str]] = {}
    for candidate, found in misfits:
        by_message.setdefault(found.message, []).append(candidate.label)
    said = [f"{', '.join(keys[:TOLD])}: {message}" for message, keys in list(by_message.items())[:TOLD]]
    if len(misfits) == len(judged):
        return Preflight(conditions=[_condition("False", misfits[0][1].reason, "; ".join(said))], unfit=unfit)
    message = "; ".join([*(f"never bought: {each}" for each in said), *warnings])
    return Preflight(conditions=[_condition("True", reasons.FITS, message)], unfit=unfit)


def _condition(status: str, reason: str, message: str) -> Condition:
    return Condition.model_validate(
        {"type": conditions.MACHINE_FITS, "status": status, "reason": reason, "message": message}
    )

"""Checks of the cloud before money is spent: credentials, permissions, and what the spec names."""

import asyncio

from activities.cloud_errors import CloudError, Invalid, Transient
from activities.compute import Cloud, Compute
from activities.compute.disks import disk_problem
from activities.compute.instance import disk_type_of, has_gpus_built_in, image_path, placed_apart
from activities.diagnosis.quota import lack_for_gang
from activities.kubernetes.refusals import kind_of
from activities.signatures import PreflightRequest
from api import conditions, errors, reasons
from api.common import Condition
from api.market import Candidate
from api.spot_instance_vm import Gcp, SpotInstanceVMSpec
from clients.kube import KubeError

TOLD = 5  # candidates in one message

_PERMISSIONS = [
    "compute.instances.create",
    "compute.instances.get",
    "compute.instances.list",
    "compute.instances.delete",
    "compute.instances.getGuestAttributes",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.disks.create",
    "compute.subnetworks.use",
    "compute.zoneOperations.get",
    "compute.zoneOperations.list",
]

_PLACEMENT_PERMISSIONS = [
    "compute.resourcePolicies.create",
    "compute.resourcePolicies.delete",
    "compute.resourcePolicies.get",
    "compute.resourcePolicies.list",
    "compute.resourcePolicies.use",
]


async def check_cloud(cloud: Cloud, request: PreflightRequest) -> list[Condition]:
    """Check the conditions CredentialsReady and CloudReady of a job; one that is not True says what to do."""
    spec = request.vm_spec
    try:
        compute = await cloud.open(request.spec.gcp_credentials_secret_ref, request.job.namespace)
        credentials = await _check_permissions(compute, spec, compact=request.spec.is_compact)
    except (CloudError, KubeError) as error:
        return [
            _unmet(conditions.CREDENTIALS_READY, error),
            Condition(type=conditions.CLOUD_READY, status="Unknown", reason=reasons.NO_CREDENTIALS),
        ]
    try:
        return [credentials, await _check_spec(compute, request)]
    except CloudError as error:
        return [credentials, _unmet(conditions.CLOUD_READY, error)]


async def _check_permissions(compute: Compute, spec: SpotInstanceVMSpec, *, compact: bool) -> Condition:
    wanted = list(_PERMISSIONS)
    wanted += ["compute.instances.setServiceAccount"] if spec.gcp.service_account else []
    wanted += ["compute.instances.setTags"] if spec.gcp.network_tags else []
    wanted += ["compute.subnetworks.useExternalIp"] if spec.gcp.external_ip else []
    wanted += _PLACEMENT_PERMISSIONS if compact else []
    wanted += ["compute.instances.osAdminLogin"] if spec.gcp.ssh_access == "OSLogin" else []
    missing = await compute.missing_permissions(spec.gcp.project, wanted)
    if missing:
        roles = "roles/compute.instanceAdmin.v1"
        roles += " and roles/compute.osAdminLogin" if "compute.instances.osAdminLogin" in missing else ""
        message = (
            f"the credentials lack {', '.join(missing)} on project {spec.gcp.project}: grant their service account "
            f"the role {roles}, or one with these permissions"
        )
        return Condition(type=conditions.CREDENTIALS_READY, status="False", reason=errors.PERMISSION, message=message)
    return Condition(
        type=conditions.CREDENTIALS_READY,
        status="True",
        reason=reasons.GRANTED,
        message=f"on project {spec.gcp.project}",
    )


async def _check_spec(compute: Compute, request: PreflightRequest) -> Condition:
    """Check the candidates. One that exists is enough; the others are named, because one may be a slip of the pen."""
    spec, candidates = request.vm_spec, request.candidates
    image = image_path(spec.vm_image, spec.gcp.project)
    if not await compute.exists("image", spec.gcp.project, spec.gcp.zone, image):
        message = f"vmImage: there is no {image}, or the credentials may not read it (gcloud compute images list)"
        return Condition(type=conditions.CLOUD_READY, status="False", reason=errors.UNSUPPORTED, message=message)
    compact = request.spec.is_compact
    problems = await asyncio.gather(*(_problem_of(compute, spec.gcp, each, compact=compact) for each in candidates))
    told = [problem for problem in problems if problem]
    if not told and request.spec.members > 1 and (lack := await _lack_for_gang(compute, request)):
        return Condition(type=conditions.CLOUD_READY, status="False", reason=errors.QUOTA, message=lack)
    if len(told) == len(candidates):
        return Condition(
            type=conditions.CLOUD_READY, status="False", reason=errors.UNSUPPORTED, message="; ".join(told[:TOLD])
        )
    there = [candidate.key for candidate, problem in zip(candidates, problems, strict=True) if not problem]
    message = "; ".join([", ".join(there[:TOLD]), *(f"left out: {problem}" for problem in told[:TOLD])])
    return Condition(type=conditions.CLOUD_READY, status="True", reason=reasons.AVAILABLE, message=message)


async def _lack_for_gang(compute: Compute, request: PreflightRequest) -> str | None:
    """Say why no region has quota for a gang; None if one has, or if the credentials may not read quotas."""
    project, gang = request.vm_spec.gcp.project, request.spec.gang
    members, lacks = gang.min_size if gang else request.spec.members, []
    everywhere = await compute.quotas(project, None) or {}
    for region in dict.fromkeys(candidate.region for candidate in request.candidates):
        here = [candidate for candidate in request.candidates if candidate.region == region]
        quotas = await compute.quotas(project, region) or {}
        if (lack := lack_for_gang(here, members, quotas, everywhere)) is None:
            return None
        lacks.append(lack)
    remedy = "ask Google for more (IAM & Admin, Quotas), name other regions, or lower gang.minSize"
    return f"{'; '.join(lacks[:TOLD])}: {remedy}"


async def _problem_of(compute: Compute, gcp: Gcp, candidate: Candidate, *, compact: bool) -> str | None:
    """Name the first thing of this candidate that the cloud does not have; None if it has everything."""
    project, zone, machine_type, gpu = gcp.project, candidate.zone, candidate.machine_type, candidate.gpu
    if not await compute.exists("zone", project, zone, zone):
        return f"gcp.zone: project {project} has no zone {zone} (gcloud compute zones list)"
    found = await compute.machine_type(project, zone, machine_type)
    if found is None:
        return f"gcp.machineType: {zone} has no {machine_type} (gcloud compute machine-types list --zones={zone})"
    if compact and placed_apart(machine_type):
        return (
            f"gang.placement: GCE cannot place {machine_type} compactly: use A2, A3, A4, G2 or G4, or write "
            "placement: Zone"
        )
    if problem := disk_problem(machine_type, disk_type_of(gcp, candidate)):
        return problem
    if gpu and has_gpus_built_in(machine_type):
        if found.gpus.get(gpu.type) != gpu.count:
            built_in = ", ".join(f"{count} x {kind}" for kind, count in found.gpus.items()) or "none"
            return f"gpu: {machine_type} has {built_in} built in, the spec says {gpu.count} x {gpu.type}"
    elif gpu and not await compute.exists("accelerator", project, zone, gpu.type):
        return f"gpu.type: {zone} has no {gpu.type} (gcloud compute accelerator-types list)"
    return None


def _unmet(condition: str, error: CloudError | KubeError) -> Condition:
    """Make the condition: Unknown if the next check may find otherwise, False if a person has to change something."""
    status = "Unknown" if isinstance(error, Transient) else "False"
    kind = kind_of(error) if isinstance(error, KubeError) else error.type
    reason = errors.INVALID if isinstance(error, Invalid) else kind
    return Condition(type=condition, status=status, reason=reason, message=str(error))

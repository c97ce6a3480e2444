"""What has to be right in the cloud before money is spent: credentials, permissions, the things that the spec names."""

from activities.compute import Cloud, Compute, ComputeError, Invalid, Transient
from activities.compute.instance import has_gpus_built_in, image_path
from activities.refusals import kind_of
from activities.signatures import PreflightRequest
from api.common import Condition
from api.spot_instance_vm import SpotInstanceVMSpec
from clients.kube import KubeError

CREDENTIALS = "CredentialsReady"
CLOUD = "CloudReady"

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
]


async def check_cloud(cloud: Cloud, request: PreflightRequest) -> list[Condition]:
    """The conditions CredentialsReady and CloudReady of a job; each says what to do where it is not True."""
    spec = request.vm_spec
    try:
        compute = await cloud.open(request.spec.gcp_credentials_secret_ref, request.job.namespace)
        credentials = await _check_permissions(compute, spec)
    except (ComputeError, KubeError) as error:
        return [_unmet(CREDENTIALS, error), Condition(type=CLOUD, status="Unknown", reason="NoCredentials")]
    try:
        return [credentials, await _check_spec(compute, spec)]
    except ComputeError as error:
        return [credentials, _unmet(CLOUD, error)]


async def _check_permissions(compute: Compute, spec: SpotInstanceVMSpec) -> Condition:
    wanted = list(_PERMISSIONS)
    wanted += ["compute.instances.setServiceAccount"] if spec.gcp.service_account else []
    wanted += ["compute.instances.setTags"] if spec.gcp.network_tags else []
    wanted += ["compute.subnetworks.useExternalIp"] if spec.gcp.external_ip else []
    missing = await compute.missing_permissions(spec.gcp.project, wanted)
    if missing:
        message = (
            f"the credentials lack {', '.join(missing)} on project {spec.gcp.project}: grant their service account "
            "the role roles/compute.instanceAdmin.v1, or one with these permissions"
        )
        return Condition(type=CREDENTIALS, status="False", reason="PermissionDenied", message=message)
    return Condition(type=CREDENTIALS, status="True", reason="Granted", message=f"on project {spec.gcp.project}")


async def _check_spec(compute: Compute, spec: SpotInstanceVMSpec) -> Condition:
    problem = await _problem_of(compute, spec)
    if problem:
        return Condition(type=CLOUD, status="False", reason="Unsupported", message=problem)
    what = f"{spec.gcp.machine_type} in {spec.gcp.zone}"
    return Condition(type=CLOUD, status="True", reason="Available", message=what)


async def _problem_of(compute: Compute, spec: SpotInstanceVMSpec) -> str | None:
    """The first thing of the spec that the cloud does not have."""
    project, zone, machine_type = spec.gcp.project, spec.gcp.zone, spec.gcp.machine_type
    image = image_path(spec.vm_image, project)
    if not await compute.exists("zone", project, zone, zone):
        return f"gcp.zone: project {project} has no zone {zone} (gcloud compute zones list)"
    found = await compute.machine_type(project, zone, machine_type)
    if found is None:
        return f"gcp.machineType: {zone} has no {machine_type} (gcloud compute machine-types list --zones={zone})"
    if spec.gpu and has_gpus_built_in(machine_type):
        if found.gpus.get(spec.gpu.type) != spec.gpu.count:
            built_in = ", ".join(f"{count} x {gpu}" for gpu, count in found.gpus.items()) or "none"
            return f"gpu: {machine_type} has {built_in} built in, the spec says {spec.gpu.count} x {spec.gpu.type}"
    elif spec.gpu and not await compute.exists("accelerator", project, zone, spec.gpu.type):
        return f"gpu.type: {zone} has no {spec.gpu.type} (gcloud compute accelerator-types list)"
    if not await compute.exists("image", project, zone, image):
        return f"vmImage: there is no {image}, or the credentials may not read it (gcloud compute images list)"
    return None


def _unmet(condition: str, error: ComputeError | KubeError) -> Condition:
    """Unknown for what the next look may find otherwise, False for what a person has to change."""
    status = "Unknown" if isinstance(error, Transient) else "False"
    kind = kind_of(error) if isinstance(error, KubeError) else error.type
    reason = "Invalid" if isinstance(error, Invalid) else kind
    return Condition(type=condition, status=status, reason=reason, message=str(error))

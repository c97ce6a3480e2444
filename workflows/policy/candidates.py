"""The candidates that a SpotInstanceVM's spec allows, in the order in which it names them."""

from collections.abc import Iterator

from api.market import Candidate, ProvisioningModel
from api.spot_instance_vm import Gpu, SpotInstanceVMSpec


def candidates_of(
    spec: SpotInstanceVMSpec, *, on_demand: bool = False, same_gpu: bool = False, image_gpu: Gpu | None = None
) -> list[Candidate]:
    """List the candidates of a spec, Spot before OnDemand.

    Args:
        spec: The spec of the SpotInstanceVM.
        on_demand: Whether on-demand VMs are allowed beside spot VMs.
        same_gpu: Whether only candidates with one GPU are wanted, because a checkpoint image is to be restored.
        image_gpu: The GPU on which that image was made. The spec's own GPU takes its place if the image's is not known,
            or is no longer allowed by the spec.
    """
    models: list[ProvisioningModel] = ["Spot", "OnDemand"] if on_demand else ["Spot"]
    if not spec.preemptible:
        models = ["OnDemand"]
    shapes = [candidate for model in models for candidate in _shapes(spec, model)]
    if same_gpu:
        wanted = image_gpu if image_gpu and any(candidate.gpu == image_gpu for candidate in shapes) else spec.gpu
        shapes = [candidate for candidate in shapes if candidate.gpu == wanted]
    found: dict[str, Candidate] = {}
    for candidate in shapes:
        found.setdefault(candidate.label, candidate)
    return list(found.values())


def _shapes(spec: SpotInstanceVMSpec, model: ProvisioningModel) -> Iterator[Candidate]:
    gcp = spec.gcp
    zones = list(dict.fromkeys([gcp.zone, *gcp.zones]))
    for zone in zones:
        yield Candidate(zone=zone, machine_type=gcp.machine_type, gpu=spec.gpu, provisioning=model)
    for other in gcp.alternatives:
        for zone in [other.zone] if other.zone else zones:
            yield Candidate(
                zone=zone,
                machine_type=other.machine_type or gcp.machine_type,
                gpu=other.gpu or spec.gpu,
                provisioning=model,
                disk_type=other.disk_type,
                disk_size_gb=other.disk_size_gb,
            )

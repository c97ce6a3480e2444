"""What a SpotInstanceVM's spec allows to be bought, in the order in which it names it."""

from collections.abc import Iterator

from api.market import Candidate, ProvisioningModel
from api.spot_instance_vm import SpotInstanceVMSpec


def candidates_of(spec: SpotInstanceVMSpec, *, on_demand: bool = False, same_gpu: bool = False) -> list[Candidate]:
    """All candidates, Spot before OnDemand; with ``same_gpu`` none with another GPU than the spec's own."""
    models: list[ProvisioningModel] = ["Spot", "OnDemand"] if on_demand else ["Spot"]
    found: dict[str, Candidate] = {}
    for model in models:
        for candidate in _shapes(spec, model):
            if not same_gpu or candidate.gpu == spec.gpu:
                found.setdefault(candidate.key, candidate)
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
            )

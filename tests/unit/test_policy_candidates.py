"""What a SpotInstanceVM's spec allows to be bought."""

from typing import Any

import pytest

from api.spot_instance_vm import Gpu, SpotInstanceVMSpec
from workflows.policy.candidates import candidates_of

T4, L4 = "nvidia-tesla-t4", "nvidia-l4"


def vm_spec(**gcp: Any) -> SpotInstanceVMSpec:
    base = {"project": "p", "zone": "us-central1-a", "machineType": "n1-standard-4"}
    return SpotInstanceVMSpec.model_validate({"vmImage": "i", "gpu": {"type": T4}, "gcp": {**base, **gcp}})


def told(spec: SpotInstanceVMSpec, **options: Any) -> list[str]:
    return [candidate.key for candidate in candidates_of(spec, **options)]


OWN = "n1-standard-4 + 1 x nvidia-tesla-t4 in us-central1-{} (Spot)"


@pytest.mark.parametrize(
    ("gcp", "expected"),
    [
        ({}, [OWN.format("a")]),
        ({"zones": ["us-central1-b", "us-central1-a"]}, [OWN.format("a"), OWN.format("b")]),
        (
            {"zones": ["us-central1-b"], "alternatives": [{"machineType": "g2-standard-4", "gpu": {"type": L4}}]},
            [
                OWN.format("a"),
                OWN.format("b"),
                "g2-standard-4 + 1 x nvidia-l4 in us-central1-a (Spot)",
                "g2-standard-4 + 1 x nvidia-l4 in us-central1-b (Spot)",
            ],
        ),
        (
            {"alternatives": [{"zone": "us-east1-c"}]},
            [OWN.format("a"), OWN.format("a").replace("central1-a", "east1-c")],
        ),
        ({"alternatives": [{}, {"zone": "us-central1-a"}]}, [OWN.format("a")]),
    ],
)
def test_candidates_stand_in_the_order_of_the_spec_and_once(gcp: dict[str, Any], expected: list[str]) -> None:
    assert told(vm_spec(**gcp)) == expected


def test_on_demand_comes_after_spot() -> None:
    assert told(vm_spec(), on_demand=True) == [OWN.format("a"), OWN.format("a").replace("Spot", "OnDemand")]


def test_what_has_another_gpu_is_no_candidate_for_a_process_image() -> None:
    spec = vm_spec(
        alternatives=[{"machineType": "g2-standard-4", "gpu": {"type": L4}}, {"machineType": "n1-standard-8"}]
    )
    assert told(spec, same_gpu=True) == [OWN.format("a"), OWN.format("a").replace("n1-standard-4", "n1-standard-8")]


def test_image_that_was_dumped_on_another_gpu_than_the_specs_own_needs_that() -> None:
    spec = vm_spec(alternatives=[{"machineType": "g2-standard-4", "gpu": {"type": L4}}])
    other = "g2-standard-4 + 1 x nvidia-l4 in us-central1-a (Spot)"
    assert told(spec, same_gpu=True, image_gpu=Gpu(type=L4)) == [other]
    assert told(spec, same_gpu=True, image_gpu=Gpu(type=L4, count=2)) == [OWN.format("a")], "not to be had any more"
    assert told(spec, image_gpu=Gpu(type=L4)) == [OWN.format("a"), other], "no process image is to be restored"


def test_alternatives_that_differ_by_their_disk_alone_are_candidates_of_their_own() -> None:
    spec = vm_spec(alternatives=[{"diskType": "pd-ssd"}, {"diskSizeGB": 500}, {"diskType": "pd-ssd"}])
    found = candidates_of(spec)
    disks = [(candidate.disk_type, candidate.disk_size_gb) for candidate in found]
    assert disks == [(None, None), ("pd-ssd", None), (None, 500)]
    assert len({candidate.key for candidate in found}) == 1  # capacity belongs to the machine type
    assert found[1].label == f"{found[1].key} with disk pd-ssd"

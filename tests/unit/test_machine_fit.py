"""A template is checked against the machine that would be bought for it: sizes, labels, volumes."""

from typing import Any

import pytest

from activities.compute import MachineType
from activities.placement.machine_fit import doubts, misfit
from activities.preflight.volumes import Claim
from api.market import Candidate
from api.spot_instance_vm import Gpu, SpotInstanceVMSpec
from sandbox.gce.catalog import MACHINE_TYPES
from workflows.policy.candidates import candidates_of

Json = dict[str, Any]


def vm(machine_type: str = "n1-standard-4", gpu: Json | None = None, **more: Any) -> SpotInstanceVMSpec:
    gcp = {"project": "p", "zone": "us-central1-a", "machineType": machine_type, **more.pop("gcp", {})}
    gpu = {"type": "nvidia-tesla-t4", "count": 1} if gpu is None else gpu
    return SpotInstanceVMSpec.model_validate({"vmImage": "outlast-node", "gpu": gpu or None, "gcp": gcp, **more})


def machine(name: str) -> MachineType:
    found = MACHINE_TYPES[name]
    gpus = {found.gpu: found.gpu_count} if found.gpu else {}
    return MachineType(found.name, gpus, found.cpus, found.memory_mb)


def why(pod: Json, spec: SpotInstanceVMSpec | None = None, *claims: Claim) -> str | None:
    """Say what keeps a pod off the first candidate of a SpotInstanceVM."""
    spec = spec or vm()
    [candidate, *_] = candidates_of(spec)
    found = misfit({"spec": pod}, claims, spec, candidate, machine(candidate.machine_type))
    return f"{found.reason}: {found.message}" if found else None


def asks(**requests: Any) -> Json:
    gpus = requests.pop("gpu", 1)
    return {"containers": [{"resources": {"limits": {"nvidia.com/gpu": gpus}, "requests": requests}}]}


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        (asks(gpu="2"), "requests 2 of nvidia.com/gpu and such a machine offers 1: raise gpu.count"),
        (asks(memory="900Gi"), "requests 900.0Gi of memory and such a machine offers 14.7Gi: name a larger"),
        (asks(cpu="4500m"), "requests 4.5 of cpu and such a machine offers 4"),
        (asks(**{"ephemeral-storage": "100Gi"}), "100.0Gi of ephemeral-storage and such a machine offers 90.0Gi"),
        (asks(**{"hugepages-2Mi": "2Mi"}), "of hugepages-2Mi and such a machine offers 0"),
        ({"containers": [{"resources": {"limits": {"memory": "16Gi"}}}]}, "16.0Gi of memory"),
        ({**asks(), "overhead": {"cpu": 5}}, "5 of cpu"),
        ({**asks(cpu=1), "initContainers": [{"resources": {"requests": {"memory": "64Gi"}}}]}, "64.0Gi of memory"),
        (
            {**asks(cpu=3), "initContainers": [{"restartPolicy": "Always", "resources": {"requests": {"cpu": 2}}}]},
            "5 of cpu",
        ),
    ],
)
def test_what_no_such_machine_has_is_named_with_the_remedy(pod: Json, said: str) -> None:
    told = why(pod) or ""
    assert told.startswith("TooSmall: the template requests ")
    assert said in told


@pytest.mark.parametrize(
    "pod", [asks(), asks(cpu="4"), asks(memory="14Gi"), asks(**{"ephemeral-storage": "90Gi"}), {"containers": [{}]}]
)
def test_what_may_fit_is_bought(pod: Json) -> None:
    assert why(pod) is None


def test_gpus_that_are_built_in_count_though_the_spec_does_not_name_them() -> None:
    assert why(asks(gpu=2), vm("g2-standard-24", gpu={})) is None
    assert why(asks(gpu=1), vm("n1-standard-4", gpu={})) is not None


def test_cdi_devices_count_as_gpus() -> None:
    devices = {"metadata": {"annotations": {"cdi.k8s.io/train": "nvidia.com/gpu=0,nvidia.com/gpu=1"}}, "spec": {}}
    spec = vm()
    found = misfit(devices, [], spec, candidates_of(spec)[0], machine("n1-standard-4"))
    assert found is not None
    assert "requests 2 of nvidia.com/gpu" in found.message


def test_a_larger_disk_of_an_alternative_counts() -> None:
    spec = vm(gcp={"alternatives": [{"diskSizeGB": 500, "machineType": "n1-standard-8", "diskType": "pd-ssd"}]})
    pod = {"spec": asks(**{"ephemeral-storage": "300Gi"})}
    fits = [misfit(pod, [], spec, each, machine(each.machine_type)) is None for each in candidates_of(spec)]
    assert fits == [False, True]


# --- labels


def affinity(*expressions: Json) -> Json:
    term = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return asks() | {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}}


@pytest.mark.parametrize(
    "selector",
    [
        {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4", "cloud.google.com/gke-spot": "true"},
        {"cloud.google.com/gke-provisioning": "spot", "cloud.google.com/machine-family": "n1"},
        {"node.kubernetes.io/instance-type": "n1-standard-4", "topology.kubernetes.io/zone": "us-central1-a"},
        {"topology.kubernetes.io/region": "us-central1", "topology.gke.io/zone": "us-central1-a"},
        {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
        {"nvidia.com/gpu.product": "Tesla-T4", "feature.node.kubernetes.io/cpu-cpuid.AVX512F": "true"},
    ],
)
def test_labels_that_a_bought_node_gets_or_may_get_are_no_obstacle(selector: Json) -> None:
    assert why(asks() | {"nodeSelector": selector}) is None


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ({"disktype": "ssd"}, "asks for disktype=ssd (it has no such label)"),
        ({"topology.kubernetes.io/zone": "europe-west4-a"}, "zone=europe-west4-a (it has us-central1-a)"),
        ({"cloud.google.com/gke-accelerator": "nvidia-l4"}, "nvidia-l4 (it has nvidia-tesla-t4)"),
        ({"kubernetes.io/hostname": "worker-3"}, "kubernetes.io/hostname=worker-3"),
        ({"kubernetes.io/arch": "arm64"}, "kubernetes.io/arch=arm64 (it has amd64)"),
        ({"node-role.kubernetes.io/gpu": ""}, "node-role.kubernetes.io/gpu="),
    ],
)
def test_a_label_that_no_bought_node_carries_is_named_with_the_remedy(selector: Json, said: str) -> None:
    told = why(asks() | {"nodeSelector": selector}) or ""
    assert told.startswith("LabelMissing: ")
    assert said in told
    assert "nodeLabels" in told


def test_a_label_that_the_spot_instance_vm_declares_is_there() -> None:
    spec = vm(nodeLabels=[{"key": "disktype", "value": "ssd"}])
    assert why(asks() | {"nodeSelector": {"disktype": "ssd"}}, spec) is None
    assert why(asks() | {"nodeSelector": {"disktype": "hdd"}}, spec) is not None


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "cloud.google.com/gke-accelerator", "operator": "Exists"}, True),
        ({"key": "topology.kubernetes.io/zone", "operator": "NotIn", "values": ["us-central1-a"]}, False),
        ({"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["bad-node"]}, True),
        ({"key": "pool", "operator": "DoesNotExist"}, True),
        ({"key": "pool", "operator": "Exists"}, False),
        ({"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": ["16000"]}, True),  # nobody knows yet
        ({"key": "cloud.google.com/gke-accelerator-count", "operator": "Gt", "values": ["1"]}, False),
    ],
)
def test_required_affinity_is_read_as_the_scheduler_does(expression: Json, fits: bool) -> None:
    assert (why(affinity(expression)) is None) == fits


def test_terms_are_alternatives() -> None:
    pod = affinity({"key": "pool", "operator": "Exists"})
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert why(pod) is not None
    terms.append({"matchExpressions": [{"key": "kubernetes.io/os", "operator": "Exists"}]})
    assert why(pod) is None


def test_on_demand_carries_no_label_of_spot() -> None:
    spec, pod = vm(), {"spec": asks() | {"nodeSelector": {"cloud.google.com/gke-spot": "true"}}}
    on_demand = Candidate(
        zone="us-central1-a",
        machine_type="n1-standard-4",
        gpu=Gpu(type="nvidia-tesla-t4"),
        provisioning="OnDemand",
    )
    assert misfit(pod, [], spec, on_demand, machine("n1-standard-4")) is not None


def test_what_others_have_to_bring_is_told() -> None:
    pod = asks(**{"rdma/ib": 1}) | {"nodeSelector": {"nvidia.com/gpu.product": "Tesla-T4"}}
    spec = vm()
    assert why(pod, spec) is None
    told = doubts({"spec": pod}, spec, candidates_of(spec)[0])
    assert [word in " ".join(told) for word in ("nvidia.com/gpu.product", "rdma/ib")] == [True, True]


# --- volumes


def bound(*zones: str, key: str = "topology.gke.io/zone") -> Claim:
    expression = {"key": key, "operator": "In", "values": list(zones)}
    return Claim("data", volume="pv-1", affinity={"nodeSelectorTerms": [{"matchExpressions": [expression]}]})


def test_a_bound_volume_narrows_where_to_buy() -> None:
    spec = vm(gcp={"zones": ["us-central1-b"]})
    fits = [
        misfit({"spec": asks()}, [bound("us-central1-b")], spec, each, machine(each.machine_type)) is None
        for each in candidates_of(spec)
    ]
    assert fits == [False, True]


@pytest.mark.parametrize("key", ["topology.gke.io/zone", "topology.kubernetes.io/zone"])
def test_a_volume_in_another_zone_is_named_with_the_zone(key: str) -> None:
    told = why(asks(), None, bound("europe-west4-a", key=key)) or ""
    assert told.startswith("VolumeElsewhere: PersistentVolumeClaim data is bound to volume pv-1")
    assert "europe-west4-a" in told
    assert "gcp.zones" in told


def test_a_volume_of_one_node_is_never_reached_from_a_bought_one() -> None:
    assert why(asks(), None, bound("storage-7", key="kubernetes.io/hostname")) is not None


def test_a_claim_that_is_not_bound_yet_is_no_obstacle() -> None:
    assert why(asks(), None, Claim("data", phase="Pending")) is None


# --- disks


def test_a_disk_that_the_machine_refuses_is_a_misfit() -> None:
    told = why(asks(), vm("g2-standard-8", {"type": "nvidia-l4", "count": 1}, gcp={"diskType": "pd-standard"})) or ""
    assert told.startswith("Unsupported: diskType")

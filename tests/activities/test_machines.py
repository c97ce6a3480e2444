"""A template against the machines that may be bought, on a real API server and the emulated GCE."""

from typing import Any

import pytest

from activities.documents.activities import SpecActivities
from activities.preflight.activities import PreflightActivities
from activities.signatures import Preflight, PreflightRequest
from activities.storage.bucket import SecretBuckets
from api.market import Candidate
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from api.timings import Timings
from clients.kube import Kube, path
from tests.activities.compute_setting import Setting, setting
from tests.activities.world import LENT, World, loopback_gate, run, training
from workflows.policy.candidates import candidates_of

__all__ = ["setting"]

Json = dict[str, Any]
SSD = "us-central1-b"


@pytest.fixture
def machines(kube: Kube, setting: Setting) -> PreflightActivities:
    return PreflightActivities(kube, setting.cloud, SecretBuckets(kube, loopback_gate()), loopback_gate())


@pytest.fixture
def specs(kube: Kube) -> SpecActivities:
    return SpecActivities(kube, Timings(), grants=LENT)


def template(pod: Json | None = None, **container: Any) -> Json:
    made = training(**container)
    made["spec"]["template"]["spec"] |= pod or {}
    return made


def mounts(claim: str, **source: Any) -> Json:
    """Make a container and the volume that it mounts."""
    return template(
        {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim, **source}}]},
        volumeMounts=[{"name": "data", "mountPath": "/data"}],
    )


def asked(world: World, job_template: Json, others: list[Candidate] | None = None, **gcp: Any) -> PreflightRequest:
    spec = {"jobTemplate": job_template, "checkpointConfig": {}, "spotInstanceVMRef": {"name": "spot"}}
    gcp = {"project": "demo", "zone": "us-central1-a", "machineType": "n1-standard-4", **gcp}
    vm = {"vmImage": "i", "gpu": {"type": "nvidia-tesla-t4", "count": 1}, "gcp": gcp}
    vm_spec = SpotInstanceVMSpec.model_validate(vm)
    return PreflightRequest(
        job=world.job,
        spec=SpotInstanceJobSpec.model_validate(spec),
        vm_spec=vm_spec,
        candidates=candidates_of(vm_spec),
        fallbacks=others or [],
    )


async def check(machines: PreflightActivities, request: PreflightRequest) -> tuple[str, str, list[str]]:
    """Return status and message of the condition, and the zones in which nothing is bought."""
    found: Preflight = await run(machines.check_machines, request)
    [condition] = found.conditions
    assert condition.type == "MachineFits"
    return condition.status, f"{condition.reason}: {condition.message}", found.unfit


async def storage_class(world: World, binding: str) -> str:
    """Make a StorageClass that no provisioner serves."""
    name = f"{world.job.namespace}-{binding.lower()}"
    body = {"metadata": {"name": name}, "provisioner": "nobody.example", "volumeBindingMode": binding}
    await world.kube.create(path("storage.k8s.io/v1", "storageclasses"), body)
    return name


async def claim(
    world: World, name: str, mode: str = "ReadWriteOnce", zone: str | None = None, of: str | None = None
) -> None:
    """Make a claim that waits for its first pod. With a zone, it is bound to a volume of that zone."""
    metadata, size = {"name": name}, {"storage": "1Gi"}
    of = "" if zone else await storage_class(world, "WaitForFirstConsumer") if of is None else of
    spec = {"accessModes": [mode], "resources": {"requests": size}, "storageClassName": of}
    volume = f"{world.job.namespace}-{name}"
    if zone:
        expression = {"key": "topology.gke.io/zone", "operator": "In", "values": [zone]}
        source = {"csi": {"driver": "pd.csi.storage.gke.io", "volumeHandle": name}}
        body = {"capacity": size, "accessModes": [mode], "storageClassName": "", **source}
        body["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
        body["claimRef"] = {"namespace": world.job.namespace, "name": name}
        await world.kube.create(path("v1", "persistentvolumes"), {"metadata": {"name": volume}, "spec": body})
        spec["volumeName"] = volume
    await world.kube.create(
        path("v1", "persistentvolumeclaims", world.job.namespace), {"metadata": metadata, "spec": spec}
    )


# --- sizes and labels


async def test_what_the_machine_type_has_is_read_from_the_cloud(world: World, machines: PreflightActivities) -> None:
    large = template(resources={"requests": {"memory": "900Gi"}})
    status, told, unfit = await check(machines, asked(world, large))
    assert (status, unfit) == ("False", [asked(world, large).candidates[0].key])
    assert told.startswith("TooSmall: n1-standard-4 + 1 x nvidia-tesla-t4 in us-central1-a (Spot): the template")
    assert "900.0Gi of memory and such a machine offers 14.7Gi" in told
    assert (await check(machines, asked(world, template())))[0] == "True"


async def test_one_that_fits_is_enough_and_the_others_are_told_and_never_bought(
    world: World, machines: PreflightActivities
) -> None:
    request = asked(
        world,
        template(resources={"requests": {"cpu": 6}}),
        zones=["us-central1-b"],
        alternatives=[{"machineType": "n1-standard-8"}],
    )
    status, told, unfit = await check(machines, request)
    assert status == "True"
    assert {key.partition(" ")[0] for key in unfit} == {"n1-standard-4"}
    assert len(unfit) == 2
    assert "never bought: n1-standard-4" in told


async def test_a_machine_type_that_is_not_there_is_left_to_the_clouds_own_condition(
    world: World, machines: PreflightActivities
) -> None:
    assert (await check(machines, asked(world, template(), machineType="n1-standard-5")))[0] == "Unknown"


async def test_a_template_that_is_none_is_told(world: World, machines: PreflightActivities) -> None:
    status, told, _ = await check(machines, asked(world, template(resources={"requests": {"cpu": "many"}})))
    assert (status, "'many' is no quantity" in told) == ("False", True)


# --- volumes


async def test_a_bound_claim_narrows_the_zones(world: World, machines: PreflightActivities) -> None:
    await claim(world, "data", zone=SSD)
    status, told, unfit = await check(machines, asked(world, mounts("data"), zones=[SSD]))
    assert status == "True"
    assert [SSD in key for key in unfit] == [False]
    status, told, _ = await check(machines, asked(world, mounts("data")))
    assert status == "False"
    assert f"PersistentVolumeClaim data is bound to volume {world.job.namespace}-data" in told
    assert SSD in told


async def load(world: World, specs: SpecActivities, job_template: Json, replicas: int) -> tuple[list[str], str]:
    """List the reasons and messages of the problems, and the warnings."""
    await world.kube.patch(world.job_path, {"spec": {"jobTemplate": job_template, "replicas": replicas}})
    document = await run(specs.load_job, world.job)
    return [f"{each.reason}: {each.message}" for each in document.problems], "; ".join(document.warnings)


async def test_a_claim_that_is_not_there_is_told_and_heals(world: World, specs: SpecActivities) -> None:
    [told], _ = await load(world, specs, mounts("data"), 1)
    assert told.startswith("VolumeClaimNotFound: there is no PersistentVolumeClaim data in namespace")
    await claim(world, "data")
    assert (await load(world, specs, mounts("data"), 1))[0] == []


async def test_a_claim_that_no_pod_can_wait_for_is_told_and_heals(world: World, specs: SpecActivities) -> None:
    """Its StorageClass does not exist, should have bound it at once, or is not named: a VM would wait without end."""
    at_once = await storage_class(world, "Immediate")
    for name, of in (("absent", "nobody-has-it"), ("slow", at_once), ("by-hand", "")):
        await claim(world, name, of=of)

    async def told(name: str) -> str:
        [problem] = (await load(world, specs, mounts(name), 1))[0]
        assert problem.startswith(f"VolumeClaimNotBound: PersistentVolumeClaim {name} is not bound, and no pod runs")
        return problem

    assert "there is no StorageClass nobody-has-it; create that, or create the claim again" in await told("absent")
    assert f"StorageClass {at_once} binds at once; `kubectl describe pvc slow` says" in await told("slow")
    assert "it names no StorageClass; create a PersistentVolume for it" in await told("by-hand")
    body = {
        "metadata": {"name": "nobody-has-it"},
        "provisioner": "a.example",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    await world.kube.create(path("storage.k8s.io/v1", "storageclasses"), body)
    try:
        assert (await load(world, specs, mounts("absent"), 1))[0] == []
    finally:
        await world.kube.delete(path("storage.k8s.io/v1", "storageclasses", name="nobody-has-it"))


async def test_a_volume_of_a_driver_that_the_cluster_lacks_is_told_and_heals(
    world: World, specs: SpecActivities
) -> None:
    driver = f"{world.job.namespace}.csi.example"
    inline = template({"volumes": [{"name": "bucket", "csi": {"driver": driver}}]})
    [told], _ = await load(world, specs, inline, 1)
    said = f"VolumeDriverNotFound: the cluster has no CSIDriver {driver}, which a volume of jobTemplate needs"
    assert told.startswith(said)
    body = {"metadata": {"name": driver}, "spec": {"volumeLifecycleModes": ["Ephemeral"]}}
    await world.kube.create(path("storage.k8s.io/v1", "csidrivers"), body)
    assert (await load(world, specs, inline, 1))[0] == []


@pytest.mark.parametrize("mode", ["ReadWriteOnce", "ReadWriteOncePod"])
async def test_a_claim_for_one_node_cannot_serve_two_replicas(world: World, specs: SpecActivities, mode: str) -> None:
    await claim(world, "data", mode)
    [told], _ = await load(world, specs, mounts("data"), 2)
    assert told.startswith(f"VolumeNotShareable: PersistentVolumeClaim data is {mode}")
    assert "set replicas to 1, or use a claim that is ReadWriteMany" in told
    assert (await load(world, specs, mounts("data"), 1))[0] == []


async def test_two_replicas_that_write_one_directory_are_warned_of(world: World, specs: SpecActivities) -> None:
    await claim(world, "data", "ReadWriteMany")
    assert "all 2 replicas write to PersistentVolumeClaim data" in (await load(world, specs, mounts("data"), 2))[1]
    assert "replicas write" not in (await load(world, specs, mounts("data"), 1))[1]
    assert "replicas write" not in (await load(world, specs, mounts("data", readOnly=True), 2))[1]


async def test_a_template_whose_volumes_are_nonsense_is_the_api_servers_to_refuse(
    world: World, specs: SpecActivities
) -> None:
    problems, _ = await load(world, specs, template({"volumes": ["data"]}), 2)
    assert [problem.partition(":")[0] for problem in problems] == ["InvalidJobTemplate"]


# --- devices


async def test_devices_that_no_class_knows_are_told(world: World, machines: PreflightActivities) -> None:
    claims = template({"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]})
    status, told, unfit = await check(machines, asked(world, claims))
    assert (status, len(unfit)) == ("False", 1)
    assert told.startswith("NoDeviceClass: the template's resourceClaims (gpu) ask for devices")
    classes = path("resource.k8s.io/v1", "deviceclasses")
    await world.kube.create(classes, {"metadata": {"name": "gpu.example.com"}, "spec": {}})
    try:
        status, told, _ = await check(machines, asked(world, claims))
        assert (status, "a driver (DRA)" in told) == ("True", True)
    finally:
        await world.kube.delete(f"{classes}/gpu.example.com")

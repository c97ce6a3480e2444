"""The activities on VMs, against the emulated GCE through Google's own client."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.compute import Invalid, Missing
from activities.compute.activities import ComputeActivities
from activities.compute.gcp import GcpCloud
from activities.compute.instance import instance_body
from activities.compute.preflight import check_cloud
from activities.signatures import CreateProgress, CreateVm, JobRef, ObserveCreate, PreflightRequest, VmRef
from activities.ssh import SshKeys
from api import errors
from api.common import SecretReference
from api.market import Candidate
from api.names import vm_name
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from api.views import VmView
from clients.kube import Kube
from sandbox.gce import GceEmulator
from sandbox.settings import Settings
from tests.activities.boxes import Boxes

ZONE = "us-central1-a"
LABELS = {"outlast-job": "0badcafe", "outlast-replica": "0", "outlast-cluster": "c1"}
T = TypeVar("T")


class Setting:
    """An emulated cloud and the activities on it."""

    def __init__(self, gce: GceEmulator, cloud: GcpCloud, activities: ComputeActivities) -> None:
        self.gce = gce
        self.cloud = cloud
        self.activities = activities

    async def run(self, call: Callable[[Any], Awaitable[T]], argument: Any) -> T:
        return await ActivityEnvironment().run(call, argument)

    async def created(self, create: CreateVm) -> CreateProgress:
        """Create a VM and wait until its operation is done."""
        operation = await self.run(self.activities.create_vm, create)
        return await self.run(self.activities.observe_create, ObserveCreate(vm=create.vm, operation=operation.name))

    async def gone(self, vm: VmRef) -> None:
        """Delete a VM until it is gone."""
        async with asyncio.timeout(20):
            while True:
                if not (await self.run(self.activities.delete_vm, vm)).exists:
                    return
                await asyncio.sleep(0.1)


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    """Emulated GCE, fifty times as fast as the real one."""
    gce = GceEmulator(Settings(state_dir=tmp_path, speed=50, octet=191), Boxes())
    key_file = tmp_path / "id_ed25519"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key_file)
    kube: Any = None  # nothing here names a Secret
    cloud = GcpCloud(kube, await gce.start())
    yield Setting(gce, cloud, ComputeActivities(cloud, SshKeys(kube, key_file)))
    cloud.close()
    await gce.stop()


def vm_ref(attempt: int = 1, **changes: Any) -> VmRef:
    name = vm_name("0badcafe-r0-v1", attempt)
    return VmRef(**{"project": "demo", "zone": ZONE, "name": name, "namespace": "default", "labels": LABELS, **changes})


def create_vm(vm: VmRef | None = None, **spec: Any) -> CreateVm:
    document = {
        "vmImage": "ubuntu-2404-lts-amd64",
        "gpu": {"type": "nvidia-tesla-t4", "count": 1},
        "gcp": {"project": "demo", "zone": ZONE, "machineType": "n1-standard-4"},
        **spec,
    }
    read = SpotInstanceVMSpec.model_validate(document)
    candidate = Candidate(zone=ZONE, machine_type="n1-standard-4", gpu=read.gpu)
    return CreateVm(vm=vm or vm_ref(), spec=read, candidate=candidate)


def kind_of(raised: pytest.ExceptionInfo[ApplicationError]) -> str | None:
    return raised.value.type


async def test_creates_a_running_spot_vm(setting: Setting) -> None:
    progress = await setting.created(create_vm())
    assert (progress.done, progress.error, progress.vm.status) == (True, None, "RUNNING")
    assert progress.vm.internal_ip
    assert progress.vm.labels == LABELS
    assert progress.vm.creation_time is not None


async def test_the_machine_gets_our_public_key(setting: Setting) -> None:
    await setting.created(create_vm())
    (instance,) = setting.gce.instances()
    metadata = {item["key"]: item["value"] for item in instance["metadata"]["items"]}
    assert metadata["ssh-keys"].startswith("outlast:ssh-ed25519 AAAA")


async def test_two_calls_at_once_make_one_vm(setting: Setting) -> None:
    create = setting.activities.create_vm
    first, second = await asyncio.gather(setting.run(create, create_vm()), setting.run(create, create_vm()))
    assert first.name == second.name
    assert len(setting.gce.instances()) == 1


async def test_an_answer_that_was_lost_is_found_again(setting: Setting) -> None:
    setting.gce.faults.lose_insert_answers(1)
    with pytest.raises(ApplicationError) as raised:
        await setting.run(setting.activities.create_vm, create_vm())
    assert not raised.value.non_retryable
    progress = await setting.created(create_vm())
    assert progress.vm.exists
    assert len(setting.gce.instances()) == 1


async def insert_directly(setting: Setting, labels: dict[str, str]) -> None:
    """Make a VM of our name past the activity, under a request id of its own."""
    create = create_vm()
    body = instance_body(
        create.spec,
        name=create.vm.name,
        candidate=create.candidate,
        labels=labels,
        ssh_public_key="ssh-ed25519 AAAA",
    )
    compute = await setting.cloud.open(None, "default")
    await compute.insert("demo", ZONE, body, "11111111-2222-3333-4444-555555555555")


async def test_a_vm_of_ours_that_is_there_is_taken_as_made(setting: Setting) -> None:
    await insert_directly(setting, LABELS)
    progress = await setting.created(create_vm())
    assert (progress.done, progress.error, progress.vm.status) == (True, None, "RUNNING")


async def test_a_strangers_vm_of_that_name_is_a_conflict(setting: Setting) -> None:
    await insert_directly(setting, {"owner": "somebody"})
    with pytest.raises(ApplicationError) as raised:
        await setting.run(setting.activities.create_vm, create_vm())
    assert (kind_of(raised), raised.value.non_retryable) == (errors.CONFLICT, True)
    with pytest.raises(ApplicationError) as raised:
        await setting.run(setting.activities.delete_vm, vm_ref())
    assert kind_of(raised) == errors.CONFLICT
    assert len(setting.gce.instances()) == 1


async def test_a_stockout_that_shows_later(setting: Setting) -> None:
    setting.gce.faults.exhaust(ZONE)
    progress = await setting.created(create_vm())
    assert (progress.done, progress.error, progress.vm.exists) == (True, errors.NO_CAPACITY, False)
    assert "enough resources" in progress.message


async def test_a_stockout_that_shows_at_once(setting: Setting) -> None:
    setting.gce.faults.exhaust(ZONE, at_once=True)
    with pytest.raises(ApplicationError) as raised:
        await setting.run(setting.activities.create_vm, create_vm())
    assert (kind_of(raised), raised.value.category.name) == (errors.NO_CAPACITY, "BENIGN")


async def test_a_quota_that_is_used_up(setting: Setting) -> None:
    setting.gce.faults.set_quota("GPUS_ALL_REGIONS", 0)
    progress = await setting.created(create_vm())
    assert progress.error == errors.QUOTA
    assert "GPUS_ALL_REGIONS" in progress.message


async def test_a_gpu_that_does_not_go_with_the_machine(setting: Setting) -> None:
    with pytest.raises(ApplicationError) as raised:
        await setting.run(setting.activities.create_vm, create_vm(gpu={"type": "nvidia-l4", "count": 1}))
    assert kind_of(raised) == errors.UNSUPPORTED


async def test_an_image_that_is_not_there(setting: Setting) -> None:
    with pytest.raises(ApplicationError, match="no-such-image") as raised:
        await setting.run(setting.activities.create_vm, create_vm(vmImage="projects/demo/global/images/no-such-image"))
    assert kind_of(raised) == errors.MISSING


async def test_a_permission_that_lacks(setting: Setting) -> None:
    setting.gce.faults.withdraw_permissions("compute.instances.create")
    with pytest.raises(ApplicationError, match=r"compute\.instances\.create") as raised:
        await setting.run(setting.activities.create_vm, create_vm())
    assert kind_of(raised) == errors.PERMISSION


async def test_deletes_until_it_is_gone_and_once_more(setting: Setting) -> None:
    await setting.created(create_vm())
    await setting.gone(vm_ref())
    assert setting.gce.instances() == []
    assert not (await setting.run(setting.activities.delete_vm, vm_ref())).exists


async def test_a_refused_delete_is_tried_again(setting: Setting) -> None:
    await setting.created(create_vm())
    setting.gce.faults.refuse_deletes(1)
    with pytest.raises(ApplicationError) as raised:
        await setting.run(setting.activities.delete_vm, vm_ref())
    assert not raised.value.non_retryable
    await setting.gone(vm_ref())


async def test_a_vm_of_the_same_name_but_another_id_is_left_alone(setting: Setting) -> None:
    await setting.created(create_vm())
    view = await setting.run(setting.activities.delete_vm, vm_ref(instance_id="1"))
    assert not view.exists
    assert [instance["status"] for instance in setting.gce.instances()] == ["RUNNING"]


async def test_a_vm_preempted_before_it_ran_is_out_of_capacity(setting: Setting) -> None:
    slow = GceEmulator(Settings(state_dir=Path("."), speed=2, octet=190), Boxes())
    cloud = GcpCloud(None, await slow.start())  # type: ignore[arg-type] # nothing here names a Secret
    activities = ComputeActivities(cloud, setting.activities._ssh_keys)
    try:
        operation = await setting.run(activities.create_vm, create_vm())
        await asyncio.sleep(0.6)  # it is PROVISIONING from 0.25 s to 1.75 s
        preemption = asyncio.create_task(slow.preempt(vm_ref().name, notice=0))
        observe = ObserveCreate(vm=vm_ref(), operation=operation.name)
        progress = await setting.run(activities.observe_create, observe)
        await preemption
        assert (progress.done, progress.error) == (True, errors.NO_CAPACITY)
    finally:
        cloud.close()
        await slow.stop()


async def test_observes_a_vm_that_is_not_there(setting: Setting) -> None:
    view: VmView = await setting.run(setting.activities.observe_vm, vm_ref())
    assert (view.exists, view.name, view.zone) == (False, vm_ref().name, ZONE)


async def test_lists_by_label_over_all_zones(setting: Setting) -> None:
    await setting.created(create_vm())
    await setting.created(create_vm(vm_ref(2, zone="us-central1-b")))
    await setting.created(create_vm(vm_ref(3, labels=LABELS | {"outlast-cluster": "c2"})))
    compute = await setting.cloud.open(None, "default")
    vms = await compute.labelled("demo", "outlast-cluster", "c1")
    assert sorted((vm.name, vm.zone) for vm in vms) == [(vm_ref(1).name, ZONE), (vm_ref(2).name, "us-central1-b")]


async def test_reads_the_host_keys_that_the_guest_published(setting: Setting) -> None:
    await setting.created(create_vm())
    compute = await setting.cloud.open(None, "default")
    assert await compute.host_keys("demo", ZONE, vm_ref().name) == ["ssh-ed25519 AAAAkey"]


async def test_there_are_no_host_keys_of_a_vm_that_is_not_there(setting: Setting) -> None:
    compute = await setting.cloud.open(None, "default")
    assert await compute.host_keys("demo", ZONE, "nothing") == []


async def test_a_cloud_that_does_not_answer_is_transient(tmp_path: Path) -> None:
    cloud = GcpCloud(None, "http://127.0.0.1:1")  # type: ignore[arg-type] # nothing here names a Secret
    activities = ComputeActivities(cloud, SshKeys(None))  # type: ignore[arg-type]
    with pytest.raises(ApplicationError) as raised:
        await ActivityEnvironment().run(activities.observe_vm, vm_ref())
    assert not raised.value.non_retryable
    cloud.close()


# --- preflight


def preflight(**spec: Any) -> PreflightRequest:
    job = {
        "jobTemplate": {},
        "checkpointConfig": {"checkpointImageRepo": "r/a"},
        "spotInstanceVMRef": {"name": "t4"},
    }
    return PreflightRequest(
        job=JobRef(namespace="default", name="train", uid="u", job_id="0badcafe"),
        spec=SpotInstanceJobSpec.model_validate(job),
        vm_spec=create_vm(**spec).spec,
    )


async def test_preflight_passes(setting: Setting) -> None:
    conditions = await check_cloud(setting.cloud, preflight())
    assert [(c.type, c.status) for c in conditions] == [("CredentialsReady", "True"), ("CloudReady", "True")]


async def test_preflight_names_the_permission_that_lacks(setting: Setting) -> None:
    setting.gce.faults.withdraw_permissions("compute.instances.delete")
    credentials, _ = await check_cloud(setting.cloud, preflight())
    assert (credentials.status, credentials.reason) == ("False", "PermissionDenied")
    assert "compute.instances.delete on project demo" in credentials.message


GCP = {"project": "demo", "zone": ZONE, "machineType": "n1-standard-4"}


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"gcp": GCP | {"zone": "us-nowhere9-a"}}, "us-nowhere9-a"),
        ({"gcp": GCP | {"machineType": "n1-standard-5"}}, "no n1-standard-5"),
        ({"gpu": {"type": "nvidia-tesla-x9"}}, "no nvidia-tesla-x9"),
        (
            {"gcp": GCP | {"machineType": "g2-standard-4"}},
            "has 1 x nvidia-l4 built in, the spec says 1 x nvidia-tesla-t4",
        ),
        ({"vmImage": "projects/demo/global/images/none"}, "there is no projects/demo/global/images/none"),
        ({"vmImage": "cos-stable"}, "cannot run kubeadm"),
    ],
)
async def test_preflight_names_what_the_cloud_does_not_have(setting: Setting, spec: Any, problem: str) -> None:
    _, cloud = await check_cloud(setting.cloud, preflight(**spec))
    assert cloud.status == "False"
    assert problem in cloud.message


async def test_preflight_does_not_blame_anybody_for_a_cloud_that_is_down() -> None:
    cloud = GcpCloud(None, "http://127.0.0.1:1")  # type: ignore[arg-type] # nothing here names a Secret
    assert {condition.status for condition in await check_cloud(cloud, preflight())} == {"Unknown"}
    cloud.close()


# --- credentials


async def make_secret(kube: Kube, namespace: str, key: object) -> SecretReference:
    data = {"credentials.json": base64.b64encode(json.dumps(key).encode()).decode()}
    body = {"metadata": {"name": "gcp-credentials"}, "data": data}
    await kube.create(f"/api/v1/namespaces/{namespace}/secrets", body)
    return SecretReference(name="gcp-credentials")


async def test_a_secret_that_is_missing_is_named(kube: Kube, namespace: str) -> None:
    cloud = GcpCloud(kube)
    with pytest.raises(Missing, match=f"Secret {namespace}/gcp-credentials is not there"):
        await cloud.open(SecretReference(name="gcp-credentials"), namespace)
    cloud.close()


async def test_a_secret_without_a_key_is_invalid_and_not_told(kube: Kube, namespace: str) -> None:
    cloud = GcpCloud(kube)
    reference = await make_secret(kube, namespace, {"type": "service_account", "private_key": "s3cret"})
    with pytest.raises(Invalid, match="must hold a service account's key") as raised:
        await cloud.open(reference, namespace)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None or "s3cret" not in str(raised.value.__cause__)
    cloud.close()


async def test_a_service_accounts_key_signs_the_calls(kube: Kube, namespace: str) -> None:
    tokens: list[str] = []

    async def nothing(request: web.Request) -> web.Response:
        tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        return web.json_response({"permissions": []})

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", nothing)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "client_email": "trainer@demo.iam.gserviceaccount.com",
        "private_key": key.decode(),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    reference = await make_secret(kube, namespace, account)
    cloud = GcpCloud(kube, f"http://127.0.0.1:{runner.addresses[0][1]}")
    compute = await cloud.open(reference, namespace)
    assert await compute.missing_permissions("demo", ["compute.instances.get"]) == ["compute.instances.get"]
    await compute.get("demo", ZONE, "nothing")
    issuers = [json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["iss"] for token in tokens]
    assert issuers == ["trainer@demo.iam.gserviceaccount.com"] * 2
    assert await cloud.open(reference, namespace) is compute
    cloud.close()
    await runner.cleanup()

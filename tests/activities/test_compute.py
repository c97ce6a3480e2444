"""The activities on VMs, against the emulated GCE through Google's own client."""

import asyncio
import base64
import json
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.cloud_errors import Invalid, Missing
from activities.compute.activities import ComputeActivities
from activities.compute.gcp import GcpCloud
from activities.compute.instance import instance_body
from activities.join.ssh import SshKeys
from activities.signatures import ObserveCreate
from api import errors
from api.common import SecretReference
from api.views import VmView
from clients.kube import Kube
from tests.activities.compute_setting import LABELS, ZONE, Setting, create_vm, setting, vm_ref
from tests.activities.world import eventually

__all__ = ["setting"]


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
    """Make a VM of our name without the activity, under a request id of its own."""
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


async def test_a_vm_preempted_before_it_ran_is_out_of_capacity(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.gce.transitions.STAGING_SECONDS", 1e6)
    operation = await setting.run(setting.activities.create_vm, create_vm())

    async def staging() -> bool:
        return [each["status"] for each in setting.gce.instances()] == ["STAGING"]

    await eventually("the VM is STAGING", staging)
    preemption = asyncio.create_task(setting.gce.preempt(vm_ref().name, notice=0))
    observe = ObserveCreate(vm=vm_ref(), operation=operation.name)
    progress = await setting.run(setting.activities.observe_create, observe)
    await preemption
    assert (progress.done, progress.error) == (True, errors.NO_CAPACITY)


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


# --- credentials


async def make_secret(kube: Kube, namespace: str, key: object) -> SecretReference:
    data = {"credentials.json": base64.b64encode(json.dumps(key).encode()).decode()}
    body = {"metadata": {"name": "gcp-credentials"}, "data": data}
    await kube.create(f"/api/v1/namespaces/{namespace}/secrets", body)
    return SecretReference(name="gcp-credentials")


async def test_a_secret_that_is_missing_is_named(kube: Kube, namespace: str) -> None:
    cloud = GcpCloud(kube)
    with pytest.raises(Missing, match=f"Secret {namespace}/gcp-credentials does not exist"):
        await cloud.open(SecretReference(name="gcp-credentials"), namespace)
    cloud.close()


async def test_a_secret_without_a_key_is_invalid_and_not_told(kube: Kube, namespace: str) -> None:
    cloud = GcpCloud(kube)
    reference = await make_secret(kube, namespace, {"type": "service_account", "private_key": "s3cret"})
    with pytest.raises(Invalid, match="must contain a service account's key") as raised:
        await cloud.open(reference, namespace)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None or "s3cret" not in str(raised.value.__cause__)
    cloud.close()


async def test_a_service_accounts_key_signs_the_calls(kube: Kube, namespace: str) -> None:
    tokens: list[str] = []
    asked: list[str] = []

    async def nothing(request: web.Request) -> web.Response:
        asked.append(request.path)
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
        # Whoever writes the Secret writes these, too, and they lead nowhere.
        "token_uri": f"http://127.0.0.1:{runner.addresses[0][1]}/token",
        "universe_domain": "cloud.example",
    }
    reference = await make_secret(kube, namespace, account)
    cloud = GcpCloud(kube, f"http://127.0.0.1:{runner.addresses[0][1]}")
    compute = await cloud.open(reference, namespace)
    assert await compute.missing_permissions("demo", ["compute.instances.get"]) == ["compute.instances.get"]
    await compute.get("demo", ZONE, "nothing")
    issuers = [json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["iss"] for token in tokens]
    assert "/token" not in asked
    assert issuers == ["trainer@demo.iam.gserviceaccount.com"] * 2
    assert await cloud.open(reference, namespace) is compute
    cloud.close()
    await runner.cleanup()

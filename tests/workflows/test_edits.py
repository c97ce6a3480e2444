"""Edits of a job's documents: what is fixed once replicas have begun stays as it was, and the rest takes effect."""

from typing import Any

import pytest

from api.common import LocalReference, SecretReference
from api.spot_instance_job import CheckpointStorage, Progress
from tests.workflows.documents import vm_spec
from tests.workflows.test_continue_as_new import runs
from tests.workflows.world import World
from workflows.common import continue_as_new as history

STORAGE = CheckpointStorage(type="gcs", bucket="b")
OTHER_PROJECT = vm_spec(project="another")


def template(**container: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "train", "image": "train:1", **container}]}}}}


async def begin(world: World, **spec: Any) -> None:
    await world.submit(replicas=1, **spec)
    await world.running(1)


async def refused(world: World, field: str) -> None:
    """Wait until an edit of the field is refused, with what helps."""
    condition = world.documents.condition
    await world.until(lambda: (c := condition("Accepted")) and c.reason == "CannotBeChanged", 60, "the edit is refused")
    assert condition("Accepted").status == "False"
    assert f"{field} cannot be changed" in condition("Accepted").message
    assert "Undo the edit" in condition("Accepted").message
    assert [field in message for message in world.documents.told("EditRefused")] == [True]


async def undone(world: World) -> None:
    """Wait until the job is as it was, and the refusal is no longer reported."""
    await world.until(lambda: world.documents.condition("Accepted").status == "True", 60, "the edit was undone")


async def lose(world: World) -> None:
    """Lose the machine of replica 0, and wait until another incarnation runs."""
    incarnation = world.entry(0).incarnation
    world.cloud.power_off(world.node_of(0))
    await world.until(lambda: world.entry(0).incarnation == incarnation + 1 and world.active == 1)


def restored_from(world: World) -> str:
    """Return the image without its digest."""
    return (world.entry(0).restored_from or "").partition("@")[0]


async def test_another_mode_costs_no_image(world: World) -> None:
    await begin(world)
    await world.until(lambda: len(world.documents.told("CheckpointCompleted")) >= 3, 3600)
    edit = {"mode": "Application", "checkpoint_storage": STORAGE}
    world.documents.edit(checkpoint=edit)
    await refused(world, "checkpointConfig.mode")
    done = len(world.documents.told("CheckpointCompleted"))
    await world.until(lambda: len(world.documents.told("CheckpointCompleted")) > done, 3600)  # they continue
    await lose(world)
    assert restored_from(world) == world.checkpoints.history[-1].image
    world.documents.edit(checkpoint={"mode": "Image"})
    await undone(world)


async def test_another_template_waits_for_another_job(world: World) -> None:
    await begin(world, jobTemplate=template(env=[{"name": "A", "value": "1"}]))
    world.documents.edit(job_template=template(command=["sh", "-c", "echo another training"]), replicas=2)
    await refused(world, "jobTemplate")
    await world.running(2)  # the rest of the edit takes effect
    containers = [
        call.request.job_template["spec"]["template"]["spec"]["containers"] for call in world.of("create_replica")
    ]
    assert [[sorted(each) for each in one] for one in containers] == [[["env", "image", "name"]]] * 2
    world.documents.edit(job_template=template(env=[{"name": "A", "value": "1"}]))
    await undone(world)


async def test_other_credentials_do_not_keep_a_machine_from_being_deleted(world: World) -> None:
    await begin(world)
    world.documents.edit(gcp_credentials_secret_ref=SecretReference(name="another"))
    await refused(world, "gcpCredentialsSecretRef")
    await lose(world)
    await world.delete()
    await world.ended()
    await world.nothing_left()
    assert {call.request.credentials.name for call in world.of("delete_vm")} == {"gcp"}


async def test_no_credentials_at_all_are_an_edit(world: World) -> None:
    await begin(world)
    world.documents.edit(gcp_credentials_secret_ref=None)
    await refused(world, "gcpCredentialsSecretRef")


async def test_another_spot_instance_vm_is_not_bought_by(world: World) -> None:
    await begin(world)
    before = world.documents.vm_spec
    world.documents.vm_spec = OTHER_PROJECT
    world.documents.edit(spot_instance_vm_ref=LocalReference(name="another"))
    await refused(world, "spotInstanceVMRef")
    await lose(world)
    assert {call.request.vm.project for call in world.of("create_vm")} == {"p"}
    world.documents.vm_spec = before
    world.documents.edit(spot_instance_vm_ref=LocalReference(name="gpu"))
    await undone(world)


async def test_another_bucket_does_not_hide_what_is_saved(world: World) -> None:
    await begin(world, checkpoint={"mode": "Application", "checkpointStorage": STORAGE})
    await world.pass_time(300)
    world.documents.edit(checkpoint={"checkpoint_storage": STORAGE.model_copy(update={"bucket": "another"})})
    await refused(world, "checkpointConfig.checkpointStorage")
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert {call.request.storage.bucket for call in world.of("find_stored")} == {"b"}


async def test_a_layout_that_was_forgotten_counts_from_the_next_look(world: World) -> None:
    await begin(world, checkpoint={"mode": "Application", "checkpointStorage": STORAGE})
    await world.pass_time(300)
    world.documents.edit(checkpoint={"checkpoint_storage": STORAGE.model_copy(update={"layout": "TorchDCP"})})
    await world.pass_time(60)
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert world.documents.condition("Accepted").status == "True"
    layouts = [call.request.storage.layout for call in world.of("find_stored")]
    assert (layouts[0], layouts[-1]) == ("Outlast", "TorchDCP")


async def test_a_bucket_may_come_and_its_credentials_may_change(world: World) -> None:
    await begin(world)
    world.documents.edit(checkpoint={"checkpoint_storage": STORAGE}, outputs=["/out"])
    await world.pass_time(30)
    other = STORAGE.model_copy(update={"credentials_secret_ref": LocalReference(name="rotated")})
    world.documents.edit(checkpoint={"checkpoint_storage": other})
    await world.pass_time(30)
    assert world.documents.condition("Accepted").status == "True"
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    await world.ended()
    assert world.bucket.outputs[0].storage == other


async def test_another_project_waits_until_no_machine_is_left(world: World) -> None:
    await begin(world)
    before = world.documents.vm_spec
    world.documents.edit_vm(OTHER_PROJECT)
    await refused(world, "gcp.project")
    await lose(world)
    asked = {call.request.project for call in world.of("observe_vm")}
    assert asked | {call.request.vm.project for call in world.of("create_vm")} == {"p"}
    world.documents.edit_vm(before)
    await undone(world)
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended")
    world.documents.edit_vm(OTHER_PROJECT)
    await world.pass_time(30)
    await world.signal("resume")
    await world.running(1)
    assert world.documents.condition("Accepted").status == "True"
    assert world.of("create_vm")[-1].request.vm.project == "another"


async def test_a_machine_is_reached_as_it_was_bought(world: World) -> None:
    await begin(world, outputs=["/out"], checkpoint={"checkpointStorage": STORAGE})
    key = {"sshUser": "another", "sshKeySecretRef": {"name": "another"}}
    world.documents.edit_vm(vm_spec(more=key))
    await world.pass_time(30)
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    await world.ended()
    [asked] = world.bucket.outputs
    assert (asked.ssh_user, asked.ssh_key) == ("outlast", None)


async def test_before_anything_has_begun_everything_may_be_corrected(world: World) -> None:
    world.documents.failing_checks = {"CredentialsReady"}
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.condition("CredentialsReady"))
    world.documents.failing_checks = set()
    world.documents.edit(
        job_template=template(command=["train"]),
        gcp_credentials_secret_ref=SecretReference(name="right"),
        checkpoint={"mode": "Application", "checkpoint_storage": STORAGE},
    )
    world.documents.edit_vm(OTHER_PROJECT)
    await world.running(1)
    assert world.documents.told("EditRefused") == []
    created = world.of("create_vm")[0].request.vm
    assert (created.project, created.credentials.name) == ("another", "right")
    assert world.job(0, 0).request.job_template == template(command=["train"])


async def test_what_was_admitted_suspended_is_checked_again_when_it_is_corrected(world: World) -> None:
    await world.submit(replicas=1, suspend=True)
    await world.until(lambda: world.documents.told("Admitted"))
    world.documents.failing_checks = {"StorageReady"}
    world.documents.edit(checkpoint={"mode": "Application", "checkpoint_storage": STORAGE}, suspend=False)
    await world.until(lambda: (c := world.documents.condition("StorageReady")) and c.status == "False")
    await world.pass_time(60)
    assert world.cloud.created == []
    world.documents.failing_checks = set()
    await world.running(1)
    await world.until(lambda: world.documents.condition("CheckpointPublished"), 900)


async def test_another_log_pattern_does_not_make_new_checkpoints_look_old(world: World) -> None:
    await begin(world)
    await world.until(lambda: len(world.documents.told("CheckpointCompleted")) >= 3, 3600)
    world.documents.edit(checkpoint={"progress": None})
    await world.pass_time(60)
    done = len(world.documents.told("CheckpointCompleted"))
    await world.until(lambda: len(world.documents.told("CheckpointCompleted")) > done, 3600)
    newest = world.checkpoints.history[-1].image
    await lose(world)
    assert restored_from(world) == newest
    world.documents.edit(checkpoint={"progress": Progress(log_pattern=r"step=(\d+)")})
    await world.pass_time(60)
    done = len(world.documents.told("CheckpointCompleted"))
    await world.until(lambda: len(world.documents.told("CheckpointCompleted")) > done, 3600)
    newest = world.checkpoints.history[-1].image
    await lose(world)
    assert restored_from(world) == newest


async def test_a_refused_edit_is_told_once_and_refused_in_each_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(world)
    world.documents.edit(job_template=template(command=["another"]))
    await refused(world, "jobTemplate")
    monkeypatch.setattr(history, "EVENTS", 100)
    await world.pass_time(1300)
    assert await runs(world) > 1
    monkeypatch.setattr(history, "EVENTS", 3000)
    assert len(world.documents.told("EditRefused")) == 1
    assert world.documents.condition("Accepted").reason == "CannotBeChanged"
    await lose(world)
    assert world.job(0, 1).request.job_template == template()

"""InstanceTemplates become SpotInstanceVMs, by a bridge with its own token under its policies."""

import asyncio
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from temporalio.client import Client

from api import names
from sandbox.errors import SandboxError
from tests.bridge.own_bridge import own_bridge
from tests.bridge.policies import AS_BRIDGE
from tests.bridge.recorder import eventually
from tests.bridge.test_crds import LATER
from tests.bridge.test_jobs import Train

Json = dict[str, Any]
HELD = names.job_finalizer("0a1b2c3d")


class Objects:
    """The template, its SpotInstanceVM and the job of a test, as a person sees them."""

    def __init__(self, control_plane: Any, namespace: str) -> None:
        self._kubectl, self.namespace = control_plane.kubectl, namespace

    async def __call__(self, *arguments: str, stdin: str = "") -> str:
        return str(await self._kubectl(*arguments, "-n", self.namespace, **({"stdin": stdin} if stdin else {})))

    async def get(self, kind: str, name: str = "t4") -> Any:
        said = await self("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(said) if said.strip() else None

    async def patch(self, kind: str, change: Json, *options: str) -> None:
        await self("patch", kind, "t4", "--type=merge", "-p", json.dumps(change), *options)

    async def mirrors(self, machine_type: str = "n1-standard-4", beside: str = "") -> Any:
        """Wait for the SpotInstanceVM to say so; ``beside`` is the UID of one that it must not be."""

        async def look() -> Any:
            found = await self.get("sivm")
            right = found and found["spec"]["gcp"]["machineType"] == machine_type and found["metadata"]["uid"] != beside
            return found if right else None

        return await eventually(look, f"a SpotInstanceVM with {machine_type}")

    async def says(self, reason: str) -> str:
        """Wait for the template's condition to have this reason, and return it."""

        async def look() -> Any:
            conditions = ((await self.get("itpl")).get("status") or {}).get("conditions") or [{}]
            return conditions[0].get("message") if conditions[0].get("reason") == reason else None

        return str(await eventually(look, f"the condition Mirrored says {reason}"))


@pytest.fixture
def objects(control_plane: Any, installed: None, namespace: str) -> Objects:
    return Objects(control_plane, namespace)


@pytest.fixture
def template(vm: Json) -> Json:
    return {**deepcopy(vm), "kind": "InstanceTemplate"}


@pytest.fixture
def bridge(control_plane: Any, installed: None, recording: Client, tmp_path: Path) -> Any:
    """Run a bridge with the token of its ServiceAccount, as in the cluster."""
    return lambda: own_bridge(control_plane, recording, tmp_path, lasts=60)


@pytest.mark.parametrize("file", LATER, ids=lambda path: path.stem)
async def test_a_manifest_of_the_later_revisions_runs_as_it_is(
    objects: Objects, bridge: Any, client: Client, file: Path
) -> None:
    text = await asyncio.to_thread(file.read_text)
    template, job = yaml.safe_load_all(text)
    async with bridge():
        await objects("apply", "-f", "-", stdin=text)
        train = Train(objects, objects.namespace, client)
        train.workflow_id = f"{objects.namespace}/{job['metadata']['name']}"
        await train.running()
        made = await eventually(lambda: objects.get("sivm", template["metadata"]["name"]), "its SpotInstanceVM")
    assert made["spec"] == (await objects.get("itpl", template["metadata"]["name"]))["spec"]
    assert made["spec"]["preemptible"] == template["spec"]["preemptible"]


async def test_an_edit_reaches_the_jobs_also_one_while_the_bridge_was_away(
    objects: Objects, apply: Any, template: Json, job: Json, bridge: Any, control_plane: Any, client: Client
) -> None:
    job["spec"]["instanceTemplateRef"] = job["spec"].pop("spotInstanceVMRef")
    train = Train(control_plane, objects.namespace, client)
    await apply(template)
    async with bridge():
        await objects.mirrors()
        await apply(job)
        await train.running()
        template["spec"]["gcp"]["machineType"] = "n1-standard-8"
        await apply(template)
        await objects.mirrors("n1-standard-8")

        async def told() -> bool:
            return 2 in [message.get("vmGeneration") for message in await train.heard("spec_changed")]

        await eventually(told, "the job hears of the edit")
    template["spec"]["startupScript"] = "true"
    template["spec"]["gcp"]["machineType"] = "n1-standard-16"
    await apply(template)
    async with bridge():
        assert (await objects.mirrors("n1-standard-16"))["spec"]["startupScript"] == "true"
        del template["spec"]["startupScript"]  # what is removed here is removed there, too
        template["spec"]["gcp"]["machineType"] = "n1-standard-4"
        await apply(template)
        assert "startupScript" not in (await objects.mirrors())["spec"]


async def test_what_somebody_does_to_the_copy_is_put_right(
    objects: Objects, apply: Any, template: Json, bridge: Any
) -> None:
    await apply(template)
    async with bridge():
        first = await objects.mirrors()
        await objects.patch("sivm", {"spec": {"gcp": {"machineType": "a2-highgpu-1g"}}})
        await objects.mirrors()
        await objects("delete", "sivm", "t4")
        await objects.mirrors(beside=first["metadata"]["uid"])


async def test_a_spot_instance_vm_of_somebody_else_is_left_alone(
    objects: Objects, apply: Any, template: Json, vm: Json, bridge: Any
) -> None:
    vm["spec"]["gcp"]["machineType"] = "a2-highgpu-1g"
    await apply(vm)
    await apply(template)
    before = await objects.get("sivm")
    async with bridge():
        assert "Delete it, or give the InstanceTemplate another name" in await objects.says("NameTaken")
        assert await objects.get("sivm") == before
        await objects("delete", "sivm", "t4")
        await objects.mirrors()
        await objects.says("Mirrored")


async def test_a_template_that_is_created_again_waits_for_the_jobs_of_the_first(
    objects: Objects, apply: Any, template: Json, bridge: Any
) -> None:
    await apply(template)
    async with bridge():
        first = await objects.mirrors()
        await objects.patch("sivm", {"metadata": {"finalizers": [HELD]}})
        await objects("delete", "itpl", "t4")

        async def deleting() -> bool:
            return "deletionTimestamp" in (await objects.get("sivm"))["metadata"]

        await eventually(deleting, "the garbage collector deletes it")
        template["spec"]["gcp"]["machineType"] = "n1-standard-8"
        await apply(template)
        assert "teardown" in await objects.says("BeingDeleted")
        assert (await objects.get("sivm"))["spec"] == first["spec"]  # the teardown finds its VMs by it
        await objects.patch("sivm", {"metadata": {"finalizers": None}})
        await objects.mirrors("n1-standard-8", beside=first["metadata"]["uid"])


async def test_what_the_copy_cannot_become_is_told(objects: Objects, apply: Any, template: Json, bridge: Any) -> None:
    await apply(template)
    async with bridge():
        await objects.mirrors()
        bought = {"status": {"provisionedInstances": [{"name": "one"}]}}
        await objects.patch("sivm", bought, "--subresource=status")
        template["spec"]["gcp"]["project"] = "another"
        await apply(template)
        assert "gcp.project cannot be changed" in await objects.says("Refused")
        assert (await objects.get("sivm"))["spec"]["gcp"]["project"] == "team"


# --- what somebody does who has the bridge's token


@pytest.fixture
async def owner(objects: Objects, apply: Any, template: Json) -> Json:
    """Make the reference to a template that exists."""
    await apply(template)
    uid = (await objects.get("itpl"))["metadata"]["uid"]
    return {"apiVersion": names.API_VERSION, "kind": "InstanceTemplate", "name": "t4", "uid": uid, "controller": True}


async def write(objects: Objects, manifest: Json) -> None:
    await objects("create", "-f", "-", AS_BRIDGE, stdin=json.dumps(manifest))


def owned(vm: Json, owner: Json, **changes: Any) -> Json:
    return {**vm, "metadata": {**vm["metadata"], "ownerReferences": [{**owner, **changes}]}}


async def test_it_copies_a_template_and_nothing_else(objects: Objects, apply: Any, vm: Json, owner: Json) -> None:
    with pytest.raises(SandboxError, match="that the InstanceTemplate of the same name owns"):
        await write(objects, vm)
    for changes in ({"name": "another"}, {"kind": "SpotInstanceJob"}, {"controller": False}):
        with pytest.raises(SandboxError, match="that the InstanceTemplate of the same name owns"):
            await write(objects, owned(vm, owner, **changes))
    with pytest.raises(SandboxError, match="must be what its InstanceTemplate says"):
        await write(objects, owned(vm, owner, uid="0a1b"))
    with pytest.raises(SandboxError, match="must be what its InstanceTemplate says"):
        await write(objects, {**owned(vm, owner), "spec": {**vm["spec"], "startupScript": "mine"}})
    for extra in ({"labels": {"a": "b"}}, {"annotations": {"a": "b"}}, {"finalizers": ["a.org/b"]}):
        right = owned(vm, owner)
        with pytest.raises(SandboxError, match="may change nothing but the spec"):
            await write(objects, {**right, "metadata": {**right["metadata"], **extra}})
    await write(objects, owned(vm, owner))


@pytest.mark.parametrize(
    "change",
    [{"spec": {"startupScript": "mine"}}, {"metadata": {"finalizers": None}}, {"metadata": {"labels": {"a": "b"}}},
     {"metadata": {"ownerReferences": None}}],
    ids=json.dumps,
)  # fmt: skip
async def test_it_changes_nothing_of_a_copy_but_by_its_template(
    objects: Objects, vm: Json, owner: Json, change: Json
) -> None:
    await objects("create", "-f", "-", stdin=json.dumps(owned(vm, owner)))
    await objects.patch("sivm", {"metadata": {"finalizers": [HELD]}})
    with pytest.raises(SandboxError, match=r"the bridge may|must be what"):
        await objects.patch("sivm", change, AS_BRIDGE)
    await objects.patch("sivm", {"metadata": {"finalizers": None}})


@pytest.mark.parametrize("taken", [False, True])
async def test_it_takes_over_nobodys_spot_instance_vm(
    objects: Objects, apply: Any, vm: Json, owner: Json, taken: bool
) -> None:
    await apply(vm)
    change: Json = {"spec": {"startupScript": "mine"}}
    with pytest.raises(SandboxError, match=r"the bridge may|must be what"):  # whichever policy answers first
        await objects.patch("sivm", {"metadata": {"ownerReferences": [owner]}} if taken else change, AS_BRIDGE)


async def test_what_has_no_template_is_collected(objects: Objects, vm: Json) -> None:
    owner = {"apiVersion": names.API_VERSION, "kind": "InstanceTemplate", "name": "t4", "controller": True}
    await write(objects, owned(vm, {**owner, "uid": "0a1b2c3d-0000-4000-8000-000000000000"}))

    async def gone() -> bool:
        return await objects.get("sivm") is None

    await eventually(gone, "the garbage collector deletes it")


async def test_it_changes_none_that_jobs_still_hold(objects: Objects, vm: Json, owner: Json) -> None:
    """Its template is gone, so there is nothing to compare with."""
    await objects("create", "-f", "-", stdin=json.dumps(owned(vm, owner)))
    await objects.patch("sivm", {"metadata": {"finalizers": [HELD]}})
    await objects("delete", "itpl", "t4")
    await objects("delete", "sivm", "t4", "--wait=false")
    with pytest.raises(SandboxError, match="may change nothing but the spec"):
        await objects.patch("sivm", {"spec": {"startupScript": "mine"}}, AS_BRIDGE)
    await objects.patch("sivm", {"metadata": {"finalizers": None}})


async def test_nobody_else_is_held_by_these_policies(objects: Objects, apply: Any, vm: Json) -> None:
    """In a namespace without templates a policy with params could refuse everybody."""
    await apply(vm)
    await objects.patch("sivm", {"metadata": {"finalizers": [HELD]}})
    await objects.patch("sivm", {"metadata": {"finalizers": None}})
    await objects("delete", "sivm", "t4")

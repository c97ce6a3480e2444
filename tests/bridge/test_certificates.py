"""A VM's kubelet asks for a serving certificate: its VM's workflow hears of it, and no other."""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.client import Client

from api import names
from api.messages import VmStart
from api.spot_instance_vm import SpotInstanceVMSpec
from tests.activities.asking import SERVING_USAGES, pem
from tests.bridge.recorder import eventually, heard
from tests.bridge.test_objects import QUIET

VM = {"vmImage": "a", "gcp": {"project": "p", "zone": "us-central1-a", "machineType": "n1-standard-4"}}
SERVING = "kubernetes.io/kubelet-serving"


class Csrs:
    """Makes certificate requests in somebody's name, as an administrator who impersonates them."""

    def __init__(self, kubectl: Any) -> None:
        self.kubectl = kubectl
        self.made: list[str] = []

    async def ask(self, node: str, *, signer: str = SERVING, usages: list[str] = SERVING_USAGES) -> str:
        name = f"csr-{secrets.token_hex(4)}"
        text = pem(names.node_user(node), "system:nodes", names_too=[node] if signer == SERVING else [])
        spec = {"request": base64.b64encode(text.encode()).decode(), "signerName": signer, "usages": usages}
        body = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
        manifest = json.dumps({**body, "metadata": {"name": name}, "spec": spec})
        user = (f"--as={names.node_user(node)}", "--as-group=system:nodes", "--as-group=system:authenticated")
        await self.kubectl("create", "-f", "-", *user, stdin=manifest)
        self.made.append(name)
        return name


@pytest.fixture
async def csrs(control_plane: Any) -> AsyncIterator[Csrs]:
    made = Csrs(control_plane.kubectl)
    yield made
    if made.made:
        await control_plane.kubectl("delete", "csr", *made.made)


@pytest.fixture
def key() -> str:
    return names.vm_key(secrets.token_hex(4), 0, 1)


@pytest.fixture
async def vm_workflow(recording: Client, namespace: str, key: str) -> str:
    start = VmStart(
        key=key, cluster_id="this-cluster", job_id=names.job_id_in(key), replica=0, namespace=namespace,
        job_name="train", job_uid="uid", vm_name="t4", spec=SpotInstanceVMSpec.model_validate(VM),
    )  # fmt: skip
    workflow_id = names.vm_workflow_id(key)
    await recording.start_workflow(names.VM_WORKFLOW, start, id=workflow_id, task_queue=names.TASK_QUEUE)
    return workflow_id


async def test_the_vm_hears_of_each_request_of_its_node(
    csrs: Csrs, vm_workflow: str, key: str, bridge: Any, client: Client
) -> None:
    """So it is for one that was made while no bridge ran, and for the next, as when a certificate is rotated."""

    async def told(count: int) -> bool:
        messages = await heard(client, vm_workflow, "certificate_asked")
        return len(messages) >= count and messages[-1] == {"node": names.vm_name(key, 1)}

    await csrs.ask(names.vm_name(key, 1))
    async with bridge():
        await eventually(lambda: told(1), "the first")
        await csrs.ask(names.vm_name(key, 1))
        await eventually(lambda: told(2), "the second")


async def test_it_hears_of_nobody_elses(
    csrs: Csrs, vm_workflow: str, key: str, bridge: Any, client: Client, control_plane: Any
) -> None:
    """It is not told of another Node's, of another signer's, and not that one was answered."""
    answered = await csrs.ask(names.vm_name(key, 1))
    await control_plane.kubectl("certificate", "deny", answered)
    async with bridge():
        await csrs.ask("worker-1")
        await csrs.ask(names.vm_name(names.vm_key(secrets.token_hex(4), 0, 1), 1))
        client_usages = ["digital signature", "client auth"]
        await csrs.ask(
            names.vm_name(key, 1), signer="kubernetes.io/kube-apiserver-client-kubelet", usages=client_usages
        )
        await asyncio.sleep(QUIET)
    assert await heard(client, vm_workflow, "certificate_asked") == []

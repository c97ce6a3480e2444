"""The worker's token may answer certain certificate requests only; RBAC just knows their signer."""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from api import names
from clients.kube import Kube, KubeError, connect
from tests.activities.asking import CLIENT_USAGES, CSRS, SERVING_USAGES, pem
from tests.bridge.recorder import eventually
from tests.bridge.test_main import write_kubeconfig

CLIENT, SERVING = "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"
OWN_TOKEN = ("system:bootstrap:abcdef", (names.BOOTSTRAP_GROUP, "system:bootstrappers"))
KUBEADMS = ("system:bootstrap:abcdef", ("system:bootstrappers:kubeadm:default-node-token", "system:bootstrappers"))
OWN_NODE = ("system:node:outlast-0a1b2c3d-r0-v1-t1", ("system:nodes",))
OTHER_NODE = ("system:node:control-plane-1", ("system:nodes",))
LIKE_OURS = ("system:node:outlast-0a1b2c3d-r0-v1-t1.evil", ("system:nodes",))
NO_NODE = ("system:node:outlast-0a1b2c3d-r0-v1-t1", ("team-a",))
ASKERS = "csr-askers"
"""The group that may create requests, and whose requests nobody approves."""
OF_NOBODY = ["digital signature"]
"""Usages that the controller-manager's own approver leaves alone."""
Who = tuple[str, tuple[str, ...]]


@pytest.fixture
async def worker(control_plane: Any, installed: None, tmp_path: Path) -> AsyncIterator[Kube]:
    """Return a client of the worker's ServiceAccount."""
    token = await control_plane.kubectl("create", "token", "outlast-worker", "-n", "outlast-system")
    config = write_kubeconfig(tmp_path, control_plane.url, control_plane.ca_file, token.strip())
    async with await connect(str(config)) as kube:
        yield kube


class Requests:
    """Makes requests as whomever an administrator impersonates."""

    def __init__(self, control_plane: Any, worker: Kube) -> None:
        self.control_plane, self.worker = control_plane, worker
        self.made: list[str] = []

    async def ask(self, who: Who, signer: str, usages: Sequence[str]) -> str:
        user, groups = who
        name = f"csr-{secrets.token_hex(4)}"
        # The API server's NodeRestriction lets a Node only ask for itself.
        subject = user if user.startswith("system:node:") else "system:node:any"
        text = pem(subject, "system:nodes", names_too=["any"] if signer == SERVING else [])
        body = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {
                "request": base64.b64encode(text.encode()).decode(),
                "signerName": signer,
                "usages": list(usages),
            },
        }
        as_whom = (f"--as={user}", *(f"--as-group={group}" for group in (*groups, ASKERS)))
        await self.control_plane.kubectl("create", "-f", "-", *as_whom, stdin=json.dumps(body))
        self.made.append(name)
        return name

    async def answer(self, name: str, verdict: str) -> None:
        condition = {"type": verdict, "status": "True", "reason": "Test", "message": "as the worker"}
        await self.worker.patch(f"{CSRS}/{name}/approval", {"status": {"conditions": [condition]}})

    async def refused(self, who: Who, signer: str, usages: Sequence[str], verdict: str = "Approved") -> str:
        """Return what the API server says."""
        with pytest.raises(KubeError) as caught:
            await self.answer(await self.ask(who, signer, usages), verdict)
        assert caught.value.status == 403
        return caught.value.message


@pytest.fixture
async def requests(control_plane: Any, worker: Kube) -> AsyncIterator[Requests]:
    made = Requests(control_plane, worker)
    role = ("clusterrolebinding", ASKERS, "--clusterrole=system:node-bootstrapper", f"--group={ASKERS}")
    await control_plane.kubectl("create", *role)

    async def in_force() -> bool:
        name = await made.ask(OTHER_NODE, SERVING, SERVING_USAGES)
        try:
            await made.answer(name, "Denied")
        except KubeError as error:
            return "may answer no request" in error.message
        await asyncio.sleep(0.2)
        return False

    await eventually(in_force, "the policy is in force")
    yield made
    await control_plane.kubectl("delete", "csr", *made.made)
    await control_plane.kubectl("delete", *role[:2])


@pytest.mark.parametrize("verdict", ["Approved", "Denied"])
@pytest.mark.parametrize(
    ("who", "signer", "usages"),
    [
        (OWN_TOKEN, CLIENT, CLIENT_USAGES),
        (OWN_TOKEN, CLIENT, [*CLIENT_USAGES, "key encipherment"]),
        (OWN_NODE, SERVING, SERVING_USAGES),
    ],
    ids=["a token of its own", "with an RSA key", "a Node of its own"],
)
async def test_it_answers_its_own_machines(
    requests: Requests, who: Who, signer: str, usages: list[str], verdict: str
) -> None:
    await requests.answer(await requests.ask(who, signer, usages), verdict)


async def test_it_denies_whatever_else_its_own_tokens_ask_for(requests: Requests) -> None:
    await requests.answer(await requests.ask(OWN_TOKEN, SERVING, SERVING_USAGES), "Denied")
    await requests.answer(await requests.ask(OWN_TOKEN, CLIENT, [*CLIENT_USAGES, "code signing"]), "Denied")


@pytest.mark.parametrize("verdict", ["Approved", "Denied"])
@pytest.mark.parametrize(
    ("who", "signer", "usages"),
    [
        (KUBEADMS, CLIENT, OF_NOBODY),
        (OTHER_NODE, CLIENT, OF_NOBODY),
        (OWN_NODE, CLIENT, OF_NOBODY),
        (("admin", (names.BOOTSTRAP_GROUP,)), CLIENT, CLIENT_USAGES),
        (OTHER_NODE, SERVING, SERVING_USAGES),
        (LIKE_OURS, SERVING, SERVING_USAGES),
        (NO_NODE, SERVING, SERVING_USAGES),
    ],
    ids=["kubeadm's token", "another Node", "a rotation", "no token", "another's", "like ours", "not a Node"],
)
async def test_it_answers_nobody_else(
    requests: Requests, who: Who, signer: str, usages: list[str], verdict: str
) -> None:
    said = await requests.refused(who, signer, usages, verdict)
    assert f"the worker may answer no request of {who[0]}" in said


@pytest.mark.parametrize(
    ("who", "signer", "usages"),
    [
        (OWN_TOKEN, CLIENT, [*CLIENT_USAGES, "code signing"]),
        (OWN_TOKEN, CLIENT, ["digital signature"]),
        (OWN_TOKEN, SERVING, SERVING_USAGES),
        (OWN_NODE, SERVING, [*SERVING_USAGES, "client auth"]),
    ],
    ids=["more usages", "fewer", "another signer", "a client, too"],
)
async def test_it_approves_nothing_that_no_kubelet_asks_for(
    requests: Requests, who: Who, signer: str, usages: list[str]
) -> None:
    assert f"the worker may approve for {who[0]} nothing but" in await requests.refused(who, signer, usages)


async def test_it_approves_for_no_other_signer(requests: Requests) -> None:
    """RBAC refuses it: whoever has such a certificate may be anybody."""
    said = await requests.refused(OWN_TOKEN, "kubernetes.io/kube-apiserver-client", CLIENT_USAGES)
    assert "not permitted to approve requests with signerName" in said

"""What can be done with a bootstrap token of Outlast's, on a real API server with its own approver and signer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from activities.certificates.approver import REQUESTS
from activities.certificates.client import ClientCertificates
from activities.certificates.request import CLIENT, SERVING
from activities.join.tokens import token_id_of
from api import names
from clients.informer import Informer
from clients.kube import path
from sandbox.control_plane import ControlPlane
from sandbox.kube_client import ApiError, KubeClient
from tests.activities.asking import CLIENT_USAGES, SERVING_USAGES, Asking, Machine, node_pem, pem
from tests.activities.rights import acting
from tests.activities.world import World, eventually


@pytest.fixture
async def machine(world: World, control_plane: ControlPlane) -> AsyncIterator[Machine]:
    """Make a machine that joins."""
    made = Machine(world, control_plane)
    yield made
    await made.close()


async def test_the_token_makes_the_node_for_which_it_was_minted(machine: Machine) -> None:
    root = await machine.root()
    name = await root.ask(node_pem(machine.node))
    await machine.no_certificate(name)
    assert await machine.answer() == ""
    assert (await machine.verdict(name))[0] == "Approved"
    assert await machine.certificate(name)
    assert await machine.warnings() == []


async def test_a_kubelet_with_an_rsa_key_asks_for_more_usages(machine: Machine) -> None:
    root = await machine.root()
    name = await root.ask(node_pem(machine.node), [*CLIENT_USAGES, "key encipherment"])
    await machine.answer()
    assert (await machine.verdict(name))[0] == "Approved"


async def test_the_token_of_one_vm_is_no_other_node(machine: Machine) -> None:
    """Such as the control plane's, by which one reads the Secrets of all pods there."""
    root = await machine.root()
    name = await root.ask(node_pem("control-plane-1"))
    said = await machine.answer()
    assert await machine.verdict(name) == ("Denied", f"this VM is the Node {machine.node} and no other")
    await machine.no_certificate(name)
    (warning,) = await machine.warnings()
    assert warning == said
    assert f"the token of {machine.node} asked for a certificate of" in said
    assert "system:node:control-plane-1" in said


@pytest.mark.parametrize("together", [True, False], ids=["at once", "one after the other"])
async def test_the_token_makes_its_node_once(machine: Machine, together: bool) -> None:
    root = await machine.root()
    first = await root.ask(node_pem(machine.node))
    await asyncio.sleep(1.1)  # requests are ordered by the second
    if not together:
        await machine.answer()
    second = await root.ask(node_pem(machine.node))
    await machine.answer()
    assert (await machine.verdict(first))[0] == "Approved"
    assert await machine.verdict(second) == ("Denied", "a token makes one Node, once")
    await machine.no_certificate(second)
    assert len(await machine.warnings()) == 1


async def test_two_workers_that_look_at_once_approve_one(machine: Machine) -> None:
    root = await machine.root()
    asked = [await root.ask(node_pem(machine.node)) for _ in range(4)]
    with acting():
        lookers = [ClientCertificates(machine.kube, machine.tokens, Informer(machine.kube, REQUESTS)) for _ in range(4)]
        await asyncio.gather(*(each.answer(machine.join) for each in lookers))
    await machine.answer()
    assert sorted([(await machine.verdict(name))[0] for name in asked]) == ["Approved", "Denied", "Denied", "Denied"]


async def test_another_try_of_the_join_gets_its_own_certificate(machine: Machine) -> None:
    """It has another token, and gets no certificate that was requested with the token before."""
    root = await machine.root()
    first = await root.ask(node_pem(machine.node))
    await machine.answer()
    left = await root.ask(node_pem(machine.node))
    await asyncio.sleep(1.1)
    with acting():
        await machine.tokens.revoke(token_id_of(machine.node))
    again = await machine.root()
    second = await again.ask(node_pem(machine.node))
    await machine.answer()
    verdicts = [await machine.verdict(name) for name in (first, left, second)]
    assert [kind for kind, _ in verdicts] == ["Approved", "Denied", "Approved"]
    assert verdicts[1][1] == "it was made with an earlier token"


def _requests(node: str) -> dict[str, tuple[str, list[str], str, str]]:
    """Map each case that a kubelet would not request to request, usages, signer and a part of the reason."""
    own, plain = names.node_user(node), node_pem(node)
    return {
        "usages": (plain, [*CLIENT_USAGES, "code signing"], CLIENT, "does not ask for the usages"),
        "more groups": (pem(own, "system:nodes", "system:masterful"), CLIENT_USAGES, CLIENT, "and no other"),
        "no group": (pem(own), CLIENT_USAGES, CLIENT, "and no other"),
        "somebody else": (pem("admin", "system:nodes"), CLIENT_USAGES, CLIENT, "and no other"),
        "host names": (pem(own, "system:nodes", names_too=["a"]), CLIENT_USAGES, CLIENT, "no names and addresses"),
        "serving": (
            pem(own, "system:nodes", names_too=[node]), SERVING_USAGES, SERVING, "no certificate of the signer"
        ),
        "two blocks": (plain + node_pem("control-plane-1"), CLIENT_USAGES, CLIENT, "more than one plain PEM block"),
    }  # fmt: skip


@pytest.mark.parametrize("case", list(_requests("x")))
async def test_what_no_kubelet_asks_for_is_denied(machine: Machine, case: str) -> None:
    request, usages, signer, reason = _requests(machine.node)[case]
    root = await machine.root()
    name = await root.ask(request, usages, signer)
    await machine.answer()
    kind, why = await machine.verdict(name)
    assert kind == "Denied"
    assert reason in why
    await machine.no_certificate(name)
    assert len(await machine.warnings()) == 1


async def test_a_request_of_another_group_is_nobody_elses_business(machine: Machine) -> None:
    """kubeadm approves for its own tokens. What an administrator requests waits for an administrator."""
    theirs = machine.who(await machine.control_plane.create_bootstrap_token())
    admin = Asking(KubeClient.from_kubeconfig(machine.control_plane.kubeconfig))
    root = await machine.root()
    by_kubeadm = await theirs.ask(node_pem("worker-7"))
    by_hand = await admin.ask(pem("system:node:b", "system:nodes", names_too=["b"]), SERVING_USAGES, SERVING)
    await root.ask(node_pem(machine.node))
    await machine.answer()
    assert await machine.certificate(by_kubeadm)
    assert await machine.verdict(by_hand) == ("", "")
    await admin.client.close()


async def test_a_token_that_was_minted_by_an_older_version_still_joins(machine: Machine) -> None:
    """It is in kubeadm's group: kubeadm approves, and we neither approve nor deny."""
    root = await machine.root()
    secret = path("v1", "secrets", "kube-system", f"bootstrap-token-{token_id_of(machine.node)}")
    old = {"auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token"}
    await machine.kube.patch(secret, {"stringData": old})
    await asyncio.sleep(0.5)
    assert (await machine.root()).client is not root.client  # found again, and kept as it is
    name = await root.ask(node_pem(machine.node))
    assert await machine.certificate(name)
    await machine.answer()
    assert await machine.warnings() == []


async def test_a_flood_does_not_keep_the_kubelet_waiting(machine: Machine) -> None:
    root = await machine.root()
    evil = [await root.ask(node_pem(f"control-plane-{number}")) for number in range(25)]
    own = await root.ask(node_pem(machine.node))
    await machine.answer()
    assert (await machine.verdict(own))[0] == "Approved"
    assert len(await machine.warnings()) == 1
    await machine.answer()
    assert {(await machine.verdict(name))[0] for name in evil} == {"Denied"}


async def test_a_revoked_token_asks_for_nothing(machine: Machine) -> None:
    root = await machine.root()
    with acting():
        await machine.tokens.revoke(token_id_of(machine.node))

    async def refused() -> bool:
        try:
            await root.ask(node_pem(machine.node))
        except ApiError as error:
            return error.status == 401
        return False

    await eventually("it is refused", refused)

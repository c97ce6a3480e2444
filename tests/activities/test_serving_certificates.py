"""Serving certificates of a VM's Node, in a cluster with ``serverTLSBootstrap: true``: whose names they contain."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from activities.certificates.activities import CertificateActivities
from activities.certificates.approver import REQUESTS
from activities.certificates.request import SERVING, own_names
from activities.compute.gcp import GcpCloud
from activities.compute.instance import instance_body
from activities.signatures import AnswerCertificates, Done
from api import names
from api.market import Candidate
from api.spot_instance_vm import SpotInstanceVMSpec
from api.views import VmView
from clients.informer import Informer
from sandbox.control_plane import ControlPlane
from sandbox.gce import GceEmulator
from sandbox.kube_client import ApiError
from sandbox.settings import Settings
from tests.activities.asking import SERVING_USAGES, Asking, Machine, pem
from tests.activities.boxes import Boxes
from tests.activities.world import VM, World, eventually, run

ZONE = "us-central1-a"


class Bought(Machine):
    """A VM that runs, as its cloud says."""

    async def buy(self, gce: GceEmulator, cloud: GcpCloud) -> None:
        self.gce = gce
        self.activities = CertificateActivities(self.kube, cloud, Informer(self.kube, REQUESTS))
        compute = await cloud.open(None, "default")
        spec = SpotInstanceVMSpec.model_validate({**VM, "gcp": {**VM["gcp"], "project": "demo", "externalIP": True}})
        candidate = Candidate(zone=ZONE, machine_type="n1-standard-4")
        body = instance_body(spec, name=self.node, candidate=candidate, labels={}, ssh_public_key="ssh-ed25519 AAAA")
        await compute.insert("demo", ZONE, body, names.request_id(self.node, ZONE))
        async with asyncio.timeout(150):
            while True:
                found = await compute.get("demo", ZONE, self.node)
                if found is not None and found.status == "RUNNING":
                    break
                await asyncio.sleep(0.1)
        assert found.internal_ip
        assert found.external_ip
        self.view = found

    def own_pem(self, *more: str, without: bool = False) -> str:
        """Make the kubelet's request, with its name and its VM's addresses, and ``more``."""
        own = [] if without else [self.node, self.view.internal_ip or "", self.view.external_ip or ""]
        return pem(names.node_user(self.node), "system:nodes", names_too=[*own, *more])

    async def answer_node(self) -> None:
        """Do what the VM's workflow does when it hears of a request."""
        assert isinstance(await run(self.activities.answer_certificates, self.request), Done)

    @property
    def request(self) -> AnswerCertificates:
        return AnswerCertificates(job=self.job, vm=self.vm)


@pytest.fixture
async def bought(world: World, control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Bought]:
    made = Bought(world, control_plane)
    gce = GceEmulator(Settings(state_dir=tmp_path, speed=50, octet=190), Boxes())
    cloud = GcpCloud(made.kube, await gce.start())
    await made.buy(gce, cloud)
    yield made
    await made.close()
    cloud.close()
    await gce.stop()


@pytest.fixture
async def kubelet(bought: Bought, tmp_path: Path) -> Asking:
    """Make the kubelet's client, with the certificate of its join."""
    return await bought.kubelet(tmp_path, bought.node)


async def ask(kubelet: Asking, request: str) -> str:
    return await kubelet.ask(request, SERVING_USAGES, SERVING)


async def test_a_request_that_names_its_vm_alone_is_approved(bought: Bought, kubelet: Asking) -> None:
    name = await ask(kubelet, bought.own_pem())
    await bought.answer_node()
    assert (await bought.verdict(name))[0] == "Approved"
    made = x509.load_pem_x509_certificate(await bought.certificate(name) or b"")
    named = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(each.value) for each in named} == {bought.node, bought.view.internal_ip, bought.view.external_ip}
    assert await bought.warnings() == []


async def test_it_is_approved_again_when_it_is_rotated(bought: Bought, kubelet: Asking) -> None:
    for _ in range(2):
        name = await ask(kubelet, bought.own_pem())
        await bought.answer_node()
        assert (await bought.verdict(name))[0] == "Approved"


async def test_what_googles_internal_dns_calls_it_is_its_own(bought: Bought, kubelet: Asking) -> None:
    """With GCE's cloud controller manager these are among the Node's addresses."""
    name = await ask(kubelet, bought.own_pem(f"{bought.node}.{ZONE}.c.demo.internal", f"{bought.node}.c.demo.internal"))
    await bought.answer_node()
    assert (await bought.verdict(name))[0] == "Approved"


@pytest.mark.parametrize("foreign", ["10.96.0.1", "kubernetes.default.svc", "metadata.google.internal"])
async def test_a_name_or_address_of_anybody_else_is_denied(bought: Bought, kubelet: Asking, foreign: str) -> None:
    """So it is even if its kubelet has written it into the Node's own status."""
    name = await ask(kubelet, bought.own_pem(foreign))
    await bought.answer_node()
    kind, why = await bought.verdict(name)
    assert kind == "Denied"
    assert f"'{foreign}' is not among the VM's own names and addresses" in why
    await bought.no_certificate(name)
    (warning,) = await bought.warnings()
    assert f"the kubelet of {bought.node} asked for" in warning


async def test_one_of_a_vm_that_is_gone_is_denied(bought: Bought, kubelet: Asking) -> None:
    await bought.gce.preempt(bought.node, notice=0)
    name = await ask(kubelet, bought.own_pem())

    async def gone() -> bool:
        return all(each["name"] != bought.node for each in bought.gce.instances())

    await eventually("the VM is gone", gone)
    await bought.answer_node()
    assert (await bought.verdict(name))[0] == "Denied"


async def test_other_nodes_wait_for_their_own_approver(bought: Bought, tmp_path: Path) -> None:
    stranger = await bought.kubelet(tmp_path, f"worker-{bought.job.job_id}")
    node = f"worker-{bought.job.job_id}"
    name = await ask(stranger, pem(names.node_user(node), "system:nodes", names_too=[node]))
    await bought.answer_node()
    assert await bought.verdict(name) == ("", "")


@pytest.mark.parametrize("usages", [[*SERVING_USAGES, "client auth"], ["client auth"]], ids=", ".join)
async def test_it_is_no_client_certificate(bought: Bought, kubelet: Asking, usages: list[str]) -> None:
    try:
        name = await kubelet.ask(bought.own_pem(), usages, SERVING)
    except ApiError as error:
        assert error.status == 422, "refused by the API server itself"  # noqa: PT017
        return
    await bought.answer_node()
    kind, why = await bought.verdict(name)
    assert kind == "Denied"
    assert "a kubelet does not ask for the usages" in why


def test_the_internal_dns_of_a_project_in_a_domain() -> None:
    """https://cloud.google.com/compute/docs/internal-dns."""
    vm = VmView(exists=True, name="vm-1", zone=ZONE, internal_ip="10.0.0.2")
    assert own_names(vm, "example.com:team") == {
        "vm-1",
        "vm-1.c.team.example.com.internal",
        f"vm-1.{ZONE}.c.team.example.com.internal",
        "10.0.0.2",
    }

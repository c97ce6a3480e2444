"""Those who ask a real API server for certificates: root on a VM that joins, kubelets, strangers."""

import asyncio
import base64
import secrets
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from activities.certificates.approver import REQUESTS
from activities.certificates.client import ClientCertificates
from activities.certificates.request import CLIENT
from activities.join.tokens import Tokens, token_id_of
from activities.signatures import StartJoin, VmRef
from api import names
from api.spot_instance_vm import SpotInstanceVMSpec
from clients.informer import Informer
from clients.kube import path
from sandbox.control_plane import ControlPlane
from sandbox.kube_client import KubeClient
from tests.activities.rights import acting
from tests.activities.world import VM, World, eventually

Json = dict[str, Any]

CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
CLIENT_USAGES = ["digital signature", "client auth"]
SERVING_USAGES = ["digital signature", "server auth"]


def pem(common: str, *organizations: str, names_too: Sequence[str] = (), more: Sequence[x509.GeneralName] = ()) -> str:
    """Make a PKCS #10 request in PEM."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    general = [_general(each) for each in names_too] + list(more)
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def node_pem(node: str) -> str:
    return pem(names.node_user(node), "system:nodes")


class Asking:
    """Somebody who asks the API server for certificates."""

    def __init__(self, client: KubeClient) -> None:
        self.client = client

    async def ask(self, request: str, usages: Sequence[str] = CLIENT_USAGES, signer: str = CLIENT) -> str:
        """Create a request and return its name."""
        name = f"test-{secrets.token_hex(4)}"
        spec = {"request": base64.b64encode(request.encode()).decode(), "signerName": signer, "usages": list(usages)}
        body = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
        await self.client.create(CSRS, {**body, "metadata": {"name": name}, "spec": spec})
        return name


class Machine:
    """A VM of a job, before and after it has joined."""

    def __init__(self, world: World, control_plane: ControlPlane) -> None:
        self.world, self.kube, self.control_plane = world, world.kube, control_plane
        self.cluster_id = "c1"
        self.job = world.job.model_copy(update={"job_id": names.job_id(self.cluster_id, world.job.uid)})
        self.node = f"outlast-{self.job.job_id}-r0-v1-t1"
        self.vm = VmRef(project="demo", zone="us-central1-a", name=self.node, namespace=self.job.namespace)
        self.tokens = Tokens(self.kube)
        self.certificates = ClientCertificates(self.kube, self.tokens, Informer(self.kube, REQUESTS))
        self._clients: list[KubeClient] = []

    @property
    def join(self) -> StartJoin:
        return StartJoin(
            vm=self.vm,
            spec=SpotInstanceVMSpec.model_validate(VM),
            address="10.0.0.1",
            job_id=self.job.job_id,
            cluster_id=self.cluster_id,
            provider_id=f"gce://demo/us-central1-a/{self.node}",
            namespace=self.job.namespace,
            workflow=names.job_workflow_id(self.job.namespace, self.job.name),
        )

    async def root(self) -> Asking:
        """Return a client of root on the VM while it joins, who has copied the token."""
        with acting():
            discovery = await self.tokens.discovery(self.join)
        return self.who(token=discovery.token)

    def who(self, token: str) -> Asking:
        tls = ssl.create_default_context(cafile=str(self.control_plane.ca_file))
        client = KubeClient(self.control_plane.url, tls, token)
        self._clients.append(client)
        return Asking(client)

    async def kubelet(self, directory: Path, node: str) -> Asking:
        """Return a kubelet's client, with a certificate that the cluster's administrator has made."""
        admin = Asking(KubeClient.from_kubeconfig(self.control_plane.kubeconfig))
        self._clients.append(admin.client)
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [(NameOID.ORGANIZATION_NAME, "system:nodes"), (NameOID.COMMON_NAME, names.node_user(node))]
        subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        name = await admin.ask(request.public_bytes(Encoding.PEM).decode())
        approved = {"type": "Approved", "status": "True", "reason": "Test", "message": "by the administrator"}
        await self.kube.patch(f"{CSRS}/{name}/approval", {"status": {"conditions": [approved]}})
        certificate = await self.certificate(name)
        assert certificate is not None
        (directory / f"{node}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (directory / f"{node}.crt").write_bytes(certificate)
        client = KubeClient.with_certificate(
            self.control_plane.url, self.control_plane.ca_file, directory / f"{node}.crt", directory / f"{node}.key"
        )
        self._clients.append(client)
        return Asking(client)

    async def answer(self) -> str:
        """Answer its requests, as a running join does again and again."""
        with acting():
            await asyncio.sleep(0.5)  # otherwise it would answer by what it read for the previous answer
            return await self.certificates.answer(self.join)

    async def verdict(self, name: str) -> tuple[str, str]:
        """Return the answer to a request and its reason; ("", "") if nobody has answered."""
        found = await self.kube.get(f"{CSRS}/{name}")
        conditions = (found.get("status") or {}).get("conditions") or [{"type": "", "message": ""}]
        return conditions[0]["type"], conditions[0]["message"]

    async def certificate(self, name: str, seconds: float = 150) -> bytes | None:
        """Return the certificate that the cluster's signer made."""

        async def made() -> str | None:
            return ((await self.kube.get(f"{CSRS}/{name}")).get("status") or {}).get("certificate")

        return base64.b64decode(await eventually("the certificate", made, seconds))

    async def no_certificate(self, name: str) -> None:
        """Check that there is none, after the time that the signer and kubeadm's approver need."""
        await asyncio.sleep(1)
        assert "certificate" not in ((await self.kube.get(f"{CSRS}/{name}")).get("status") or {})

    async def warnings(self) -> list[str]:
        """List the warnings among the job's Events."""
        found = await self.kube.list(path("events.k8s.io/v1", "events", self.job.namespace))
        return [each["note"] for each in found if (each["type"], each["reason"]) == ("Warning", "CertificateDenied")]

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        for item in await self.kube.list(CSRS):
            if item["metadata"]["name"].startswith("test-"):
                await self.kube.delete(f"{CSRS}/{item['metadata']['name']}")
        with acting():
            await self.tokens.revoke(token_id_of(self.node))

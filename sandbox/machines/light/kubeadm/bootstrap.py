"""TLS bootstrap: a bootstrap token becomes the node's own client certificate, by a CertificateSigningRequest.

Protocol: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from sandbox.kube_client import UNREACHABLE, ApiError, KubeClient
from sandbox.machines.light.kubeadm.host import KubeadmError

_REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_POLL_SECONDS = 0.1


async def obtain_certificate(client: KubeClient, node_name: str, timeout: float) -> bytes:
    """Obtain certificate and key of ``system:node:<node_name>``, in one PEM, within ``timeout`` real seconds.

    ``client`` has the bootstrap token.

    Raises:
        KubeadmError: the request is denied, or not answered in time.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = await _submit(client, key, node_name)
    certificate = await _wait(client, name, timeout)
    return certificate + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


async def _submit(client: KubeClient, key: ec.EllipticCurvePrivateKey, node_name: str) -> str:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node_name}"),
        ]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    name = f"node-csr-{base64.urlsafe_b64encode(hashlib.sha256(public).digest()).decode().rstrip('=')}".lower()
    name = name.replace("_", "-").rstrip("-") + "0"  # a DNS name may not end with a dash
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": base64.b64encode(request.public_bytes(Encoding.PEM)).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"],
        },
    }
    try:
        await client.create(_REQUESTS, body)
    except (ApiError, *UNREACHABLE) as error:
        raise KubeadmError(
            "error execution phase kubelet-start: failed to run Kubelet: cannot create certificate signing request: "
            f"{error}"
        ) from error
    return name


async def _wait(client: KubeClient, name: str, timeout: float) -> bytes:
    deadline = time.monotonic() + timeout
    problem = "it is not approved"
    while time.monotonic() < deadline:
        try:
            status = (await client.get(f"{_REQUESTS}/{name}")).get("status") or {}
        except (ApiError, *UNREACHABLE) as error:
            problem = str(error)
            status = {}
        for condition in status.get("conditions", []):
            if condition["type"] in {"Denied", "Failed"}:
                raise KubeadmError(
                    f"error execution phase kubelet-start: certificate signing request {name} is "
                    f"{condition['type'].lower()}: {condition.get('message', '')}"
                )
        if certificate := status.get("certificate"):
            return base64.b64decode(certificate)
        await asyncio.sleep(_POLL_SECONDS)
    raise KubeadmError(
        "error execution phase kubelet-start: timed out waiting for the kubelet's TLS bootstrap: "
        f"request {name}: {problem}"
    )

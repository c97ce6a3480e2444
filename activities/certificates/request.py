"""What a CertificateSigningRequest asks for, and what is wrong with it. Pure.

A request is refused unless it is written exactly as a kubelet writes it. We have to read in it what the cluster's
signer reads, which is another parser (Go's).

https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers
"""

from base64 import b64decode
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from api import names
from api.names import shown
from api.views import VmView
from clients.kube import Json

CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
"""Signer of the certificates by which a kubelet acts as its Node."""

SERVING = "kubernetes.io/kubelet-serving"
"""Signer of the certificates that a kubelet shows to those who ask it for logs."""

SIGNERS = (CLIENT, SERVING)
USAGES = {CLIENT: {"digital signature", "client auth"}, SERVING: {"digital signature", "server auth"}}
_OF_RSA = "key encipherment"  # also asked for by a kubelet with an RSA key, or by one older than 1.27
_EXTENSIONS = ObjectIdentifier("1.2.840.113549.1.9.14")  # the attribute that contains the names in a request
SHOWN = 200
"""Characters of a stranger's text in a message."""


@dataclass(frozen=True)
class Asked:
    """A CertificateSigningRequest. The API server vouches for all fields but ``request``, which the sender wrote."""

    name: str
    uid: str
    version: str
    created: datetime
    signer: str
    user: str
    groups: tuple[str, ...]
    usages: frozenset[str]
    request: bytes
    answered: bool  # approved, denied or failed

    @classmethod
    def read(cls, item: Json) -> "Asked":
        """Read the object."""
        metadata, spec = item["metadata"], item["spec"]
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            version=metadata["resourceVersion"],
            created=datetime.fromisoformat(metadata["creationTimestamp"]),
            signer=spec["signerName"],
            user=spec.get("username", ""),
            groups=tuple(spec.get("groups") or ()),
            usages=frozenset(spec.get("usages") or ()),
            request=b64decode(spec["request"]),
            answered=bool((item.get("status") or {}).get("conditions")),
        )

    @property
    def subject(self) -> str:
        """Say whom the certificate would be for; quoted, because a stranger wrote it."""
        try:
            return shown(x509.load_pem_x509_csr(self.request).subject.rfc4514_string(), SHOWN)
        except Exception:  # a stranger's bytes may raise anything
            return "a subject that cannot be read"


def client_problem(asked: Asked, node: str) -> str | None:
    """Say why this is not the request by which this Node's kubelet becomes the Node; None if it is."""
    if asked.signer != CLIENT:
        return f"a bootstrap token gets no certificate of the signer {asked.signer}"
    return _problem(asked, node, own=None)


def serving_problem(asked: Asked, node: str, own: Collection[str]) -> str | None:
    """Say why this Node's kubelet did not ask for a certificate with ``own`` names only; None if it did."""
    if asked.user != names.node_user(node) or "system:nodes" not in asked.groups:
        return f"nobody but {names.node_user(node)} itself gets it"
    return _problem(asked, node, own=own)


def own_names(vm: VmView, project: str) -> set[str]:
    """List what a VM's Node may call itself: its name, Google's internal DNS names for it, and its addresses.

    All of them come from the cloud: the addresses in a Node's status are claimed by its kubelet.
    https://cloud.google.com/compute/docs/internal-dns
    """
    domain, _, name = project.rpartition(":")  # "example.com:training" becomes training.example.com in DNS
    inside = f"c.{name}.{domain}.internal" if domain else f"c.{name}.internal"
    addresses = {address for address in (vm.internal_ip, vm.external_ip) if address}
    return {vm.name, f"{vm.name}.{inside}", f"{vm.name}.{vm.zone}.{inside}", *addresses}


def _problem(asked: Asked, node: str, own: Collection[str] | None) -> str | None:
    """Say what is wrong; None if nothing is.

    Args:
        asked: the request.
        node: the Node that it has to be for.
        own: the names that it may contain, at least one of them; None if it must contain no names.
    """
    if asked.usages - {_OF_RSA} != USAGES[asked.signer]:
        return f"a kubelet does not ask for the usages {shown(', '.join(sorted(asked.usages)), SHOWN)}"
    try:
        return _content_problem(x509.load_pem_x509_csr(asked.request), asked, node, own)
    except Exception as error:  # a stranger's bytes may raise anything
        return f"it cannot be read ({shown(str(error), SHOWN)})"


def _content_problem(
    csr: x509.CertificateSigningRequest, asked: Asked, node: str, own: Collection[str] | None
) -> str | None:
    parts = sorted((part.oid.dotted_string, part.value) for rdn in csr.subject.rdns for part in rdn)
    wanted = [(NameOID.ORGANIZATION_NAME, "system:nodes"), (NameOID.COMMON_NAME, names.node_user(node))]
    if parts != sorted((oid.dotted_string, value) for oid, value in wanted):
        return f"this VM is the Node {node} and no other"
    if csr.public_bytes(Encoding.PEM).strip() != asked.request.strip():
        return "it is more than one plain PEM block"
    # Go reads every attribute with extensions, Python the first: there may be no second.
    if [attribute.oid for attribute in csr.attributes] != ([] if own is None else [_EXTENSIONS]):
        return "a client certificate has no names and addresses, a serving certificate has nothing else"
    return None if own is None else _foreign(csr.extensions, own)


def _foreign(extensions: x509.Extensions, own: Collection[str]) -> str | None:
    """Say what a request names beside ``own``; None if nothing."""
    if [type(each.value) for each in extensions] != [x509.SubjectAlternativeName]:
        return "a serving certificate has names and addresses, and nothing else"
    asked_for = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    known = [each for each in asked_for if isinstance(each, x509.DNSName | x509.IPAddress) and str(each.value) in own]
    if len(known) < len(asked_for) or not asked_for:
        foreign = [str(each.value) for each in asked_for if each not in known]
        named = shown(", ".join(foreign), SHOWN)
        return f"{named} is not among the VM's own names and addresses as its cloud reports them"
    return None

"""The keys and certificates of a cluster: what ``kubeadm init phase certs`` makes, under the same names.

All keys are ECDSA P-256: one takes well under a millisecond, while an RSA key takes most of a second.
Source: https://kubernetes.io/docs/setup/best-practices/certificates/
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandbox.kubeconfig import write_private

ADMINS = "system:masters"
"""The group of the cluster's administrator. The API server grants it everything before any RBAC object exists."""

SERVER_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    "10.96.0.1",  # the Service ``kubernetes``
    "10.128.0.1",  # how real machines reach it
)
"""The names and addresses by which clients reach the API server."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path

    @property
    def exists(self) -> bool:
        """True if both files exist."""
        return self.certificate.exists() and self.key.exists()


class Pki:
    """All pairs of one cluster, in one directory; those that exist already are kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ca = self._authority("ca", "kubernetes")
        self.front_proxy_ca = self._authority("front-proxy-ca", "front-proxy-ca")
        self.apiserver = self._issued("apiserver", self.ca, "kube-apiserver", names=SERVER_NAMES)
        self.kubelet_client = self._issued("apiserver-kubelet-client", self.ca, "kube-apiserver-kubelet-client", ADMINS)
        self.front_proxy_client = self._issued("front-proxy-client", self.front_proxy_ca, "front-proxy-client")
        self.admin = self._issued("admin", self.ca, "kubernetes-admin", ADMINS)
        self.controller_manager = self._issued("controller-manager", self.ca, "system:kube-controller-manager")
        self.scheduler = self._issued("scheduler", self.ca, "system:kube-scheduler")
        self.service_account_key, self.service_account_public_key = self._key_pair("sa")

    def _authority(self, file: str, common_name: str) -> Pair:
        pair = self._pair(file)
        if pair.exists:
            return pair
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(common_name)
        usage = x509.KeyUsage(
            digital_signature=True, key_encipherment=True, key_cert_sign=True, crl_sign=False, content_commitment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            _builder(name, name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return _write(pair, certificate, key)

    def _issued(
        self, file: str, authority: Pair, common_name: str, group: str | None = None, names: Sequence[str] = ()
    ) -> Pair:
        """Issue a pair signed by ``authority``: for a server if ``names`` are given, else for a client."""
        pair = self._pair(file)
        if pair.exists:
            return pair
        issuer = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
        issuer_key = serialization.load_pem_private_key(authority.key.read_bytes(), None)
        assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(_name(common_name, group), issuer.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_san, names))), critical=False)
        return _write(pair, builder.sign(issuer_key, hashes.SHA256()), key)

    def _key_pair(self, file: str) -> tuple[Path, Path]:
        private, public = self._directory / f"{file}.key", self._directory / f"{file}.pub"
        if not (private.exists() and public.exists()):
            key = ec.generate_private_key(ec.SECP256R1())
            write_private(private, _pem(key))
            public.write_bytes(
                key.public_key().public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                )
            )
        return private, public

    def _pair(self, file: str) -> Pair:
        return Pair(self._directory / f"{file}.crt", self._directory / f"{file}.key")


def public_key_pin(pem: bytes) -> str:
    """Hash a certificate's public key: ``sha256:…``, by which ``kubeadm join`` pins a cluster's CA."""
    public = x509.load_pem_x509_certificate(pem).public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def _name(common_name: str, group: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if group:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(attributes)


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=public_key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(minutes=5),
        not_valid_after=now + timedelta(days=365),
    )


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(pair: Pair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    write_private(pair.key, _pem(key))
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return pair


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()

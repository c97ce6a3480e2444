"""Token-based discovery: which cluster is this, and is it the one that the token and the CA's pin belong to?

Anybody can read the ConfigMap ``kube-public/cluster-info``. It is trusted if the bootstrap token has signed it (a
detached JWS over the kubeconfig in it) and the CA in it has a pinned public key. Protocol:
https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sandbox.kube_client import UNREACHABLE, ApiError, KubeClient
from sandbox.machines.light.kubeadm.config import JoinConfiguration
from sandbox.machines.light.kubeadm.host import KubeadmError

_CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"

_RETRY_SECONDS = 5.0
"""Emulated seconds between two reads of cluster-info."""

LEAST_SECONDS = 10.0
"""The API server is a real one: however fast the sandbox's clock is, it has this many real seconds to answer."""

_HEAD = "couldn't validate the identity of the API Server"
"""All errors of discovery begin with this."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that was identified. ``server`` is its URL, ``ca`` its CA certificate in PEM."""

    server: str
    ca: bytes

    def tls(self) -> ssl.SSLContext:
        """Trust this cluster alone."""
        return ssl.create_default_context(cadata=self.ca.decode())


async def discover(
    configuration: JoinConfiguration, scaled: Callable[[float], float], now: Callable[[], datetime]
) -> Cluster:
    """Find and identify the cluster; until the discovery timeout, one that does not answer or sign yet is asked again.

    Raises:
        KubeadmError: the token or the CA is wrong, or the time is over.
    """
    cluster = await _try_until(configuration, scaled, _without_verification())
    if configuration.ca_hashes:
        pins = {spki_hash(certificate) for certificate in x509.load_pem_x509_certificates(cluster.ca)}
        if pins.isdisjoint(configuration.ca_hashes):
            shown = ", ".join(f'"{pin}"' for pin in sorted(pins))
            raise KubeadmError(
                f"{_HEAD}: cluster CA found in cluster-info ConfigMap is invalid: none of the public keys {shown} "
                "are pinned"
            )
    # Once more, now that the server's CA is known: the same cluster must answer.
    if await _try_until(configuration, scaled, cluster.tls(), now) != cluster:
        raise KubeadmError(f"{_HEAD}: the second kubeconfig from the cluster-info ConfigMap has a different CA")
    return cluster


def spki_hash(certificate: x509.Certificate) -> str:
    """Hash a certificate's SubjectPublicKeyInfo: ``sha256:…``, as in ``caCertHashes``."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def patience(seconds: float, scaled: Callable[[float], float]) -> float:
    """Return how many real seconds to wait for the API server when kubeadm would wait ``seconds``."""
    return min(seconds, max(scaled(seconds), LEAST_SECONDS))


async def _try_until(
    configuration: JoinConfiguration,
    scaled: Callable[[float], float],
    tls: ssl.SSLContext,
    now: Callable[[], datetime] | None = None,
) -> Cluster:
    """Read cluster-info until it can be trusted. The CA has to be valid at the time ``now``; None checks nothing."""
    url = f"https://{configuration.endpoint}"
    deadline = time.monotonic() + patience(configuration.discovery_seconds, scaled)
    client = KubeClient(url, tls)
    try:
        while True:
            left = deadline - time.monotonic()
            try:
                answer = await client.call("GET", _CLUSTER_INFO, seconds=max(0.1, min(left, LEAST_SECONDS)))
                cluster = _believe(answer.get("data") or {}, configuration)
                if now:
                    _check_clock(cluster, now())
                return cluster
            except _NotYet as problem:
                last = str(problem)
            except ApiError as error:
                last = f"failed to request the cluster-info ConfigMap: {error}"
            except UNREACHABLE as error:
                what = str(error) or "context deadline exceeded"
                last = f'failed to request the cluster-info ConfigMap: Get "{url}{_CLUSTER_INFO}?timeout=10s": {what}'
            pause = scaled(_RETRY_SECONDS)
            if time.monotonic() + pause > deadline:
                raise KubeadmError(f"{_HEAD}: {last}")
            await asyncio.sleep(pause)
    finally:
        await client.close()


class _NotYet(Exception):
    """Something is missing that the next look may find."""


def _believe(data: dict[str, Any], configuration: JoinConfiguration) -> Cluster:
    """Return the cluster in cluster-info if the token's signature is right."""
    content = data.get("kubeconfig", "")
    signature = data.get(f"jws-kubeconfig-{configuration.token_id}")
    if not content:
        raise _NotYet("there is no kubeconfig key in the cluster-info ConfigMap")
    if not signature:
        raise _NotYet(
            f'could not find a JWS signature in the cluster-info ConfigMap for token ID "{configuration.token_id}"'
        )
    if not jws_holds(signature, content, configuration.token_id, configuration.token_secret):
        raise KubeadmError(
            f"{_HEAD}: failed to verify JWS signature of received cluster info object, can't trust this API Server"
        )
    try:
        cluster = yaml.safe_load(content)["clusters"][0]["cluster"]
        return Cluster(cluster["server"], base64.b64decode(cluster["certificate-authority-data"]))
    except (yaml.YAMLError, KeyError, IndexError, TypeError, ValueError) as error:
        raise KubeadmError(
            f"{_HEAD}: couldn't parse the kubeconfig file in the cluster-info ConfigMap: {error}"
        ) from error


def _check_clock(cluster: Cluster, now: datetime) -> None:
    """Check the CA by the machine's own clock, as TLS does there; Python's TLS knows only the host's clock."""
    begins = min(each.not_valid_before_utc for each in x509.load_pem_x509_certificates(cluster.ca))
    if now < begins:
        raise _NotYet(
            "failed to request the cluster-info ConfigMap: tls: failed to verify certificate: x509: certificate has "
            f"expired or is not yet valid: current time {now:%Y-%m-%dT%H:%M:%SZ} is before {begins:%Y-%m-%dT%H:%M:%SZ}"
        )


def jws_holds(detached: str, content: str, token_id: str, token_secret: str) -> bool:
    """True if ``detached`` (``header..signature``) is the token's HS256 signature over ``content``."""
    header, _, rest = detached.partition(".")
    empty, _, signature = rest.partition(".")
    try:
        claims = json.loads(_decode(header))
        given = _decode(signature)
    except ValueError:
        return False
    if empty or claims.get("alg") != "HS256" or claims.get("kid") != token_id:
        return False
    payload = base64.urlsafe_b64encode(content.encode()).rstrip(b"=")
    expected = hmac.digest(token_secret.encode(), header.encode() + b"." + payload, "sha256")
    return hmac.compare_digest(given, expected)


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _without_verification() -> ssl.SSLContext:
    """Make TLS for a server that cannot be verified yet: signature and pin prove what it says instead."""
    tls = ssl.create_default_context()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return tls

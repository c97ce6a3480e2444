"""Token-based discovery: who is the cluster, and is it the one that the token and the CA's pin speak of?

The ConfigMap `kube-public/cluster-info` is readable by anybody. It is believed when the bootstrap token has signed it
(a detached JWS over the kubeconfig in it) and the CA in it has a pinned public key.
Protocol: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
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

#: Emulated seconds between two looks at cluster-info.
_RETRY_SECONDS = 5.0

#: The API server is a real one: however fast the sandbox's clock, it gets this many real seconds to answer.
LEAST_SECONDS = 10.0

#: Errors of discovery are all reported under this head.
_HEAD = "couldn't validate the identity of the API Server"


@dataclass(frozen=True)
class Cluster:
    """A cluster that was identified. `server` is its URL, `ca` its CA certificate in PEM."""

    server: str
    ca: bytes

    def tls(self) -> ssl.SSLContext:
        """Trust for this cluster alone."""
        return ssl.create_default_context(cadata=self.ca.decode())


async def discover(
    configuration: JoinConfiguration, scaled: Callable[[float], float], now: Callable[[], datetime]
) -> Cluster:
    """Find and identify the cluster, trying until the discovery timeout for one that does not answer or sign yet.

    Raises:
        KubeadmError: for a wrong token or CA, or when the time is over.
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
    # Once more, now that the server can be held against its CA: it must be the same cluster that answers.
    if await _try_until(configuration, scaled, cluster.tls(), now) != cluster:
        raise KubeadmError(f"{_HEAD}: the second kubeconfig from the cluster-info ConfigMap has a different CA")
    return cluster


def spki_hash(certificate: x509.Certificate) -> str:
    """`sha256:` over the certificate's SubjectPublicKeyInfo: what `caCertHashes` holds."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def patience(seconds: float, scaled: Callable[[float], float]) -> float:
    """How many real seconds to wait for the API server where kubeadm would wait `seconds`."""
    return min(seconds, max(scaled(seconds), LEAST_SECONDS))


async def _try_until(
    configuration: JoinConfiguration,
    scaled: Callable[[float], float],
    tls: ssl.SSLContext,
    now: Callable[[], datetime] | None = None,
) -> Cluster:
    """By `now` the CA has to be valid; None where nothing is verified."""
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
    """Something that the next look may find."""


def _believe(data: dict[str, Any], configuration: JoinConfiguration) -> Cluster:
    """The cluster in cluster-info, once the token's signature over it holds."""
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
    """What TLS does by the machine's own clock, which Python's cannot be told."""
    begins = min(each.not_valid_before_utc for each in x509.load_pem_x509_certificates(cluster.ca))
    if now < begins:
        raise _NotYet(
            "failed to request the cluster-info ConfigMap: tls: failed to verify certificate: x509: certificate has "
            f"expired or is not yet valid: current time {now:%Y-%m-%dT%H:%M:%SZ} is before {begins:%Y-%m-%dT%H:%M:%SZ}"
        )


def jws_holds(detached: str, content: str, token_id: str, token_secret: str) -> bool:
    """Whether `detached` (`header..signature`) is the token's HS256 signature over `content`."""
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
    """TLS to a server that cannot be verified yet: what it says is checked by signature and pin instead."""
    tls = ssl.create_default_context()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return tls

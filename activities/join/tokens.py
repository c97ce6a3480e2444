"""Bootstrap tokens, and what else a machine needs to find and trust the cluster.

A token is a Secret in kube-system, so no kubeadm binary is needed to make one.
https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
"""

import base64
import hashlib
import re
import secrets
import string
from datetime import UTC, datetime, timedelta

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from temporalio.exceptions import ApplicationError

from activities.join.kubeadm import NO_HASH, Discovery, is_ca_cert_hash
from activities.kubernetes.secret import read_secret
from activities.signatures import StartJoin
from api import errors, names
from api.spot_instance_vm import KubeadmJoinConfig
from clients.kube import Json, Kube, KubeError, UnsafeNameError, path

_TOKEN_ID = re.compile("[a-z0-9]{6}")
_ALPHABET = string.ascii_lowercase + string.digits
_SECRETS = path("v1", "secrets", "kube-system")


class Tokens:
    """Makes, finds and revokes bootstrap tokens, one for each VM."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def discovery(self, join: StartJoin) -> Discovery:
        """Find token, CA hash and endpoint: those in the user's Secret, else a new token and the cluster's own.

        Raises:
            ApplicationError: MISSING if neither the user nor the cluster says how to join, INVALID if what the user
                says cannot be right; the message names the remedy.
        """
        asked = join.spec.kubeadm_join_config or KubeadmJoinConfig()
        given = await self._given(asked, join.namespace)
        ca_cert_hash = asked.ca_cert_hash or given.get("ca-cert-hash")
        endpoint = asked.control_plane_endpoint or given.get("control-plane-endpoint")
        if not ca_cert_hash or not endpoint:
            server, ca = await cluster_info(self._kube)
            ca_cert_hash, endpoint = ca_cert_hash or public_key_hash(ca), endpoint or server
        ca_cert_hash = ca_cert_hash.strip()
        if not is_ca_cert_hash(ca_cert_hash):
            field = "kubeadmJoinConfig.caCertHash" if asked.ca_cert_hash else "the join Secret's key ca-cert-hash"
            raise ApplicationError(f"{field} {NO_HASH}", type=errors.INVALID, non_retryable=True)
        endpoint = endpoint.strip().removeprefix("https://").rstrip("/")
        if token := given.get("token"):
            return Discovery(endpoint, token.strip(), ca_cert_hash)
        token_id, token = await self._mint(join)
        return Discovery(endpoint, token, ca_cert_hash, token_id)

    async def _given(self, asked: KubeadmJoinConfig, namespace: str) -> dict[str, str]:
        """Read the user's Secret; one that the spec names must exist."""
        if asked.token_secret_ref is not None:
            return await read_secret(self._kube, namespace, asked.token_secret_ref.name)
        if await self._kube.find(path("v1", "secrets", namespace, names.JOIN_SECRET)) is None:
            return {}
        return await read_secret(self._kube, namespace, names.JOIN_SECRET)

    async def _mint(self, join: StartJoin) -> tuple[str, str]:
        """Make a token and return (id, token). A second call finds the first one's token and renews its lifetime."""
        token_id = token_id_of(join.vm.name)
        expiration = (datetime.now(UTC) + timedelta(seconds=join.token_lifetime)).strftime("%Y-%m-%dT%H:%M:%SZ")
        fresh = token_secret(join, token_id, expiration)
        try:
            return token_id, _token_in(await self._kube.create(_SECRETS, fresh))
        except KubeError as error:
            if error.status != 409:
                raise
        where = _token_path(token_id)
        found = await self._kube.get(where)
        if not _is_ours(found):
            raise ApplicationError(
                f"Secret kube-system/bootstrap-token-{token_id} is not ours", type=errors.CONFLICT, non_retryable=True
            )
        await self._kube.patch(where, {"stringData": {"expiration": expiration}})
        return token_id, _token_in(found)

    async def read(self, token_id: str) -> Json | None:
        """Read the Secret of a token of ours; None if there is none."""
        found = await self._kube.find(_token_path(token_id))
        return found if found is not None and _is_ours(found) else None

    async def spend(self, token: Json, request: str) -> bool:
        """Note on the token, in the version that was read, the UID of the one request that is approved for it.

        Returns:
            False if the token was changed or revoked since; then read it again.
        """
        note = {"metadata": {"annotations": {names.ANNOTATION_CERTIFICATE: request}}}
        return await self._kube.rewrite(path("v1", "secrets", "kube-system", token["metadata"]["name"]), token, note)

    async def revoke(self, token_id: str) -> None:
        """Delete a token if it is ours."""
        found = await self.read(token_id)
        if found is not None:
            await self.delete(found)

    async def delete(self, token: Json) -> None:
        """Delete a token that was read; one made since under its name stays."""
        metadata = token["metadata"]
        try:
            await self._kube.delete(path("v1", "secrets", "kube-system", metadata["name"]), uid=metadata["uid"])
        except KubeError as error:
            if error.status != 409:
                raise


async def cluster_info(kube: Kube) -> tuple[str, str]:
    """Read (server, CA in PEM), which the cluster publishes to anybody who wants to join.

    Raises:
        ApplicationError: MISSING if it publishes nothing.
    """
    found = await kube.find(path("v1", "configmaps", "kube-public", "cluster-info"))
    try:
        cluster = yaml.safe_load((found or {})["data"]["kubeconfig"])["clusters"][0]["cluster"]
        return cluster["server"], base64.b64decode(cluster["certificate-authority-data"]).decode()
    except (KeyError, IndexError, TypeError, ValueError):
        raise ApplicationError(
            "this cluster has no usable ConfigMap kube-public/cluster-info, so it was not made by kubeadm: put "
            f"token, ca-cert-hash and control-plane-endpoint into a Secret {names.JOIN_SECRET} in the namespace of "
            "the SpotInstanceVM",
            type=errors.MISSING,
            non_retryable=True,
        ) from None


def _token_path(token_id: str) -> str:
    if not _TOKEN_ID.fullmatch(token_id):
        raise UnsafeNameError(token_id, "is not the id of a bootstrap token")
    return path("v1", "secrets", "kube-system", f"bootstrap-token-{token_id}")


def token_id_of(vm_name: str) -> str:
    """Derive the public half of a VM's token from its name: 6 characters of [a-z0-9]."""
    number = int.from_bytes(hashlib.sha256(vm_name.encode()).digest()[:8])
    return "".join(_ALPHABET[number // len(_ALPHABET) ** place % len(_ALPHABET)] for place in range(6))


def token_secret(join: StartJoin, token_id: str, expiration: str) -> Json:
    """Build the Secret that is a bootstrap token; its secret half is random and stored nowhere else."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": {
            "name": f"bootstrap-token-{token_id}",
            "labels": {names.LABEL_JOB: join.job_id, names.LABEL_MANAGED_BY: names.MANAGED_BY},
        },
        "stringData": {
            "description": f"for {join.vm.name} to join once",
            "token-id": token_id,
            "token-secret": "".join(secrets.choice(_ALPHABET) for _ in range(16)),
            "expiration": expiration,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": names.BOOTSTRAP_GROUP,
        },
    }


def public_key_hash(ca_pem: str) -> str:
    """Hash the CA's SubjectPublicKeyInfo in DER, as in kubeadm's ``--discovery-token-ca-cert-hash``: ``sha256:…``."""
    public_key = x509.load_pem_x509_certificate(ca_pem.encode()).public_key()
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def _token_in(secret: Json) -> str:
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    return f"{data['token-id']}.{data['token-secret']}"


def _is_ours(secret: Json) -> bool:
    return (secret["metadata"].get("labels") or {}).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY

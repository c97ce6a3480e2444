"""What keeps a VM from joining a cluster by a bootstrap token.

It is found out as the VM's ``kubeadm join`` will find it out: first anonymously, then by a token.

Protocol: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/ and
https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml

from sandbox.kube_client import UNREACHABLE, ApiError, KubeClient

Json = dict[str, Any]

SIGNING_SECONDS = 10.0
"""How long a controller may take to sign cluster-info for a new token, in seconds."""

_CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
_CONFIG_MAPS = "/api/v1/namespaces/kube-system/configmaps"
_SSAR = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_REQUESTS = {"group": "certificates.k8s.io", "resource": "certificatesigningrequests"}

_RIGHTS: dict[str, Json] = {
    "ask for a node's certificate": {"verb": "create", **_REQUESTS},
    "have their node's certificate approved": {"verb": "create", "subresource": "nodeclient", **_REQUESTS},
    "see whether a Node of their name exists": {"verb": "get", "resource": "nodes"},
}
"""What the token of a joining node must be allowed, as attributes of an access review."""


async def obstacles(url: str, ca_file: Path, token: str, kubeconfig: Path) -> list[str]:
    """Return what keeps VMs from joining, one line each, with the remedy.

    Args:
        url: the URL of the API server.
        ca_file: the cluster's CA.
        token: a bootstrap token.
        kubeconfig: the administrator's, for the commands in the remedies.
    """
    tls = ssl.create_default_context(cafile=str(ca_file))
    anonymous, joining = KubeClient(url, tls), KubeClient(url, tls, token)
    try:
        return [
            *[line async for line in _of_discovery(anonymous, token.partition(".")[0], kubeconfig)],
            *[line async for line in _of_rights(joining, kubeconfig)],
        ]
    finally:
        await anonymous.close()
        await joining.close()


async def _of_discovery(anonymous: KubeClient, token_id: str, kubeconfig: Path) -> AsyncIterator[str]:
    remedy = _remedy("bootstrap-token", kubeconfig)
    try:
        signed = await _cluster_info(anonymous, f"jws-kubeconfig-{token_id}")
    except ApiError as error:
        yield f"not everybody can read the ConfigMap kube-public/cluster-info ({error}): {remedy}"
        return
    except TimeoutError:
        yield (
            "nobody signs kube-public/cluster-info: run the controller-manager with "
            "--controllers=*,bootstrap-signer-controller,token-cleaner-controller"
        )
        return
    try:
        server = str(yaml.safe_load(signed["kubeconfig"])["clusters"][0]["cluster"]["server"])
    except (yaml.YAMLError, LookupError, TypeError) as error:
        yield f"the kubeconfig in kube-public/cluster-info is malformed ({error!r}): delete the ConfigMap; {remedy}"
        return
    named = KubeClient(server, anonymous.tls)
    try:
        await named.get(_CLUSTER_INFO)
    except (ApiError, *UNREACHABLE) as error:
        yield (
            f"kube-public/cluster-info sends nodes to {server}, which does not answer here ({error!r}): "
            "make that name lead to the API server, for example in /etc/hosts"
        )
    finally:
        await named.close()


async def _cluster_info(anonymous: KubeClient, signature: str) -> dict[str, str]:
    """Return the data of cluster-info once it has that signature.

    Raises:
        ApiError: it cannot be read.
        TimeoutError: nobody signs it.
    """
    async with asyncio.timeout(SIGNING_SECONDS):
        while True:
            data: dict[str, str] = (await anonymous.get(_CLUSTER_INFO)).get("data") or {}
            if signature in data:
                return data
            await asyncio.sleep(0.2)


async def _of_rights(joining: KubeClient, kubeconfig: Path) -> AsyncIterator[str]:
    for what, attributes in _RIGHTS.items():
        try:
            review = await joining.create(_SSAR, {"spec": {"resourceAttributes": attributes}})
        except ApiError as error:
            if error.status != 401:
                raise
            yield "it accepts no bootstrap tokens: run its API server with --enable-bootstrap-token-auth=true"
            return
        if not review["status"]["allowed"]:
            yield f"bootstrap tokens may not {what}: {_remedy('bootstrap-token', kubeconfig)}"
    for name in ("kubeadm-config", "kubelet-config"):
        try:
            await joining.get(f"{_CONFIG_MAPS}/{name}")
        except ApiError as error:
            remedy = _remedy("upload-config all", kubeconfig)
            yield f"joining nodes cannot read the ConfigMap kube-system/{name} ({error}): {remedy}"


def _remedy(phase: str, kubeconfig: Path) -> str:
    return f"kubeadm init phase {phase} --kubeconfig {kubeconfig}"

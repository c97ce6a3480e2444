"""Can a VM join this cluster by a bootstrap token? Asked as the VM's `kubeadm join` will: anonymously, then by a token.

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

#: A controller signs cluster-info for a new token; seconds that it gets.
SIGNING_SECONDS = 10.0

_CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
_CONFIG_MAPS = "/api/v1/namespaces/kube-system/configmaps"
_SSAR = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_REQUESTS = {"group": "certificates.k8s.io", "resource": "certificatesigningrequests"}

#: What the token of a joining node must be allowed, as attributes of an access review.
_RIGHTS: dict[str, Json] = {
    "ask for a node's certificate": {"verb": "create", **_REQUESTS},
    "have their node's certificate approved": {"verb": "create", "subresource": "nodeclient", **_REQUESTS},
    "see whether a Node of their name exists": {"verb": "get", "resource": "nodes"},
}


async def obstacles(url: str, ca_file: Path, token: str, kubeconfig: Path) -> list[str]:
    """What keeps VMs from joining, each in a line with its remedy; `kubeconfig` is an administrator's, for commands."""
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
        yield f"the ConfigMap kube-public/cluster-info is not there for anybody to read ({error}): {remedy}"
        return
    except TimeoutError:
        yield (
            "nobody signs kube-public/cluster-info: run its controller-manager with "
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
            "let that name lead to the API server, in /etc/hosts for one"
        )
    finally:
        await named.close()


async def _cluster_info(anonymous: KubeClient, signature: str) -> dict[str, str]:
    """Its data once it carries that signature. Raises ApiError where it cannot be read, TimeoutError where unsigned."""
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
            yield f"the ConfigMap kube-system/{name} is not there for joining nodes ({error}): {remedy}"


def _remedy(phase: str, kubeconfig: Path) -> str:
    return f"kubeadm init phase {phase} --kubeconfig {kubeconfig}"

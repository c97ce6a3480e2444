"""A pod's own identity for a container that runs as a real process: a bound token, and a kubeconfig with it."""

from __future__ import annotations

from pathlib import Path

import yaml

from sandbox.kubeconfig import write_private
from sandbox.machines.light.kubelet.runtime import PodContext

TOKEN_SECONDS = 24 * 3600
"""The lifetime of tokens: longer than that of any sandbox, so that they need no renewal."""


async def write_kubeconfig(context: PodContext) -> Path:
    """Request a token of the pod's ServiceAccount, as the node, and write the kubeconfig.

    Raises:
        ApiError: the API server refuses the request.
    """
    node, metadata = context.node, context.pod["metadata"]
    account = context.pod["spec"].get("serviceAccountName", "default")
    answer = await node.client.create(
        f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token",
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "expirationSeconds": TOKEN_SECONDS,
                # NodeRestriction gives a node only tokens that are bound to a pod of its own.
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            },
        },
    )
    directory = context.directory / "service-account"
    token_file = write_private(directory / "token", answer["status"]["token"])
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "sandbox",
                "cluster": {"server": node.client.server, "certificate-authority": str(node.ca_file.resolve())},
            }
        ],
        "users": [{"name": account, "user": {"tokenFile": str(token_file)}}],
        "contexts": [
            {
                "name": "sandbox",
                "context": {"cluster": "sandbox", "user": account, "namespace": metadata["namespace"]},
            }
        ],
        "current-context": "sandbox",
    }
    return write_private(directory / "kubeconfig", yaml.safe_dump(config, sort_keys=False))

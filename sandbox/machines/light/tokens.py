"""A bootstrap token that expires, by the hand of the administrator."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sandbox.kube_client import KubeClient

_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
_LONG_AGO = "2020-01-01T00:00:00Z"
_SECONDS = 10.0


async def expire(kubeconfig: Path, token: str) -> None:
    """Let this token have expired; returns once the API server refuses it.

    Raises:
        ApiError: where there is no such token.
        TimeoutError: where the API server goes on to believe it.
    """
    secret = f"/api/v1/namespaces/kube-system/secrets/bootstrap-token-{token.partition('.')[0]}"
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    admin = KubeClient.from_kubeconfig(kubeconfig)
    try:
        async with asyncio.timeout(_SECONDS):
            await admin.patch(secret, {"stringData": {"expiration": _LONG_AGO}})
            while (await admin.create(_REVIEWS, review))["status"].get("authenticated"):  # noqa: ASYNC110 - no watch
                await asyncio.sleep(0.05)
    finally:
        await admin.close()

"""Image pulls of a light node from a registry that requires credentials."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from aiohttp import web

from sandbox.kube_client import KubeClient
from tests.sandbox.light_nodes import Nodes, eventually, start_training, training_pod

Json = dict[str, Any]
MANIFEST = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []}


@pytest_asyncio.fixture
async def private_registry() -> AsyncIterator[str]:
    """Start a registry that admits only ``user`` with ``secret``; yields its host:port."""
    expected = "Basic " + base64.b64encode(b"user:secret").decode()

    async def manifest(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != expected:
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic"}, text="unauthorized")
        return web.json_response(MANIFEST)

    app = web.Application()
    app.router.add_get("/v2/{name:.+}/manifests/{reference}", manifest)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    yield f"127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    await runner.cleanup()


async def test_without_a_pull_secret_the_pull_fails(
    admin: KubeClient, namespace: str, nodes: Nodes, private_registry: str
) -> None:
    node = await nodes.start()
    pod = training_pod("stranger", node, image=f"{private_registry}/private/train:1")
    await admin.create(f"/api/v1/namespaces/{namespace}/pods", pod)

    async def refused() -> Json | None:
        status = (await admin.get(f"/api/v1/namespaces/{namespace}/pods/stranger"))["status"]
        waiting = [entry["state"].get("waiting", {}) for entry in status.get("containerStatuses", ())]
        return next((entry for entry in waiting if entry.get("reason") == "ErrImagePull"), None)

    assert "401" in (await eventually("ErrImagePull", refused, pause=0.02))["message"]


async def test_a_pull_secret_opens_the_registry(
    admin: KubeClient, namespace: str, nodes: Nodes, private_registry: str
) -> None:
    node = await nodes.start()
    auth = base64.b64encode(b"user:secret").decode()
    config = base64.b64encode(json.dumps({"auths": {private_registry: {"auth": auth}}}).encode()).decode()
    secret = {
        "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": config},
    }
    await admin.create(f"/api/v1/namespaces/{namespace}/secrets", secret)
    await start_training(
        admin,
        namespace,
        "friend",
        node,
        image=f"{private_registry}/private/train:1",
        imagePullSecrets=[{"name": "pull"}],
    )

"""The API server's flow control: what answers a notice has room of its own, which nothing else of Outlast uses."""

import ssl
from typing import Any

import aiohttp
import pytest

SCHEMA = "outlast-notices"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/outlast-system/leases"
BACKUPS = "/apis/migration.dcnlab.com/v1/namespaces/default/checkpointbackups"


async def schema_of(control_plane: Any, account: str, method: str, path: str) -> str:
    """Make a call as one of Outlast's parts, and return the FlowSchema that the API server chose for it."""
    token = await control_plane.kubectl("create", "token", f"outlast-{account}", "-n", "outlast-system")
    tls = ssl.create_default_context(cafile=str(control_plane.ca_file))
    headers = {"Authorization": f"Bearer {token.strip()}", "Content-Type": "application/merge-patch+json"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(ssl=tls)) as session:
        answer = await session.request(method, control_plane.url + path, data="{}" if method != "GET" else None)
        uid = answer.headers["X-Kubernetes-PF-FlowSchema-UID"]
    listed = await control_plane.kubectl(
        "get", "flowschemas", "-o", r'jsonpath={range .items[*]}{.metadata.uid} {.metadata.name}{"\n"}{end}'
    )
    return str(dict(line.split() for line in listed.splitlines())[uid])


@pytest.mark.parametrize(
    ("account", "method", "path"),
    [
        ("agent", "PATCH", "/api/v1/nodes/node-of-nobody"),
        ("bridge", "GET", "/api/v1/nodes?limit=1"),
        ("bridge", "GET", "/api/v1/pods?limit=1"),
        ("bridge", "PATCH", f"{LEASES}/outlast-bridge"),
        ("worker", "POST", BACKUPS),
    ],
)
async def test_what_answers_a_notice_has_room_of_its_own(
    control_plane: Any, installed: None, account: str, method: str, path: str
) -> None:
    assert await schema_of(control_plane, account, method, path) == SCHEMA


@pytest.mark.parametrize(
    ("account", "method", "path"),
    [
        ("bridge", "GET", "/apis/batch/v1/jobs?limit=1"),
        ("worker", "GET", "/api/v1/nodes?limit=1"),
        ("worker", "GET", BACKUPS),
        ("worker", "PATCH", "/api/v1/nodes/node-of-nobody"),
    ],
)
async def test_what_can_wait_is_served_as_others_are(
    control_plane: Any, installed: None, account: str, method: str, path: str
) -> None:
    assert await schema_of(control_plane, account, method, path) == "service-accounts"


async def test_its_level_is_served(control_plane: Any, installed: None) -> None:
    dangling = await control_plane.kubectl(
        "get", "flowschema", SCHEMA, "-o", "jsonpath={.status.conditions[?(@.type=='Dangling')].status}"
    )
    assert dangling == "False"

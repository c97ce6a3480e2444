"""The kubelet's HTTPS server: logs, pods, health and checkpoints, for those whom the cluster admits.

Authentication and authorization are the kubelet's: a client certificate of the cluster's CA or a token that the API
server knows, then a SubjectAccessReview on the ``nodes`` subresource of the path.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox.kube_client import ApiError
from sandbox.machines.light.kubelet.logs import LogOptions, read_log
from sandbox.machines.light.kubelet.node import PORT
from sandbox.machines.light.kubelet.pods import PodManager
from sandbox.machines.light.kubelet.process import CheckpointError, Json
from sandbox.machines.light.kubelet.runtime import Node

SUBRESOURCES = {"checkpoint": "checkpoint", "pods": "pods", "healthz": "healthz"}
"""Subresources of ``nodes`` that are checked, by the path's first part; for all other paths it is ``nodes/proxy``."""

REMEMBERED_SECONDS = {"TokenReview": 120.0, "SubjectAccessReview": 300.0}
"""Real seconds for which a yes is remembered, as by a kubelet's own defaults."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class KubeletServer:
    """Serves one node's kubelet API on its address."""

    def __init__(self, node: Node, pods: PodManager) -> None:
        self._node = node
        self._pods = pods
        # By question: until when the answer is valid, and what it says.
        self._approved: dict[str, tuple[float, Json]] = {}
        app = web.Application(middlewares=[self._admit])
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/pods", self._list_pods),
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._container_logs),
                web.post("/checkpoint/{namespace}/{pod}/{container}", self._checkpoint),
            ]
        )
        # A dead machine does not finish its answers.
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None, handler_cancellation=True)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken.
        """
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*_self_signed(self._node.root / "var/lib/kubelet/pki", self._node))
        tls.load_verify_locations(self._node.ca_file)
        tls.verify_mode = ssl.CERT_OPTIONAL
        await self._runner.setup()
        await web.TCPSite(self._runner, self._node.address, PORT, ssl_context=tls).start()

    async def stop(self) -> None:
        """Close the port and every connection."""
        await self._runner.cleanup()

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        user = await self._user(request)
        if user is None:
            return web.Response(status=401, text="Unauthorized")
        verb = "create" if request.method == "POST" else "get"
        subresource = SUBRESOURCES.get(request.path.split("/")[1], "proxy")
        if not await self._allowed(user, verb, subresource):
            what = f"user={user['user']}, verb={verb}, resource=nodes, subresource={subresource}"
            return web.Response(status=403, text=f"Forbidden ({what})")
        return await handler(request)

    async def _user(self, request: web.Request) -> Json | None:
        """Return who asks, as ``user`` and ``groups``; None if that is unknown."""
        assert request.transport is not None
        if certificate := request.transport.get_extra_info("peercert"):
            names = [pair for part in certificate["subject"] for pair in part]
            common = next(value for key, value in names if key == "commonName")
            groups = [value for key, value in names if key == "organizationName"]
            return {"user": common, "groups": [*groups, "system:authenticated"]}
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return None
        review = await self._review("authentication.k8s.io/v1", "TokenReview", {"token": token})
        if not review.get("authenticated"):
            return None
        return {"user": review["user"]["username"], "groups": review["user"].get("groups", [])}

    async def _allowed(self, user: Json, verb: str, subresource: str) -> bool:
        """True if the API server allows it; ``nodes/proxy`` includes the finer subresources, but not ``checkpoint``."""
        for name in dict.fromkeys((subresource, "proxy")):
            if name == "proxy" and subresource == "checkpoint":
                break
            what = {"verb": verb, "resource": "nodes", "subresource": name, "name": self._node.name}
            spec = {**user, "resourceAttributes": what}
            if (await self._review("authorization.k8s.io/v1", "SubjectAccessReview", spec)).get("allowed"):
                return True
        return False

    async def _review(self, group: str, kind: str, spec: Json) -> Json:
        body = {"apiVersion": group, "kind": kind, "spec": spec}
        question = json.dumps(body, sort_keys=True)
        until, approved = self._approved.get(question, (0.0, {}))
        if time.monotonic() < until:
            return approved
        try:
            answer = await self._node.client.create(f"/apis/{group}/{kind.lower()}s", body)
        except ApiError as error:
            raise web.HTTPInternalServerError(text=str(error)) from error
        status: Json = answer["status"]
        if status.get("authenticated") or status.get("allowed"):
            self._approved[question] = (time.monotonic() + REMEMBERED_SECONDS[kind], status)
        return status

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _list_pods(self, _: web.Request) -> web.Response:
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._pods.pods})

    async def _container_logs(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info
        worker = self._pods.find(path["namespace"], path["pod"])
        container = worker and worker.container(path["container"])
        if not worker or not container:
            raise web.HTTPNotFound(text=f'container "{path["container"]}" of pod "{path["pod"]}" not found')
        try:
            options = LogOptions.from_query(dict(request.query))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        run = container.restarts - (request.query.get("previous") == "true")
        file = worker.context.log_path(container.name, run)
        if not file.exists():
            raise web.HTTPBadRequest(text=f'container "{container.name}" in pod "{path["pod"]}" has no such log')
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        async with aclosing(read_log(file, options, lambda: not container.running)) as lines:
            async for line in lines:
                await response.write(line)
        return response

    async def _checkpoint(self, request: web.Request) -> web.Response:
        """Checkpoint a container, as the kubelet's POST /checkpoint does.

        https://kubernetes.io/docs/reference/node/kubelet-checkpoint-api/
        """
        namespace, pod, name = (request.match_info[key] for key in ("namespace", "pod", "container"))
        worker = self._pods.find(namespace, pod)
        if worker is None:
            raise web.HTTPNotFound(text="pod does not exist")
        container = worker.container(name)
        if container is None:
            raise web.HTTPNotFound(text=f"container {name} does not exist")
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        file = f"checkpoint-{pod}_{namespace}-{name}-{stamp}.tar"
        path = self._node.root.resolve() / "var/lib/kubelet/checkpoints" / file
        timeout = float(request.query.get("timeout", 0)) or None
        try:
            await container.checkpoint(path, timeout)
        except CheckpointError as error:
            text = f"checkpointing of {namespace}/{pod}/{name} failed ({error})"
            raise web.HTTPInternalServerError(text=text) from error
        return web.json_response({"items": [str(path)]})


def _self_signed(directory: Path, node: Node) -> tuple[Path, Path]:
    """Make the serving certificate that a kubelet makes for itself if none is issued to it."""
    directory.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node.name)])
    start = datetime.now(UTC) - timedelta(hours=1)
    names = [x509.DNSName(node.name), x509.IPAddress(ip_address(node.address))]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "kubelet.crt", directory / "kubelet.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.touch(mode=0o600)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file

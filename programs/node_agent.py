"""``python -m programs.node_agent``: on a spot node, turn GCE's preemption notice into a taint on its own Node.

GCE gives a notice only on the machine itself: ``instance/preempted`` of its metadata server becomes TRUE
(https://cloud.google.com/compute/docs/instances/create-use-spot). Seconds count then. So the wait is a long poll, the
connection to the API server is kept warm, and the taint takes a single request: a JSON patch that fails if the taints
are not those last read. Imports are few, because this runs on every spot node.

Environment: ``NODE_NAME`` (this Node), ``GCE_METADATA_HOST`` (metadata.google.internal), and the pod's service account
or ``KUBECONFIG``.
"""

import asyncio
import base64
import logging
import os
import random
import signal
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

from api import log_context, names
from programs import frame

log = logging.getLogger("notice_agent")

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
POLL_SECONDS = 60  # how long the metadata server may delay its answer
WARM_SECONDS = 20.0  # between two reads of the Node: servers and middleboxes drop connections that idle for minutes
CALL_SECONDS = 5.0
FIRST_RETRY, LAST_RETRY = 0.1, 2.0


class CannotRun(Exception):
    """Something is missing that does not come by waiting; the message says what."""


@dataclass(frozen=True)
class ApiServer:
    """How to reach the API server. The token is read at each call, because the kubelet renews it."""

    url: str
    tls: ssl.SSLContext
    token: Callable[[], str | None]


class Agent:
    """Waits for one machine's notice and taints its Node."""

    def __init__(self, node: str, metadata_host: str, server: ApiServer) -> None:
        self._node = node
        self._notice_url = f"http://{metadata_host}/computeMetadata/v1/instance/preempted"
        self._node_url = f"{server.url}/api/v1/nodes/{node}"
        self._server = server
        self._taints: list[dict[str, Any]] | None = None  # as last read; None before
        self._preempted_at: datetime | None = None

    async def run(self) -> None:
        """Run until cancelled."""
        # Longer than the pause between two reads: otherwise each read, and the taint, would begin with a handshake.
        connector = aiohttp.TCPConnector(ssl=self._server.tls, keepalive_timeout=3 * WARM_SECONDS)
        async with aiohttp.ClientSession() as metadata, aiohttp.ClientSession(connector=connector) as cluster:
            looking = asyncio.create_task(self._keep_warm(cluster))
            try:
                await self._listen(metadata, cluster)
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

    async def _listen(self, metadata: aiohttp.ClientSession, cluster: aiohttp.ClientSession) -> None:
        etag, failures = "0", 0  # no value has this one, so the first answer comes at once
        while True:
            try:
                preempted, etag = await self._ask(metadata, etag)
                failures = 0
            except (aiohttp.ClientError, TimeoutError) as error:
                failures += 1
                await _rest("the metadata server", error, failures)
                continue
            if preempted and self._preempted_at is None:
                self._preempted_at = datetime.now(UTC)
                log.warning("%s is being preempted", self._node)
                await self._mark(cluster)

    async def _ask(self, session: aiohttp.ClientSession, etag: str) -> tuple[bool, str]:
        """Ask whether this machine is being preempted; the answer comes once it changes or the poll ends."""
        query = {"wait_for_change": "true", "timeout_sec": str(POLL_SECONDS), "last_etag": etag}
        timeout = aiohttp.ClientTimeout(total=POLL_SECONDS + CALL_SECONDS, sock_connect=CALL_SECONDS)
        async with session.get(
            self._notice_url,
            params=query,
            headers={"Metadata-Flavor": "Google"},
            timeout=timeout,
            raise_for_status=True,
        ) as answer:
            text = await answer.text()
            return text.strip().upper() == "TRUE", answer.headers.get("ETag", "0")

    async def _keep_warm(self, session: aiohttp.ClientSession) -> None:
        """Read the Node repeatedly, so that the connection is open and the taints are known when a notice comes."""
        failures = 0
        while True:
            try:
                await self._look(session)
                failures = 0
            except (aiohttp.ClientError, TimeoutError) as error:
                failures += 1
                await _rest("the API server", error, failures)
                continue
            if self._preempted_at is not None and not self._marked:
                await self._mark(session)  # somebody removed it
            await asyncio.sleep(WARM_SECONDS)

    @property
    def _marked(self) -> bool:
        return any(taint["key"] == names.TAINT_PREEMPTED for taint in self._taints or [])

    async def _mark(self, session: aiohttp.ClientSession) -> None:
        """Set the taint; retry until it is there."""
        began, failures = monotonic(), 0
        while True:
            try:
                if self._taints is None:
                    await self._look(session)
                if not self._marked:
                    await self._patch(session)
                log.info("%s is marked, %.0f ms after the notice", self._node, 1000 * (monotonic() - began))
                return
            except (aiohttp.ClientError, TimeoutError) as error:
                self._taints = None  # they may have changed: read them first
                failures += 1
                if failures > 1:
                    await _rest("the API server", error, failures)

    async def _look(self, session: aiohttp.ClientSession) -> None:
        node = await self._call(session, "GET")
        self._taints = node["spec"].get("taints") or []

    async def _patch(self, session: aiohttp.ClientSession) -> None:
        assert self._preempted_at is not None
        value = self._preempted_at.strftime(names.MARK_TIME)
        taint = {"key": names.TAINT_PREEMPTED, "value": value, "effect": "NoSchedule"}
        before = self._taints or None
        patch = [
            {"op": "test", "path": "/spec/taints", "value": before},
            {"op": "add", "path": "/spec/taints", "value": [*(before or []), taint]},
        ]
        node = await self._call(session, "PATCH", patch)
        self._taints = node["spec"].get("taints") or []

    async def _call(self, session: aiohttp.ClientSession, method: str, patch: object = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json-patch+json"} if patch else {}
        if token := self._server.token():
            headers["Authorization"] = f"Bearer {token}"
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
        async with session.request(
            method, self._node_url, json=patch, headers=headers, timeout=timeout, raise_for_status=True
        ) as answer:
            body: dict[str, Any] = await answer.json()
            return body


async def _rest(who: str, error: Exception, failures: int) -> None:
    wait = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(failures, 10)) * random.uniform(0.75, 1.25)
    log.warning("%s: %s; again in %.1f s", who, str(error) or type(error).__name__, wait)
    await asyncio.sleep(wait)


def api_server(environment: Mapping[str, str]) -> ApiServer:
    """Read how to reach the API server: from ``KUBECONFIG``, else from the pod's service account.

    Raises:
        CannotRun: neither exists, or the kubeconfig is not complete.
    """
    if path := environment.get("KUBECONFIG"):
        return _by_kubeconfig(Path(path))
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise CannotRun("no way to the API server: run in a pod or set KUBECONFIG")
    host = f"[{host}]" if ":" in host else host
    tls = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
    return ApiServer(f"https://{host}:{port}", tls, lambda: (SERVICE_ACCOUNT / "token").read_text().strip())


def _by_kubeconfig(path: Path) -> ApiServer:
    import yaml  # only outside of pods

    try:
        config = yaml.safe_load(path.read_text())
        contexts, clusters, users = (
            {item["name"]: item for item in config[k]} for k in ("contexts", "clusters", "users")
        )
        context = contexts[config["current-context"]]["context"]
        cluster, user = clusters[context["cluster"]]["cluster"], users[context["user"]]["user"]
        authority = cluster.get("certificate-authority-data")
        tls = ssl.create_default_context(
            cafile=cluster.get("certificate-authority"),
            cadata=base64.b64decode(authority).decode() if authority else None,
        )
        if "client-certificate" in user:
            tls.load_cert_chain(user["client-certificate"], user["client-key"])
        file = Path(user["tokenFile"]) if "tokenFile" in user else None
        return ApiServer(
            cluster["server"].rstrip("/"), tls, lambda: file.read_text().strip() if file else user.get("token")
        )
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise CannotRun(f"KUBECONFIG={path} cannot be used: {type(error).__name__}: {error}") from error


async def _main(environment: Mapping[str, str]) -> None:
    node = environment.get("NODE_NAME")
    if not node:
        raise CannotRun("NODE_NAME is not set: give it by fieldRef spec.nodeName")
    if not names.is_segment(node):
        raise CannotRun(f"NODE_NAME={names.shown(node)} is not the name of a Node: give it by fieldRef spec.nodeName")
    log_context.about(vm=node)
    agent = Agent(node, environment.get("GCE_METADATA_HOST") or "metadata.google.internal", api_server(environment))
    work = asyncio.create_task(agent.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    log.info("listening for %s", node)
    await asyncio.gather(work, return_exceptions=True)
    if not work.cancelled() and (error := work.exception()):
        raise error


def main() -> int:
    """Run; return 0 after a signal to stop, 1 with one line on stderr if it cannot run."""
    return frame.run("notice_agent", lambda: asyncio.run(_main(os.environ)), (CannotRun, OSError))


if __name__ == "__main__":
    sys.exit(main())

"""A stand-in for NVIDIA's GPU operator: a validator pod on each node with GPUs, which can be made to fail.

The real operator's pods become Ready once driver, toolkit and device plugin work on their node. These have a readiness
gate, and this module gives the verdict on each node.
https://docs.nvidia.com/datacenter/cloud-native/gpu-operator/latest/getting-started.html
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import string
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox.kube_client import STRATEGIC_MERGE, UNREACHABLE, ApiError, KubeClient

log = logging.getLogger(__name__)

Json = dict[str, Any]

ACCOUNT = "sandbox-gpu-operator"
NAMESPACE = "kube-system"
GPU_LABEL = "sandbox/has-gpus=true"
"""The label with which a machine that has GPUs registers its Node."""

_MANIFEST = Path(__file__).with_suffix(".yaml")
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_SELECTOR = "app=nvidia-operator-validator"
_GATE = "sandbox/validated"


def manifest(image: str) -> str:
    """Return what has to be installed in the cluster; ``image`` is the validator's."""
    return string.Template(_MANIFEST.read_text()).substitute(IMAGE=image)


class GpuOperator:
    """Gives the verdicts in one cluster, with the rights of its account."""

    def __init__(self, kubeconfig: Path) -> None:
        self._client = KubeClient.from_kubeconfig(kubeconfig)
        self._pods: dict[str, Json] = {}
        self._failing: set[str] = set()
        self._all_fail = False
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to give verdicts."""
        self._watch = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop giving verdicts."""
        if self._watch:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._client.close()

    async def fail(self, node: str | None = None) -> None:
        """Report the GPUs of a node as broken, even if it does not exist yet; without a name, those of every node."""
        if node is None:
            self._all_fail = True
        else:
            self._failing.add(node)
        await self._judge_all()

    async def heal(self) -> None:
        """Report all GPUs as working again."""
        self._all_fail = False
        self._failing.clear()
        await self._judge_all()

    async def _follow(self) -> None:
        async for change in self._client.follow(_PODS, labelSelector=_SELECTOR):
            if change.type == "SYNC":
                self._pods = {pod["metadata"]["name"]: pod for pod in change.object}
                await self._judge_all()
            elif change.type == "DELETED":
                self._pods.pop(change.object["metadata"]["name"], None)
            else:
                self._pods[change.object["metadata"]["name"]] = change.object
                await self._judge(change.object)

    async def _judge_all(self) -> None:
        await asyncio.gather(*map(self._judge, list(self._pods.values())))

    async def _judge(self, pod: Json) -> None:
        node, metadata = pod["spec"].get("nodeName"), pod["metadata"]
        if not node or "deletionTimestamp" in metadata:
            return
        status = "False" if self._all_fail or node in self._failing else "True"
        conditions = pod["status"].get("conditions") or []
        if any((each["type"], each["status"]) == (_GATE, status) for each in conditions):
            return
        verdict = {"type": _GATE, "status": status, "lastTransitionTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        body = {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": [verdict]}}
        with contextlib.suppress(ApiError, *UNREACHABLE):  # the pod is gone, or its next change comes here again
            await self._client.patch(f"{_PODS}/{metadata['name']}/status", body, STRATEGIC_MERGE)

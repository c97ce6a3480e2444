"""Events of a pod, as a kubelet writes them: what it does that the Pod's status does not say."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from uuid import uuid4

from sandbox.kube_client import UNREACHABLE, ApiError
from sandbox.machines.light.kubelet.runtime import PodContext

log = logging.getLogger(__name__)


async def tell(context: PodContext, reason: str, note: str) -> None:
    """Write an Event of a pod; one that cannot be written is lost, as a kubelet's is."""
    metadata, node = context.pod["metadata"], context.node.name
    body = {
        "metadata": {"name": f"{metadata['name'][:200]}.{uuid4().hex[:16]}", "namespace": metadata["namespace"]},
        "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": "kubelet",
        "reportingInstance": node,
        "action": reason,
        "reason": reason,
        "type": "Normal",
        "note": note,
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            **{key: metadata[key] for key in ("name", "namespace", "uid")},
        },
    }
    try:
        await context.node.client.create(f"/apis/events.k8s.io/v1/namespaces/{metadata['namespace']}/events", body)
    except (ApiError, *UNREACHABLE) as error:
        log.warning("%s: Event %s: %s", metadata["name"], reason, error)

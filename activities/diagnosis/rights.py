"""The rights of the worker in the cluster, asked of the API server itself. A test holds the table equal to its role."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from api import names
from api.diagnosis import Finding
from clients.kube import Kube, path

REVIEWS = path("authorization.k8s.io/v1", "selfsubjectaccessreviews")
ROLE = "the role outlast-worker is that of another release: kubectl apply --server-side -k deploy/base"

NEEDED: Mapping[tuple[str, str], str] = MappingProxyType({
    (names.GROUP, "spotinstancejobs"): "get list patch",
    (names.GROUP, "spotinstancejobs/status"): "patch",
    (names.GROUP, "spotinstancevms"): "get list patch",
    (names.GROUP, "spotinstancevms/status"): "patch",
    (names.CHECKPOINT_GROUP, names.CHECKPOINT_PLURAL): "get list watch create patch delete",
    ("batch", "jobs"): "get list create delete",
    ("", "pods"): "list watch delete",
    ("", "pods/log"): "get",
    ("", "pods/eviction"): "create",
    ("policy", "poddisruptionbudgets"): "get list create delete",
    ("", "services"): "get create",
    ("", "nodes"): "get list watch patch delete",
    ("", "resourcequotas"): "list",
    ("", "persistentvolumeclaims"): "get",
    ("", "persistentvolumes"): "get",
    ("storage.k8s.io", "storageclasses"): "get",
    ("storage.k8s.io", "csidrivers"): "get",
    ("resource.k8s.io", "deviceclasses"): "list",
    ("", "configmaps"): "get create patch",
    ("events.k8s.io", "events"): "list create",
    ("apps", "daemonsets"): "list watch",
    ("certificates.k8s.io", "certificatesigningrequests"): "list watch",
    ("certificates.k8s.io", "certificatesigningrequests/approval"): "patch",
})  # fmt: skip
"""The verbs that the worker needs in all namespaces, by API group and resource."""


async def check_rights(kube: Kube) -> Finding:
    """Ask for each right whether the worker has it."""
    asked = [(*what, verb) for what, verbs in NEEDED.items() for verb in verbs.split()]
    allowed = await asyncio.gather(*(_may(kube, *each) for each in asked))
    lacking = [f"{verb} {resource}" for (_, resource, verb), may in zip(asked, allowed, strict=True) if not may]
    told = f"lacks {', '.join(lacking)}" if lacking else f"has all {len(asked)} that are needed"
    return Finding(part="the worker's rights", well=not lacking, told=told, remedy=ROLE)


async def _may(kube: Kube, group: str, resource: str, verb: str) -> bool:
    name, _, sub = resource.partition("/")
    attributes = {"group": group, "resource": name, "verb": verb, **({"subresource": sub} if sub else {})}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    answer = await kube.create(REVIEWS, {**review, "spec": {"resourceAttributes": attributes}})
    return bool(answer["status"].get("allowed"))

"""Kueue, as far as a Job notices it, by a policy of the API server and a few lines: the sandbox has none.

Its webhook suspends each Job with a queue's label in the moment of its creation. Once there is quota, its controller
resumes the Job, with the node selector of a flavor. To preempt a Job it suspends it.
https://github.com/kubernetes-sigs/kueue: pkg/controller/jobs/job
"""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from api.queues import QUEUE_LABEL

Json = dict[str, Any]

SUSPENDS = "object.metadata.?labels[?'kueue.x-k8s.io/queue-name'].hasValue()"
EVERY_JOB = "true"


@asynccontextmanager
async def webhook(kubectl: Any, namespace: str, when: str = SUSPENDS) -> AsyncIterator[None]:
    """Suspend Jobs that are created in this namespace, in dry runs as well, as Kueue's defaulting webhook does."""
    name = f"kueue-{secrets.token_hex(3)}"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [
                    {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
                ],
            },
            "matchConditions": [{"name": "managed", "expression": when}],
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": "Object{spec: Object.spec{suspend: true}}"},
                }
            ],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name},
    }
    for each in (policy, binding):
        await kubectl("create", "-f", "-", stdin=json.dumps(each))
    try:
        yield
    finally:
        await kubectl("delete", "mutatingadmissionpolicybinding", name)
        await kubectl("delete", "mutatingadmissionpolicy", name)


async def admit(kubectl: Any, namespace: str, job: str) -> None:
    """Give a Job quota."""
    await _suspend(kubectl, namespace, job, suspend=False)


async def preempt(kubectl: Any, namespace: str, job: str) -> None:
    """Give the quota of this Job to one of higher priority."""
    await _suspend(kubectl, namespace, job, suspend=True)


async def waiting(kubectl: Any, namespace: str) -> list[str]:
    """List the Jobs of all queues that are not admitted."""
    found = json.loads(await kubectl("get", "jobs", "-n", namespace, "-l", QUEUE_LABEL, "-o", "json"))
    return [job["metadata"]["name"] for job in found["items"] if job["spec"].get("suspend")]


async def _suspend(kubectl: Any, namespace: str, job: str, *, suspend: bool) -> None:
    change = json.dumps({"spec": {"suspend": suspend}})
    await kubectl("patch", "job", job, "-n", namespace, "--field-manager=kueue", "--type=merge", "-p", change)

"""The ServiceAccounts of deploy/base may do what the code asks for, and nothing else; and Pod Security."""

import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from temporalio.client import Client

from activities.cloud_errors import Missing
from activities.compute import Compute
from activities.orphans.alarm import AlarmActivities
from activities.orphans.claims import OrphanedClaimActivities
from activities.orphans.finalizers import OrphanedFinalizerActivities
from activities.orphans.images import OrphanedImageActivities
from activities.orphans.machines import OrphanedMachineActivities
from activities.orphans.objects import OrphanedObjectActivities
from activities.signatures import NodeRef, OrphanedClaim, OrphanedTaint, SweepAlarm, SweepRequest, TellStuck
from activities.temporal.stuck import StuckActivities
from api import names
from api.common import SecretReference
from api.sweep import Stuck
from clients.kube import connect
from crd_bridge.bridge import Bridge
from sandbox.errors import SandboxError
from tests.activities.world import loopback_gate
from tests.bridge.conftest import REPOSITORY
from tests.bridge.recorder import eventually
from tests.bridge.test_main import write_kubeconfig

BASE = REPOSITORY / "deploy" / "base"
# Whoever may do these can become anybody else, or read what no story needs.
FORBIDDEN = [
    ("*", "clusterroles.rbac.authorization.k8s.io"), ("escalate", "clusterroles.rbac.authorization.k8s.io"),
    ("bind", "clusterroles.rbac.authorization.k8s.io"), ("impersonate", "serviceaccounts"),
    ("create", "pods/exec"), ("create", "pods/attach"), ("create", "pods/portforward"), ("get", "nodes/proxy"),
    ("create", "nodes/proxy"), ("create", "serviceaccounts/token"), ("create", "deployments.apps"),
    ("create", "daemonsets.apps"), ("patch", "daemonsets.apps"),
    ("approve", "certificatesigningrequests.certificates.k8s.io"),
    ("create", "certificatesigningrequests.certificates.k8s.io"), ("delete", "namespaces"), ("list", "configmaps"),
    ("create", "mutatingwebhookconfigurations.admissionregistration.k8s.io"), ("update", "secrets"),
    ("deletecollection", "pods"), ("deletecollection", "secrets"), ("watch", "secrets"),
]  # fmt: skip
OF_OTHERS = {
    "bridge": [("get", "secrets"), ("list", "secrets"), ("create", "jobs.batch"), ("delete", "pods"),
               ("create", "pods"), ("patch", "nodes"), ("get", "configmaps"),
               ("delete", "spotinstancevms.training.training.dcnlab.com"),
               ("patch", "spotinstancevms.training.training.dcnlab.com/status"),
               ("patch", "instancetemplates.training.training.dcnlab.com")],
    "agent": [("get", "secrets"), ("create", "pods"), ("list", "nodes"), ("list", "pods"), ("get", "pods"),
              ("delete", "nodes"), ("get", "spotinstancejobs.training.training.dcnlab.com"),
              ("delete", "spotinstancejobs.training.training.dcnlab.com"), ("patch", "nodes/status")],
    "worker": [("delete", "secrets"), ("watch", "jobs.batch"), ("get", "secrets/status"), ("update", "nodes"),
               ("delete", "spotinstancejobs.training.training.dcnlab.com")],
}  # fmt: skip


def documents(file: str) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all((BASE / file).read_text())


def rules(account: str) -> list[dict[str, Any]]:
    return [rule for each in documents(f"{account}-rbac.yaml") for rule in each.get("rules", [])]


@pytest.mark.parametrize("account", ["worker", "bridge", "agent"])
def test_no_rule_has_a_wildcard(account: str) -> None:
    for rule in rules(account):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


@pytest.mark.parametrize("account", ["worker", "bridge", "agent"])
async def test_nobody_can_become_anybody_else(control_plane: Any, installed: None, account: str) -> None:
    assert await allowed(control_plane, account, FORBIDDEN + OF_OTHERS[account]) == []


async def allowed(
    control_plane: Any, account: str, asked: list[tuple[str, str]], namespace: str = "default"
) -> list[tuple[str, str]]:
    """List those verbs on `resource.group/subresource` that this account may use there."""
    reviews = [_review(account, verb, resource, namespace) for verb, resource in asked]
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": reviews})
    said = await control_plane.kubectl("create", "-f", "-", "-o", r'jsonpath={.status.allowed}{"\n"}', stdin=text)
    return [one for one, answer in zip(asked, said.split(), strict=True) if answer == "true"]


def _review(account: str, verb: str, resource: str, namespace: str) -> dict[str, Any]:
    kind, _, subresource = resource.partition("/")
    plural, _, group = kind.partition(".")
    attributes = {
        "verb": verb, "group": group, "resource": plural, "subresource": subresource, "namespace": namespace
    }  # fmt: skip
    user = f"system:serviceaccount:outlast-system:outlast-{account}"
    groups = ["system:serviceaccounts", "system:serviceaccounts:outlast-system", "system:authenticated"]
    spec = {"user": user, "groups": groups, "resourceAttributes": attributes}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}


async def test_secrets_are_deleted_in_kube_system_alone(control_plane: Any, installed: None) -> None:
    delete = [("delete", "secrets")]
    assert await allowed(control_plane, "worker", delete, "kube-system") == delete
    assert await allowed(control_plane, "worker", delete, "outlast-system") == []


async def test_the_worker_may_do_what_the_sweep_takes(
    control_plane: Any, installed: None, crds: None, client: Client, tmp_path: Path
) -> None:
    """It acts as its ServiceAccount; no sandbox lasts until its Schedule fires."""
    token = await control_plane.kubectl("create", "token", "outlast-worker", "-n", "outlast-system")
    config = write_kubeconfig(tmp_path, control_plane.url, control_plane.ca_file, token.strip())
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "sweep-rights"}}
    node["spec"] = {"taints": [{"key": names.TAINT_PREEMPTED, "value": "then", "effect": "NoSchedule"}]}
    await control_plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(node))
    uid = await control_plane.kubectl("get", "node", "sweep-rights", "-o", "jsonpath={.metadata.uid}")
    request = SweepRequest(cluster_id="rights", namespace="outlast-system")
    ref = NodeRef(name="sweep-rights", uid=str(uid).strip())
    async with await connect(str(config)) as kube:
        objects = OrphanedObjectActivities(client, kube)
        assert (await objects.find_orphaned_objects(request)).taints_seen >= 1
        await objects.remove_taint(OrphanedTaint(node=ref, taint=names.TAINT_PREEMPTED, value="then"))
        await OrphanedMachineActivities(client, kube, _NoCloud()).find_orphans(request)
        claims = OrphanedClaimActivities(client, kube, "outlast-system")
        await claims.find_orphaned_claims(request)
        await claims.remove_claim(OrphanedClaim(name="none", version="1"))
        await OrphanedFinalizerActivities(client, kube).find_orphaned_finalizers(request)
        await OrphanedImageActivities(client, kube, loopback_gate()).find_orphaned_images(request)
        alarm = SweepAlarm(namespace="outlast-system", message="a test", at=datetime.now(UTC))
        await AlarmActivities(kube, "outlast-worker-1.2.3").sound_alarm(alarm)
        stuck = Stuck(workflow_id="x/y", workflow_type="SpotInstanceJob", problem="p", namespace="x", job_name="y")
        await StuckActivities(client, kube).tell_stuck(TellStuck(stuck=[stuck], at=datetime.now(UTC)))
    left = await control_plane.kubectl("get", "node", "sweep-rights", "-o", "jsonpath={.spec.taints[*].key}")
    assert names.TAINT_PREEMPTED not in str(left)
    await control_plane.kubectl("delete", "node", "sweep-rights")


class _NoCloud:
    """A cloud that is never asked, because other tests' objects name projects."""

    async def open(self, credentials: SecretReference | None, namespace: str) -> Compute:
        raise Missing("there is no cloud here")


async def test_the_api_server_finds_no_mistake_in_a_policy(control_plane: Any, installed: None) -> None:
    """It checks a policy's fields against the types that it is for, and says in its status what it does not find."""

    async def checked() -> list[Any] | None:
        found = yaml.safe_load(await control_plane.kubectl("get", "validatingadmissionpolicies", "-o", "yaml"))
        ours = [each for each in found["items"] if each["metadata"]["name"].startswith("outlast")]
        told = [each.get("status", {}).get("typeChecking") for each in ours]
        return told if None not in told else None

    told = await eventually(checked, "the policies are checked")
    assert [each.get("expressionWarnings", []) for each in told] == [[]] * len(told)


# --- what the code calls


def test_the_bridge_may_do_what_it_does_and_nothing_else() -> None:
    """It watches, adds its finalizer, deletes finished jobs by their TTL, copies templates, holds a Lease, and asks
    which cluster it is in.

    tests/activities checks the worker.
    """
    nobody: Any = None
    watched = [watch.resource for watch in Bridge(nobody, nobody, "").watches]
    groups = {each.plural: each.api_version.rpartition("/")[0] for each in watched}
    does = {(verb, group, plural) for plural, group in groups.items() for verb in ("list", "watch")}
    does |= {(verb, names.GROUP, names.JOB_PLURAL) for verb in ("get", "patch", "delete")} | {("get", "", "namespaces")}
    does |= {(verb, names.GROUP, names.VM_PLURAL) for verb in ("get", "create", "patch")}
    does |= {("patch", names.GROUP, f"{plural}/status") for plural in (names.JOB_PLURAL, names.TEMPLATE_PLURAL)}
    does |= {(verb, "coordination.k8s.io", "leases") for verb in ("create", "get", "watch", "patch")}
    granted = {
        (verb, group, resource)
        for rule in rules("bridge")
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == does


# --- Pod Security


async def pods(control_plane: Any, overlay: str) -> dict[str, dict[str, Any]]:
    rendered = await control_plane.kubectl("kustomize", REPOSITORY / "deploy" / overlay)
    of = [each for each in yaml.safe_load_all(rendered) if each["kind"] in {"Deployment", "DaemonSet", "Job"}]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"] for each in of}


async def admit(control_plane: Any, template: dict[str, Any], namespace: str) -> None:
    """Let the API server judge a pod of this template."""
    await control_plane.kubectl(
        "wait", "--for=create", "serviceaccount/default", "--namespace", namespace, "--timeout=100s"
    )
    spec = {**template["spec"], "serviceAccountName": "default", "priorityClassName": ""}
    spec["automountServiceAccountToken"] = False  # the namespace's own account may not exist yet
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": namespace}, "spec": spec}
    await control_plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))


async def held_to(control_plane: Any, level: str) -> str:
    """Make a new namespace with this level of Pod Security."""
    namespace = f"{level}-{secrets.token_hex(4)}"
    await control_plane.kubectl("create", "namespace", namespace)
    await control_plane.kubectl(
        "label", "namespace", namespace, f"pod-security.kubernetes.io/enforce={level}",
        "pod-security.kubernetes.io/enforce-version=latest",
    )  # fmt: skip
    return namespace


@pytest.mark.parametrize("overlay", ["base", "overlays/encrypted"])
async def test_pod_security_restricted_admits_all_but_the_agent_and_names_what_the_agent_needs(
    control_plane: Any, overlay: str
) -> None:
    templates = await pods(control_plane, overlay)
    namespace = await held_to(control_plane, "restricted")
    for part in ("worker", "bridge", "setup"):
        await admit(control_plane, templates[part], namespace)
    with pytest.raises(SandboxError) as refused:
        await admit(control_plane, templates["agent"], namespace)
    said = str(refused.value)
    # Its only exception; docs/security.md gives the reason.
    assert re.search(r'violates PodSecurity "restricted:[^"]*": host namespaces \(hostNetwork=true\)', said), said


async def test_the_namespace_admits_the_agent_where_others_are_held_to_baseline(control_plane: Any) -> None:
    templates = await pods(control_plane, "base")
    namespace = await held_to(control_plane, "baseline")
    with pytest.raises(SandboxError, match="violates PodSecurity"):
        await admit(control_plane, templates["agent"], namespace)
    (made,) = documents("namespace.yaml")
    made["metadata"]["name"] = namespace
    await control_plane.kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump(made)
    )  # fmt: skip
    await admit(control_plane, templates["agent"], namespace)

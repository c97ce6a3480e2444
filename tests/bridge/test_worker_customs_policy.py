"""What the worker's token deletes, and which checkpoints, claims and specs it writes: its own, as far as it must."""

import json
from typing import Any

import pytest
import pytest_asyncio

from api import names
from sandbox.errors import SandboxError
from tests.bridge.conftest import REPOSITORY
from tests.bridge.policies import AS_WORKER
from tests.bridge.test_worker_policy import HELD, OWNED, create, create_as_worker, job, secret, token

Json = dict[str, Any]

JOB = "0a1b2c3d"
OURS = {names.LABEL_JOB: JOB, names.LABEL_MANAGED_BY: names.MANAGED_BY}
FREE = json.dumps({"metadata": {"finalizers": None}})


async def patch_as_worker(control_plane: Any, namespace: str, made: Json, change: Json, *options: str) -> None:
    await control_plane.kubectl(
        "patch", "-n", namespace, made["kind"], made["metadata"]["name"], "--type=merge", "-p", json.dumps(change),
        AS_WORKER, *options,
    )  # fmt: skip


async def delete_as_worker(control_plane: Any, namespace: str, made: Json) -> None:
    await control_plane.kubectl(
        "delete", "-n", namespace, made["kind"], made["metadata"]["name"], "--wait=false", "--dry-run=server", AS_WORKER
    )


# --- Secrets, Jobs: what is deleted


async def test_it_revokes_its_bootstrap_tokens(control_plane: Any, installed: None) -> None:
    await create(control_plane, "kube-system", made := token("bootstrap-token-aaaaaa"))
    await delete_as_worker(control_plane, "kube-system", made)
    await control_plane.kubectl("delete", "secret", made["metadata"]["name"], "-n", "kube-system")


@pytest.mark.parametrize(
    "made",
    [secret("Opaque", "somebodys"), secret("Opaque", "labelled", labels=OURS), token("bootstrap-token-bbbbbb")],
    ids=["any", "one with our labels", "another's token"],
)
async def test_it_deletes_no_other_secret(control_plane: Any, installed: None, made: Json) -> None:
    if made["type"] != "Opaque":
        made["metadata"]["labels"] = {}
    await create(control_plane, "kube-system", made)
    with pytest.raises(SandboxError, match="delete no Secrets but its own bootstrap tokens"):
        await delete_as_worker(control_plane, "kube-system", made)
    await control_plane.kubectl("delete", "secret", made["metadata"]["name"], "-n", "kube-system")


async def test_it_changes_nobody_elses_bootstrap_token(control_plane: Any, installed: None) -> None:
    made = token("bootstrap-token-cccccc")
    made["metadata"]["labels"] = {}
    await create(control_plane, "kube-system", made)
    change = {"metadata": {"labels": OURS}, "stringData": {"expiration": "2099-01-01T00:00:00Z"}}
    with pytest.raises(SandboxError, match="change the contents of no Secret"):
        await patch_as_worker(control_plane, "kube-system", made, change)
    await control_plane.kubectl("delete", "secret", made["metadata"]["name"], "-n", "kube-system")


async def test_it_deletes_a_job_that_it_has_made(control_plane: Any, installed: None, namespace: str) -> None:
    """`kubectl delete --cascade=orphan` removes the owner before the teardown, and leaves the labels."""
    await create(control_plane, namespace, made := job(labels=OURS))
    await delete_as_worker(control_plane, namespace, made)


async def test_it_deletes_nobody_elses_job(control_plane: Any, installed: None, namespace: str) -> None:
    await create(control_plane, namespace, made := job())
    with pytest.raises(SandboxError, match="delete no Jobs and no ConfigMaps but"):
        await delete_as_worker(control_plane, namespace, made)


# --- PodDisruptionBudgets


def budget(selected: str = names.LABEL_JOB, **metadata: Any) -> Json:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {selected: JOB}}}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", **metadata},
        "spec": spec,
    }


async def test_it_makes_and_deletes_a_jobs_budget(control_plane: Any, installed: None, namespace: str) -> None:
    await create_as_worker(control_plane, namespace, budget(**OWNED))
    await create(control_plane, namespace, made := budget(labels=OURS))
    await delete_as_worker(control_plane, namespace, made)


@pytest.mark.parametrize("made", [budget(), budget("app", **OWNED)], ids=["nobody's", "of other pods"])
async def test_it_makes_no_other_budget(control_plane: Any, installed: None, namespace: str, made: Json) -> None:
    with pytest.raises(SandboxError, match="write no PodDisruptionBudgets but those"):
        await create_as_worker(control_plane, namespace, made)


async def test_it_deletes_nobody_elses_budget(control_plane: Any, installed: None, namespace: str) -> None:
    await create(control_plane, namespace, made := budget())
    with pytest.raises(SandboxError, match="delete no PodDisruptionBudgets but those"):
        await delete_as_worker(control_plane, namespace, made)


# --- Services


def service(labels: Json | None = None, owned: bool = True, **spec: Any) -> Json:
    wanted = {"clusterIP": "None", "selector": {names.LABEL_JOB: JOB}, "ports": [{"port": 80}], **spec}
    metadata = {"name": "s", "labels": labels or {}, **(OWNED if owned else {})}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": wanted}


async def test_it_makes_the_service_of_a_gang(control_plane: Any, installed: None, namespace: str) -> None:
    await create_as_worker(control_plane, namespace, service())


@pytest.mark.parametrize(
    "made",
    [
        service(owned=False),
        service(selector={"app": "web"}),
        service(clusterIP=""),
        service(type="NodePort", clusterIP=""),
        service(type="ExternalName", externalName="example.org", clusterIP=""),
        service(externalIPs=["192.0.2.1"]),
    ],
    ids=["nobody's", "of other pods", "an address", "a port of all nodes", "an alias", "somebody's address"],
)
async def test_it_makes_no_other_service(control_plane: Any, installed: None, namespace: str, made: Json) -> None:
    with pytest.raises(SandboxError, match="may make no Services but headless ones"):
        await create_as_worker(control_plane, namespace, made)


async def test_it_changes_and_deletes_no_service(control_plane: Any, installed: None, namespace: str) -> None:
    await create(control_plane, namespace, made := service(labels=OURS))
    with pytest.raises(SandboxError, match=r"may change and delete no Services|cannot delete resource .services"):
        await delete_as_worker(control_plane, namespace, made)


# --- CheckpointBackups


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def checkpoint_crd(control_plane: Any) -> None:
    crd = REPOSITORY / "sandbox" / "checkpoint_operator" / "crd.yaml"
    await control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", crd)
    await control_plane.kubectl("wait", "--for=condition=Established", "--timeout=100s", "-f", crd)
    await control_plane.kubectl("get", "checkpointbackups", "-A")


def backup(namespace: str, *, pod: str = f"train-{JOB}-r0-i0-abcde", there: str = "", **metadata: Any) -> Json:
    registry = {"url": "https://gcr.io", "repository": "p/repo"}
    spec = {
        "schedule": "immediately",
        "stopPod": False,
        "podRef": {"name": pod, "namespace": there or namespace},
        "resourceRef": {"apiVersion": "batch/v1", "kind": "Job", "name": f"train-{JOB}-r0-i0", "namespace": namespace},
        "registry": registry,
        "containers": [{"name": "train", "image": "p/repo:tag"}],
    }
    metadata = {"name": f"train-{JOB}-c1", "labels": OURS, **OWNED, **metadata}
    version = f"{names.CHECKPOINT_GROUP}/{names.CHECKPOINT_VERSION}"
    return {"apiVersion": version, "kind": "CheckpointBackup", "metadata": metadata, "spec": spec}


async def test_it_asks_for_checkpoints_of_its_replicas(
    control_plane: Any, installed: None, checkpoint_crd: None, namespace: str
) -> None:
    await create_as_worker(control_plane, namespace, backup(namespace))


@pytest.mark.parametrize(
    "change",
    [
        {"pod": "database-0"},
        {"pod": "train-ffffffff-r0-i0-abcde"},
        {"there": "kube-system"},
        {"labels": {names.LABEL_JOB: JOB}},
        {"labels": {**OURS, names.LABEL_JOB: ""}, "pod": "database-0"},
        {"ownerReferences": []},
    ],
    ids=json.dumps,
)
async def test_it_asks_for_no_memory_of_anybody_else(
    control_plane: Any, installed: None, checkpoint_crd: None, namespace: str, change: Json
) -> None:
    with pytest.raises(SandboxError, match="the worker may ask for no checkpoints but"):
        await create_as_worker(control_plane, namespace, backup(namespace, **change))


async def test_it_lets_a_checkpoint_go(
    control_plane: Any, installed: None, checkpoint_crd: None, namespace: str
) -> None:
    made = backup(namespace, finalizers=["checkpointbackup.migration.dcnlab.com/finalizer", "else.org/kept"])
    await create(control_plane, namespace, made)
    await delete_as_worker(control_plane, namespace, made)
    await patch_as_worker(control_plane, namespace, made, {"metadata": {"finalizers": ["else.org/kept"]}})
    with pytest.raises(SandboxError, match="but take the operator's finalizer off"):
        await patch_as_worker(control_plane, namespace, made, {"metadata": {"finalizers": None}})
    await control_plane.kubectl(
        "patch", "checkpointbackup", made["metadata"]["name"], "-n", namespace, "--type=merge", "-p", FREE
    )


async def test_it_changes_no_checkpoint_that_was_asked_for(
    control_plane: Any, installed: None, checkpoint_crd: None, namespace: str
) -> None:
    made = backup(namespace, finalizers=["else.org/kept"])  # its owner does not exist, so it would be collected
    await create(control_plane, namespace, made)
    change = {"spec": {"podRef": {"name": f"train-{JOB}-r1-i0-abcde"}}}
    with pytest.raises(SandboxError, match="change nothing of a CheckpointBackup but"):
        await patch_as_worker(control_plane, namespace, made, change)
    await control_plane.kubectl(
        "patch", "checkpointbackup", made["metadata"]["name"], "-n", namespace, "--type=merge", "-p", FREE
    )


async def test_it_deletes_and_frees_nobody_elses_checkpoint(
    control_plane: Any, installed: None, checkpoint_crd: None, namespace: str
) -> None:
    made = backup(namespace, pod="database-0", labels={}, ownerReferences=[], finalizers=["else.org/kept"])
    await create(control_plane, namespace, made)
    with pytest.raises(SandboxError, match="no CheckpointBackup that it has not asked for"):
        await delete_as_worker(control_plane, namespace, made)
    for change in ({"finalizers": None}, {"finalizers": None, "labels": OURS}):
        with pytest.raises(SandboxError, match="no CheckpointBackup that it has not asked for"):
            await patch_as_worker(control_plane, namespace, made, {"metadata": change})
    await control_plane.kubectl(
        "patch", "checkpointbackup", made["metadata"]["name"], "-n", namespace, "--type=merge", "-p", FREE
    )


# --- claims


def lease(**metadata: Any) -> Json:
    metadata = {"name": "cdi-node-0-0a1b2c3d", "labels": OURS, **metadata}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}


async def test_it_claims_devices(control_plane: Any, installed: None) -> None:
    await create(control_plane, "outlast-system", made := lease())
    await patch_as_worker(control_plane, "outlast-system", made, {"spec": {"holderIdentity": "default/train"}})
    await delete_as_worker(control_plane, "outlast-system", made)
    await control_plane.kubectl("delete", "lease", made["metadata"]["name"], "-n", "outlast-system")
    await create_as_worker(control_plane, "outlast-system", made)


async def test_it_writes_no_other_lease(control_plane: Any, installed: None) -> None:
    """Such as those by which others elect a leader in the namespace."""
    for made in (lease(name="leader"), lease(labels={})):
        with pytest.raises(SandboxError, match="write no Leases but claims on devices"):
            await create_as_worker(control_plane, "outlast-system", made)
    await create(control_plane, "outlast-system", made := lease(name="leader", labels={}))
    for change in ({"spec": {"holderIdentity": "me"}}, {"metadata": {"labels": OURS}}):
        with pytest.raises(SandboxError, match="write no Leases but claims on devices"):
            await patch_as_worker(control_plane, "outlast-system", made, change)
    with pytest.raises(SandboxError, match="write no Leases but claims on devices"):
        await delete_as_worker(control_plane, "outlast-system", made)
    await control_plane.kubectl("delete", "lease", "leader", "-n", "outlast-system")


# --- SpotInstanceJobs and SpotInstanceVMs


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"suspend": True, "replicas": 3}},
        {"metadata": {"finalizers": ["else.org/kept"]}},
    ],
    ids=json.dumps,
)
async def test_it_writes_a_persons_request_and_lets_a_job_go(
    control_plane: Any, installed: None, namespace: str, job: Json, change: Json
) -> None:
    job["metadata"]["finalizers"] = ["else.org/kept", names.FINALIZER]
    await create(control_plane, namespace, job)
    await patch_as_worker(control_plane, namespace, job, change)
    await control_plane.kubectl("patch", "sij", "train", "-n", namespace, "--type=merge", "-p", FREE)


async def test_it_holds_a_machine_and_lets_it_go(control_plane: Any, installed: None, namespace: str, vm: Json) -> None:
    await create(control_plane, namespace, vm)
    held = {"finalizers": [HELD], "labels": {HELD: "", names.LABEL_PROTECTED: ""}, "annotations": {HELD: "a/b"}}
    free = {"finalizers": [], "labels": {HELD: None, names.LABEL_PROTECTED: None}, "annotations": {HELD: None}}
    await patch_as_worker(control_plane, namespace, vm, {"metadata": held})
    await patch_as_worker(control_plane, namespace, vm, {"metadata": free})


async def test_it_repairs_the_spec_of_what_is_being_deleted(
    control_plane: Any, installed: None, namespace: str, job: Json, vm: Json
) -> None:
    """Otherwise one that breaks a format could never be deleted on a server that validates the whole object."""
    for made, repair in ((job, {"gcpCredentialsSecretRef": {"name": "no-name"}}), (vm, {"vmImage": "no-image"})):
        made["metadata"]["finalizers"] = [HELD, "else.org/kept"]
        await create(control_plane, namespace, made)
        change = {"spec": repair, "metadata": {"finalizers": ["else.org/kept"]}}
        with pytest.raises(SandboxError, match="may change nothing of a"):
            await patch_as_worker(control_plane, namespace, made, change)
        kind, name = made["kind"], made["metadata"]["name"]
        await control_plane.kubectl("delete", kind, name, "-n", namespace, "--wait=false")
        await patch_as_worker(control_plane, namespace, made, change)
        await control_plane.kubectl("patch", kind, name, "-n", namespace, "--type=merge", "-p", FREE)


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"gcpCredentialsSecretRef": {"name": "theirs"}}},
        {"spec": {"maxRestarts": 7}},
        {"metadata": {"labels": {"kept": None}}},
        {"metadata": {"annotations": {"a": "b"}}},
        {"metadata": {"finalizers": []}},
        {"metadata": {"ownerReferences": [{**OWNED["ownerReferences"][0], "controller": False}]}},
    ],
    ids=json.dumps,
)
async def test_it_changes_no_more_of_a_job(
    control_plane: Any, installed: None, namespace: str, job: Json, change: Json
) -> None:
    job["metadata"] |= {"finalizers": ["else.org/kept", names.FINALIZER], "labels": {"kept": "a"}}
    await create(control_plane, namespace, job)
    with pytest.raises(SandboxError, match="change nothing of a SpotInstanceJob but"):
        await patch_as_worker(control_plane, namespace, job, change)
    await control_plane.kubectl("patch", "sij", "train", "-n", namespace, "--type=merge", "-p", FREE)


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"startupScript": "curl thief"}},
        {"spec": {"vmImage": "thief/image"}},
        {"spec": {"gcp": {"serviceAccount": "owner@p.iam.gserviceaccount.com"}}},
        {"metadata": {"labels": {"kept": None}}},
        {"metadata": {"finalizers": []}},
    ],
    ids=json.dumps,
)
async def test_it_changes_no_more_of_a_machine(
    control_plane: Any, installed: None, namespace: str, vm: Json, change: Json
) -> None:
    vm["metadata"] |= {"finalizers": ["else.org/kept"], "labels": {"kept": "a"}}
    await create(control_plane, namespace, vm)
    with pytest.raises(SandboxError, match="change nothing of a SpotInstanceVM but"):
        await patch_as_worker(control_plane, namespace, vm, change)
    await control_plane.kubectl("patch", "sivm", "t4", "-n", namespace, "--type=merge", "-p", FREE)

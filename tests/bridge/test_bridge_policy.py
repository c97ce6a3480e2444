"""What the bridge's token may write: a finalizer onto SpotInstanceJobs, why one does not begin, and nothing else."""

import json
from typing import Any

import pytest

from api import names
from sandbox.errors import SandboxError
from tests.bridge.policies import AS_BRIDGE
from tests.bridge.test_worker_policy import OWNED, create

Json = dict[str, Any]
FREE = json.dumps({"metadata": {"finalizers": None}})


async def patch(control_plane: Any, namespace: str, change: Json, *options: str) -> None:
    await control_plane.kubectl(
        "patch", "sij", "train", "-n", namespace, "--type=merge", "-p", json.dumps(change), AS_BRIDGE, *options
    )


@pytest.fixture
async def applied(control_plane: Any, installed: None, namespace: str, job: Json) -> str:
    """Apply a person's job, with a finalizer and a label of theirs, and return its namespace."""
    job["metadata"] |= {"finalizers": ["else.org/kept"], "labels": {"kept": "a"}, "annotations": {"kept": "a"}}
    await create(control_plane, namespace, job)
    return namespace


async def test_it_puts_its_finalizer_on(control_plane: Any, applied: str) -> None:
    await patch(control_plane, applied, {"metadata": {"finalizers": ["else.org/kept", names.FINALIZER]}})


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"suspend": True}},
        {"spec": {"gcpCredentialsSecretRef": {"name": "theirs"}}},
        {"metadata": {"labels": {"kept": None}}},
        {"metadata": {"annotations": {"a": "b"}}},
        {"metadata": {"finalizers": ["else.org/kept", "else.org/more"]}},
        {"metadata": {"finalizers": [names.FINALIZER]}},
        {"metadata": {"ownerReferences": OWNED["ownerReferences"]}},
    ],
    ids=json.dumps,
)
async def test_it_changes_nothing_else(control_plane: Any, applied: str, change: Json) -> None:
    with pytest.raises(SandboxError, match="the bridge may change nothing but"):
        await patch(control_plane, applied, change)


async def test_it_takes_no_finalizer_off(control_plane: Any, applied: str) -> None:
    """The worker does that, once nothing is left."""
    held = json.dumps({"metadata": {"finalizers": ["else.org/kept", names.FINALIZER]}})
    await control_plane.kubectl("patch", "sij", "train", "-n", applied, "--type=merge", "-p", held)
    with pytest.raises(SandboxError, match="the bridge may change nothing but"):
        await patch(control_plane, applied, {"metadata": {"finalizers": ["else.org/kept"]}})
    await control_plane.kubectl("patch", "sij", "train", "-n", applied, "--type=merge", "-p", FREE)


TAKEN = {
    "type": "Accepted",
    "status": "False",
    "reason": "JobIdTaken",
    "message": "m",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


async def write_status(control_plane: Any, namespace: str, condition: Json, *account: str) -> None:
    body = {"apiVersion": names.API_VERSION, "kind": "SpotInstanceJob", "metadata": {"name": "train"}}
    apply = ("apply", "--server-side", "--force-conflicts", "--subresource=status", "-n", namespace, "-f", "-")
    await control_plane.kubectl(*apply, *account, stdin=json.dumps(body | {"status": {"conditions": [condition]}}))


async def test_it_writes_that_a_jobs_id_is_taken(control_plane: Any, applied: str) -> None:
    await write_status(control_plane, applied, TAKEN, AS_BRIDGE)
    await write_status(control_plane, applied, {**TAKEN, "message": "another"}, AS_BRIDGE)


@pytest.mark.parametrize(
    "told",
    [{"status": "True"}, {"reason": "SpecIsValid"}, {"type": "Completed"}, {"type": "Completed", "status": "True"}],
    ids=json.dumps,
)
async def test_it_writes_nothing_else_into_a_status(control_plane: Any, applied: str, told: Json) -> None:
    with pytest.raises(SandboxError, match="the bridge may write nothing into a status but"):
        await write_status(control_plane, applied, {**TAKEN, **told}, AS_BRIDGE)


async def test_it_writes_into_no_status_of_a_job_that_has_begun(control_plane: Any, applied: str) -> None:
    await write_status(control_plane, applied, {**TAKEN, "reason": "InvalidSpec"})
    with pytest.raises(SandboxError, match="the bridge may write nothing into a status but"):
        await write_status(control_plane, applied, TAKEN, AS_BRIDGE)


LEASE: Json = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": names.BRIDGE_LEASE}}
THERE = ("-n", "outlast-system", AS_BRIDGE, "--dry-run=server", "-f", "-")


async def test_it_makes_the_lease_by_which_it_acts(control_plane: Any, installed: None) -> None:
    await control_plane.kubectl("apply", "--server-side", *THERE, stdin=json.dumps(LEASE))


@pytest.mark.parametrize(
    ("verb", "metadata"),
    [(("create",), {"name": "cdi-of-a-job"}), (("apply", "--server-side"), {"finalizers": ["else.org/kept"]})],
)
async def test_it_makes_no_other_lease(
    control_plane: Any, installed: None, verb: tuple[str, ...], metadata: Json
) -> None:
    other = LEASE | {"metadata": LEASE["metadata"] | metadata}
    with pytest.raises(SandboxError, match="the bridge may write no Lease but the one by which a bridge acts"):
        await control_plane.kubectl(*verb, *THERE, stdin=json.dumps(other))

"""What the bridge's token writes: the teardown finalizer onto SpotInstanceJobs, and nothing else of them."""

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
    """A person's job, with a finalizer and a label of theirs; gives its namespace."""
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
    """The worker does, once nothing is left."""
    held = json.dumps({"metadata": {"finalizers": ["else.org/kept", names.FINALIZER]}})
    await control_plane.kubectl("patch", "sij", "train", "-n", applied, "--type=merge", "-p", held)
    with pytest.raises(SandboxError, match="the bridge may change nothing but"):
        await patch(control_plane, applied, {"metadata": {"finalizers": ["else.org/kept"]}})
    await control_plane.kubectl("patch", "sij", "train", "-n", applied, "--type=merge", "-p", FREE)

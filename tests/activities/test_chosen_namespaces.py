"""A worker that reads the Secrets of chosen namespaces only: overlays/chosen-namespaces on a real API server."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from activities.documents.activities import SpecActivities
from activities.kubernetes.secret import Sharing
from activities.signatures import JobRef, ReleaseFinalizers
from api import names
from api.common import SecretReference
from api.timings import Timings
from clients.kube import Kube, KubeError, connect, path
from tests.activities.rights import NAMESPACE, TwoFaced
from tests.activities.world import LENT, World, run

OVERLAY = Path(__file__).parents[2] / "deploy" / "overlays" / "chosen-namespaces"
RBAC = "rbac.authorization.k8s.io/v1"


def binding(kind: str, name: str, account: str) -> dict[str, Any]:
    """Bind the ClusterRole to the account."""
    return {
        "kind": kind,
        "metadata": {"name": f"{name}-{account}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
    }


@pytest.fixture
async def narrow(control_plane: Any, kube: Kube, namespace: str, tmp_path: Path) -> AsyncIterator[Kube]:
    """Make a worker with the Secrets of this test's namespace only."""
    account = f"narrow-{secrets.token_hex(4)}"
    await kube.create(path("v1", "serviceaccounts", NAMESPACE), {"metadata": {"name": account}})
    await kube.create(path(RBAC, "clusterrolebindings"), binding("ClusterRoleBinding", "outlast-worker", account))
    chosen = binding("RoleBinding", "outlast-worker-secrets", account)
    await kube.create(path(RBAC, "rolebindings", namespace), chosen)
    config = await control_plane.account(account, NAMESPACE, tmp_path / "kubeconfig")
    async with TwoFaced(await connect(str(control_plane.kubeconfig)), await connect(str(config))) as client:
        yield client


@pytest.fixture
async def specs(narrow: Kube) -> SpecActivities:
    return SpecActivities(narrow, Timings(), grants=LENT)


async def held(kube: Kube, where: str) -> list[str]:
    return list((await kube.get(where))["metadata"].get("finalizers") or [])


async def test_a_job_holds_its_secrets_and_lets_go(world: World, specs: SpecActivities, narrow: Kube) -> None:
    where = await world.secret("registry", username="a", password="b")
    change = {"spec": {"checkpointConfig": {"checkpointRepoCredentialRef": {"name": "registry"}}}}
    await narrow.patch(world.job_path, change)
    assert (await run(specs.load_job, world.job)).problems == []
    assert await held(narrow, where) == [names.job_finalizer(world.job.job_id)]
    await run(specs.release_finalizers, ReleaseFinalizers(job=world.job))
    assert await held(narrow, where) == []


async def test_what_is_elsewhere_is_not_shared_whatever_its_annotation_says(world: World, narrow: Kube) -> None:
    body = {"metadata": {"name": f"s-{secrets.token_hex(4)}", "annotations": {names.ANNOTATION_SHARED: "*"}}}
    await narrow.create(path("v1", "secrets", "default"), body)
    theirs = SecretReference(name=body["metadata"]["name"], namespace="default")  # type: ignore[arg-type]

    async def permitted(kube: Kube) -> bool:
        return await run(lambda _: Sharing(kube).permits(theirs, world.job.namespace), None)

    assert await permitted(world.kube)
    assert not await permitted(narrow)


async def test_a_namespace_that_was_not_chosen_is_named(specs: SpecActivities, kube: Kube) -> None:
    elsewhere = await World.create(kube, await _another(kube))
    await elsewhere.secret("registry", username="a", password="b")
    change = {"spec": {"checkpointConfig": {"checkpointRepoCredentialRef": {"name": "registry"}}}}
    await kube.patch(elsewhere.job_path, change)
    with pytest.raises(KubeError, match=f'cannot get resource "secrets".* in the namespace "{_namespace(elsewhere)}"'):
        await run(specs.load_job, elsewhere.job)


async def test_the_overlay_leaves_no_right_to_all_secrets(control_plane: Any) -> None:
    made = list(yaml.safe_load_all(await control_plane.kubectl("kustomize", OVERLAY)))
    of = [each for each in made if each.get("roleRef", {}).get("name") == "outlast-worker-secrets"]
    assert {each["kind"] for each in of} == {"RoleBinding"}
    rules = [
        rule
        for each in made
        if each["kind"] == "ClusterRole" and each["metadata"]["name"] == "outlast-worker"
        for rule in each["rules"]
    ]
    assert not any("secrets" in rule["resources"] for rule in rules)


async def _another(kube: Kube) -> str:
    name = f"test-{secrets.token_hex(4)}"
    await kube.create(path("v1", "namespaces"), {"metadata": {"name": name}})
    return name


def _namespace(world: World) -> str:
    job: JobRef = world.job
    return job.namespace

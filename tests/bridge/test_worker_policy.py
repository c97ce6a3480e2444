"""What the worker's token may do beyond what RBAC can say: whose Jobs it makes, and which Secrets it reads."""

import json
from typing import Any

import pytest

from api import names
from sandbox.errors import SandboxError
from tests.bridge.policies import AS_WORKER

Json = dict[str, Any]

HELD = f"{names.PREFIX}/0a1b2c3d"
OWNER = {
    "apiVersion": names.API_VERSION,
    "kind": "SpotInstanceJob",
    "name": "train",
    "uid": "5a1f0f6e-5b53-4d0a-9c1e-1f5f9d2f3c11",
    "controller": True,
}
OWNED = {"ownerReferences": [OWNER]}
POD = {"restartPolicy": "Never", "containers": [{"name": "train", "image": "busybox"}]}
LOGIN = {".dockerconfigjson": '{"auths": {}}'}


def job(**metadata: Any) -> Json:
    metadata = {"name": "train", **metadata}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": {"spec": POD}}}


def config_map(**metadata: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "log", **metadata}, "data": {"log": "a"}}


def secret(of: str, name: str = "made", content: Json | None = None, **metadata: Any) -> Json:
    metadata = {"name": name, **metadata}
    return {"apiVersion": "v1", "kind": "Secret", "type": of, "metadata": metadata, "stringData": content or {"a": "b"}}


def pull_secret(**metadata: Any) -> Json:
    return secret("kubernetes.io/dockerconfigjson", content=LOGIN, **metadata)


def token(name: str = "bootstrap-token-abcdef") -> Json:
    content = {"token-id": "abcdef", "token-secret": "0123456789abcdef"}
    ours = {names.LABEL_JOB: "0a1b2c3d", names.LABEL_MANAGED_BY: names.MANAGED_BY}
    return secret("bootstrap.kubernetes.io/token", name, content, labels=ours)


async def create(control_plane: Any, namespace: str, manifest: Json, *options: str) -> None:
    await control_plane.kubectl("create", "-n", namespace, "-f", "-", *options, stdin=json.dumps(manifest))


async def create_as_worker(control_plane: Any, namespace: str, manifest: Json) -> None:
    await create(control_plane, namespace, manifest, AS_WORKER, "--dry-run=server")


async def patch_as_worker(control_plane: Any, namespace: str, manifest: Json, change: Json) -> None:
    """Patch what somebody else has made, as the worker."""
    await create(control_plane, namespace, manifest)
    await control_plane.kubectl(
        "patch", "-n", namespace, manifest["kind"], manifest["metadata"]["name"], "--type=merge",
        "-p", json.dumps(change), AS_WORKER,
    )  # fmt: skip


@pytest.mark.parametrize(
    "made", [job(**OWNED), config_map(**OWNED), pull_secret(**OWNED)], ids=lambda made: made["kind"]
)
async def test_it_makes_what_a_spot_instance_job_owns(
    control_plane: Any, installed: None, namespace: str, made: Json
) -> None:
    await create_as_worker(control_plane, namespace, made)


async def test_it_makes_bootstrap_tokens(control_plane: Any, installed: None) -> None:
    await create_as_worker(control_plane, "kube-system", token())


async def test_it_gives_bootstrap_tokens_more_time(control_plane: Any, installed: None) -> None:
    later = {"stringData": {"expiration": "2099-01-01T00:00:00Z"}}
    await patch_as_worker(control_plane, "kube-system", token(), later)
    await control_plane.kubectl("delete", "secret", "bootstrap-token-abcdef", "-n", "kube-system")


@pytest.mark.parametrize(
    "owners",
    [[], [{**OWNER, "controller": False}], [{**OWNER, "kind": "SpotInstanceVM"}], [{**OWNER, "apiVersion": "apps/v1"}]],
    ids=["nobody", "not the controller", "another kind", "another group"],
)
@pytest.mark.parametrize("make", [job, config_map])
async def test_it_makes_nothing_that_is_not_a_spot_instance_jobs(
    control_plane: Any, installed: None, namespace: str, make: Any, owners: list[Json]
) -> None:
    with pytest.raises(SandboxError, match="but those that a SpotInstanceJob owns"):
        await create_as_worker(control_plane, namespace, make(ownerReferences=owners))


@pytest.mark.parametrize("where", ["kube-system", "kube-public", "outlast-system"])
@pytest.mark.parametrize("make", [job, config_map])
async def test_it_makes_nothing_among_the_accounts_of_the_cluster_and_its_own(
    control_plane: Any, installed: None, make: Any, where: str
) -> None:
    with pytest.raises(SandboxError, match=f"no Jobs and no ConfigMaps in {where}"):
        await create_as_worker(control_plane, where, make(**OWNED))


async def test_it_keeps_costs_that_no_job_owns(control_plane: Any, installed: None, namespace: str) -> None:
    costs = config_map(name="outlast-costs-2026-12", labels={names.LABEL_COSTS: "true"})
    await create_as_worker(control_plane, namespace, costs)
    await patch_as_worker(control_plane, namespace, costs, {"data": {"0a1b2c3d": "{}"}})


@pytest.mark.parametrize(
    "metadata",
    [{"name": "outlast-costs-2026-12"}, {"labels": {names.LABEL_COSTS: "true"}}],
    ids=["no label", "another name"],
)
async def test_it_makes_nothing_else_by_the_name_of_costs(
    control_plane: Any, installed: None, namespace: str, metadata: Json
) -> None:
    with pytest.raises(SandboxError, match="but those that a SpotInstanceJob owns"):
        await create_as_worker(control_plane, namespace, config_map(**metadata))
    with pytest.raises(SandboxError, match="but those that a SpotInstanceJob owns"):
        await create_as_worker(control_plane, namespace, {**job(), "metadata": {"name": "train", **metadata}})


async def test_it_takes_over_nobodys_config_map(control_plane: Any, installed: None, namespace: str) -> None:
    change = {"metadata": OWNED, "data": {"log": "b"}}
    with pytest.raises(SandboxError, match="but those that a SpotInstanceJob owns"):
        await patch_as_worker(control_plane, namespace, config_map(), change)


ACCOUNT = {"kubernetes.io/service-account.name": "clusterrole-aggregation-controller"}


@pytest.mark.parametrize(
    ("where", "made"),
    [
        ("kube-system", secret("kubernetes.io/service-account-token", annotations=ACCOUNT, **OWNED)),
        ("kube-system", token("another-name")),
        ("kube-system", pull_secret(**OWNED)),
        ("default", token()),
        ("default", secret("Opaque", **OWNED)),
        ("default", pull_secret()),
    ],
    ids=["an account's token", "a token's name", "a login there", "a token elsewhere", "any other", "nobody's login"],
)
async def test_it_makes_no_other_secret(control_plane: Any, installed: None, where: str, made: Json) -> None:
    with pytest.raises(SandboxError, match="may create no Secrets but bootstrap tokens"):
        await create_as_worker(control_plane, where, made)


async def test_it_holds_any_secret(control_plane: Any, installed: None, namespace: str) -> None:
    held = {"finalizers": [HELD], "labels": {HELD: "", names.LABEL_PROTECTED: ""}, "annotations": {HELD: "a/b"}}
    await patch_as_worker(control_plane, namespace, secret("Opaque"), {"metadata": held})


async def test_it_lets_a_secret_go(control_plane: Any, installed: None, namespace: str) -> None:
    held = {"finalizers": ["else.org/a", HELD], "labels": {HELD: "", "a": "b"}, "annotations": {HELD: "a/b"}}
    free = {"finalizers": ["else.org/a"], "labels": {HELD: None}, "annotations": {HELD: None}}
    await patch_as_worker(control_plane, namespace, secret("Opaque", **held), {"metadata": free})


@pytest.mark.parametrize(
    "change",
    [{"stringData": {"a": "c"}}, {"data": None}, {"immutable": True}, {"metadata": OWNED}],
    ids=["changed", "emptied", "frozen", "owned"],
)
async def test_it_changes_the_contents_of_no_secret_that_it_has_not_made(
    control_plane: Any, installed: None, namespace: str, change: Json
) -> None:
    with pytest.raises(SandboxError, match="change the contents of no Secret"):
        await patch_as_worker(control_plane, namespace, secret("Opaque"), change)


async def test_it_takes_over_nobodys_pull_secret(control_plane: Any, installed: None, namespace: str) -> None:
    change = {"metadata": OWNED, "stringData": {".dockerconfigjson": '{"auths": {"a": {}}}'}}
    with pytest.raises(SandboxError, match="change the contents of no Secret"):
        await patch_as_worker(control_plane, namespace, pull_secret(), change)


@pytest.mark.parametrize(
    "change",
    [
        {"annotations": {names.ANNOTATION_SHARED: "*"}},
        {"annotations": {"kept": None}},
        {"labels": {"pool": "a"}},
        {"labels": {"kept": None}},
        {"finalizers": ["else.org/kept", "else.org/more"]},
        {"finalizers": []},
    ],
    ids=json.dumps,
)
async def test_it_puts_nothing_on_a_secret_and_takes_nothing_off_but_its_hold(
    control_plane: Any, installed: None, namespace: str, change: Json
) -> None:
    theirs = {"finalizers": ["else.org/kept"], "labels": {"kept": "a"}, "annotations": {"kept": "a"}}
    with pytest.raises(SandboxError, match="take nothing off, but jobs' finalizers"):
        await patch_as_worker(control_plane, namespace, secret("Opaque", **theirs), {"metadata": change})

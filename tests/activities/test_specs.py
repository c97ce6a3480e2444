"""Documents and finalizers on a real API server that knows our CRDs."""

import json
from pathlib import Path
from typing import Any

import pytest

from activities.documents.activities import SpecActivities
from activities.documents.identity import parse_grants
from activities.replicas.activities import ReplicaActivities
from activities.signatures import JobDocument, JobRef, LoadJob, PatchSpec, ReleaseFinalizers
from api import names
from api.common import SecretReference
from api.timings import Timings
from clients.kube import Kube, KubeError, path
from tests.activities.world import JOB_ID, LENT, World, run, training

ORIGIN = Path(__file__).parents[1] / "manifests" / "origin"
UNFIT = {"sample-vm": {"InvalidSpec"}}  # its placeholder for the CA's hash
HELD = f"training.dcnlab.com/{JOB_ID}"


@pytest.fixture
def specs(kube: Kube) -> SpecActivities:
    return SpecActivities(kube, Timings(retry=3), grants=LENT)


async def change(world: World, **spec: Any) -> None:
    await world.kube.patch(world.job_path, {"spec": spec})


async def load(world: World, specs: SpecActivities) -> JobDocument:
    document: JobDocument = await run(specs.load_job, world.job)
    return document


def reasons(document: JobDocument) -> list[str]:
    return [condition.reason for condition in document.problems]


async def finalizers(world: World, where: str) -> list[str]:
    found = await world.kube.find(where)
    return [] if found is None else found["metadata"].get("finalizers", [])


async def test_document_comes_with_what_it_names_and_the_workers_timings(world: World, specs: SpecActivities) -> None:
    document = await load(world, specs)
    assert (document.exists, document.deleting, document.problems) == (True, False, [])
    assert document.spec is not None
    assert document.spec.job_template == training()
    assert document.vm_spec is not None
    assert (document.vm_spec.gcp.project, document.generation, document.timings.retry) == ("p", 1, 3)


@pytest.mark.parametrize("manifest", sorted(ORIGIN.rglob("*.yaml")), ids=lambda manifest: manifest.stem)
async def test_manifest_written_for_the_origin_is_accepted(
    namespace: str, crds: None, kube: Kube, specs: SpecActivities, control_plane: Any, manifest: Path
) -> None:
    await control_plane.kubectl("apply", "-n", namespace, "-f", manifest)
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "nvidia-cdi"}
    made = json.dumps(runtime | {"metadata": {"name": "nvidia-cdi"}})  # as the GPU operator makes it
    await control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=made)
    for template in await kube.list(path(names.API_VERSION, names.TEMPLATE_PLURAL, namespace)):  # as the bridge does
        vm = {"apiVersion": names.API_VERSION, "kind": "SpotInstanceVM", "spec": template["spec"]}
        vm["metadata"] = {"name": template["metadata"]["name"]}
        await kube.create(path(names.API_VERSION, names.VM_PLURAL, namespace), vm)
    [found] = await kube.list(path(names.API_VERSION, names.JOB_PLURAL, namespace))
    metadata = found["metadata"]
    job = LoadJob(namespace=namespace, name=metadata["name"], uid=metadata["uid"], job_id=JOB_ID)
    document = await run(specs.load_job, job)
    assert document.vm_spec is not None
    problems = {condition.reason for condition in document.problems}
    made_apart = {"SecretNotFound", "SecretNotShared"}
    assert problems - made_apart == UNFIT.get(manifest.stem, set())
    await run(specs.release_finalizers, ReleaseFinalizers(job=job))


@pytest.mark.parametrize("digest", ["sha256:abc123...", "sha256:12", "0" * 64, "sha256:" + "g" * 64, ""])
async def test_placeholder_for_the_cas_hash_is_a_problem_with_its_remedy(
    world: World, specs: SpecActivities, digest: str
) -> None:
    await world.kube.patch(world.vm_path, {"spec": {"kubeadmJoinConfig": {"caCertHash": digest}}})
    document = await load(world, specs)
    assert reasons(document) == ["InvalidSpec"]
    [problem] = document.problems
    assert problem.message.startswith(
        "SpotInstanceVM spot: kubeadmJoinConfig.caCertHash is not the hash of a cluster's"
    )
    assert "leave it out" in problem.message
    await world.kube.patch(world.vm_path, {"spec": {"kubeadmJoinConfig": None}})
    assert reasons(await load(world, specs)) == []


@pytest.mark.parametrize("reference", ["token", {"name": "token"}])
async def test_join_secret_is_held_whichever_way_it_is_named(
    world: World, specs: SpecActivities, reference: Any
) -> None:
    await world.kube.patch(world.vm_path, {"spec": {"kubeadmJoinConfig": {"tokenSecretRef": reference}}})
    assert reasons(await load(world, specs)) == ["SecretNotFound"]
    secrets = path("v1", "secrets", world.job.namespace)
    await world.kube.create(
        secrets, {"metadata": {"name": "token"}, "stringData": {"token": "abcdef.0123456789abcdef"}}
    )
    assert reasons(await load(world, specs)) == []
    assert HELD in await finalizers(world, f"{secrets}/token")


@pytest.mark.parametrize("reference", [7, True, ["token"], {"name": ["token"]}])
async def test_a_reference_that_is_neither_a_name_nor_an_object_is_refused_somewhere(
    world: World, specs: SpecActivities, reference: Any
) -> None:
    """The schema types what it can, and the condition reports the rest."""
    try:
        await world.kube.patch(world.vm_path, {"spec": {"kubeadmJoinConfig": {"tokenSecretRef": reference}}})
    except KubeError as error:
        assert error.status == 422  # noqa: PT017
        return
    document = await load(world, specs)
    assert reasons(document) == ["InvalidSpec"]
    assert "tokenSecretRef" in document.problems[0].message


async def test_job_that_is_gone_does_not_exist(world: World, specs: SpecActivities) -> None:
    assert not (await run(specs.load_job, world.job.model_copy(update={"name": "other"}))).exists


async def test_job_created_again_under_the_name_is_another(world: World, specs: SpecActivities) -> None:
    assert not (await run(specs.load_job, world.job.model_copy(update={"uid": "old"}))).exists


async def test_missing_vm_is_a_problem_that_heals(world: World, specs: SpecActivities) -> None:
    vm = await world.kube.get(world.vm_path)
    await world.kube.delete(world.vm_path)
    document = await load(world, specs)
    assert reasons(document) == ["VMNotFound"]
    assert f"{world.job.namespace}/spot" in document.problems[0].message
    again = {"apiVersion": vm["apiVersion"], "kind": vm["kind"], "metadata": {"name": "spot"}, "spec": vm["spec"]}
    await world.kube.create(world.path(names.API_VERSION, names.VM_PLURAL), again)
    assert reasons(await load(world, specs)) == []


async def test_a_spec_too_large_for_temporal_is_told_and_not_handed_on(world: World, specs: SpecActivities) -> None:
    await world.kube.patch(world.vm_path, {"spec": {"startupScript": "#" * 600_000}})
    document = await load(world, specs)
    assert reasons(document) == ["TooLarge"]
    assert document.vm_spec is None


async def test_missing_secret_is_named_with_the_field(world: World, specs: SpecActivities) -> None:
    await change(world, gcpCredentialsSecretRef={"name": "gcp"})
    document = await load(world, specs)
    assert reasons(document) == ["SecretNotFound"]
    assert f"{world.job.namespace}/gcp" in document.problems[0].message
    assert "gcpCredentialsSecretRef" in document.problems[0].message


async def test_secret_without_its_key_is_a_problem(world: World, specs: SpecActivities) -> None:
    await world.secret("gcp", key="x")
    await change(world, gcpCredentialsSecretRef={"name": "gcp"})
    document = await load(world, specs)
    assert reasons(document) == ["SecretIncomplete"]
    assert "credentials.json" in document.problems[0].message


async def with_template(world: World, kube: Kube, job_template: dict[str, Any]) -> World:
    """Create the same job with another template, because a template cannot be changed."""
    spec = (await kube.get(world.job_path))["spec"] | {"jobTemplate": job_template}
    body = {"apiVersion": names.API_VERSION, "kind": "SpotInstanceJob", "metadata": {"name": "second"}, "spec": spec}
    made = await kube.create(world.path(names.API_VERSION, names.JOB_PLURAL), body)
    job = world.job.model_copy(update={"name": "second", "uid": made["metadata"]["uid"]})
    return World(kube, job)


@pytest.mark.parametrize(
    ("container", "says"),
    [
        ({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}, "data"),
        ({"imagee": "x"}, "imagee"),
        ({"resources": {"limits": {"cpu": "much"}}}, "quantities"),
    ],
)
async def test_template_that_the_api_would_refuse_is_told_before(
    world: World, specs: SpecActivities, kube: Kube, container: dict[str, Any], says: str
) -> None:
    document = await load(await with_template(world, kube, training(**container)), specs)
    assert reasons(document) == ["InvalidJobTemplate"]
    assert says in document.problems[0].message


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"activeDeadlineSeconds": -1}, "activeDeadlineSeconds"),
        ({"podFailurePolicy": {"rules": [{"action": "FailJob"}]}}, "OnExitCodes"),
        ({"podFailurePolicy": {"rules": [{"action": "Fail", "onPodConditions": [{"type": "X"}]}]}}, "FailJob"),
        ({"podFailurePolicy": {"rules": [{"action": "FailIndex", "onPodConditions": [{"type": "X"}]}]}}, "FailJob"),
        ({"successPolicy": {"rules": [{"succeededCount": 1}]}}, "spec.completionPolicy"),
    ],
)
async def test_what_the_workflow_does_in_the_controllers_place_is_judged_as_well(
    world: World, specs: SpecActivities, kube: Kube, words: dict[str, Any], says: str
) -> None:
    template = training()
    template["spec"] |= words
    document = await load(await with_template(world, kube, template), specs)
    assert reasons(document)[0] == "InvalidJobTemplate"
    assert says in document.problems[0].message


async def test_a_careful_users_job_is_accepted(world: World, specs: SpecActivities, kube: Kube) -> None:
    template, fatal = training(), {"containerName": "trainer", "operator": "In", "values": [42]}
    rules = [
        {"action": "FailJob", "onExitCodes": fatal},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
    ]
    template["spec"] |= {"activeDeadlineSeconds": 300, "backoffLimit": 4, "podFailurePolicy": {"rules": rules}}
    assert reasons(await load(await with_template(world, kube, template), specs)) == []


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"progress": {"logPattern": "step=("}}, "logPattern"),
        ({"progress": {"logPattern": r"(\d+) of (\d+)"}}, "2 groups"),
        ({"restoreFrom": "Not An Image"}, "restoreFrom"),
    ],
)
async def test_what_no_schema_can_refuse_is_a_problem(
    world: World, specs: SpecActivities, config: dict[str, Any], says: str
) -> None:
    await change(world, checkpointConfig=config)
    document = await load(world, specs)
    assert reasons(document) == ["InvalidSpec"]
    assert says in document.problems[0].message


async def test_what_the_teardown_needs_is_held_and_found_again(world: World, specs: SpecActivities, kube: Kube) -> None:
    gcp, ssh = await world.secret("gcp", **{"credentials.json": "{}"}), await world.secret("ssh", ssh_privatekey="k")
    join = await world.secret("kubeadm-join-token", token="t")
    await change(world, gcpCredentialsSecretRef={"name": "gcp"})
    await kube.patch(world.vm_path, {"spec": {"sshKeySecretRef": {"name": "ssh"}}})
    await load(world, specs)
    await load(world, specs)
    for where in (gcp, ssh, join, world.vm_path):
        assert await finalizers(world, where) == [HELD]
    await change(world, gcpCredentialsSecretRef=None)  # what it named before stays protected
    await run(specs.release_finalizers, ReleaseFinalizers(job=world.job))
    for where in (gcp, ssh, join, world.vm_path):
        assert await finalizers(world, where) == []


async def test_a_join_token_of_ones_own_is_warned_of(world: World, specs: SpecActivities) -> None:
    """The token is in kubeadm's group, so it makes any Node: nothing is wrong, but a person should know."""
    assert (await load(world, specs)).warnings == []
    await world.secret("kubeadm-join-token", token="t")
    document = await load(world, specs)
    assert document.problems == []
    (warning,) = document.warnings
    assert f"the token in Secret {world.job.namespace}/kubeadm-join-token" in warning
    assert "any Node of the cluster" in warning


async def test_a_probe_that_is_changed_is_warned_of(world: World, specs: SpecActivities, kube: Kube) -> None:
    probed = training()
    probed["spec"]["template"]["spec"]["containers"][0]["livenessProbe"] = {"exec": {"command": ["true"]}}
    await change(world, jobTemplate=probed)
    document = await load(world, specs)
    assert document.problems == []
    (warning,) = document.warnings
    assert "livenessProbe.failureThreshold 3 to" in warning
    assert "spec.stallTimeout" in warning


async def test_secret_of_another_namespace_is_held_and_let_go(world: World, specs: SpecActivities, kube: Kube) -> None:
    shared = {names.ANNOTATION_SHARED: world.job.namespace}
    body = {"metadata": {"generateName": "gcp-", "annotations": shared}, "data": {"credentials.json": "e30="}}
    made = await kube.create("/api/v1/namespaces/default/secrets", body)
    where = f"/api/v1/namespaces/default/secrets/{made['metadata']['name']}"
    reference = SecretReference(name=made["metadata"]["name"], namespace="default")
    await change(world, gcpCredentialsSecretRef=reference.model_dump())
    assert reasons(await load(world, specs)) == []
    assert await finalizers(world, where) == [HELD]
    await run(specs.release_finalizers, ReleaseFinalizers(job=world.job))
    assert await finalizers(world, where) == []
    await kube.delete(where)


async def test_finalizer_of_another_job_stays(world: World, specs: SpecActivities, kube: Kube) -> None:
    other = "training.dcnlab.com/ffffffff"
    await kube.patch(world.vm_path, {"metadata": {"finalizers": [other]}})
    await load(world, specs)
    await run(specs.release_finalizers, ReleaseFinalizers(job=world.job, vm_name="spot"))
    assert await finalizers(world, world.vm_path) == [other]
    await kube.patch(world.vm_path, {"metadata": {"finalizers": None}})


async def test_secret_being_deleted_is_missing(world: World, specs: SpecActivities, kube: Kube) -> None:
    where = await world.secret("gcp", **{"credentials.json": "{}"})
    await kube.patch(where, {"metadata": {"finalizers": ["example.com/other"]}})
    await kube.delete(where)
    await change(world, gcpCredentialsSecretRef={"name": "gcp"})
    assert reasons(await load(world, specs)) == ["SecretNotFound"]
    await kube.patch(where, {"metadata": {"finalizers": None}})


async def test_deleted_job_is_let_go_last(world: World, specs: SpecActivities, kube: Kube) -> None:
    await kube.patch(world.job_path, {"metadata": {"finalizers": [names.FINALIZER]}})
    await load(world, specs)
    await kube.delete(world.job_path)
    document = await load(world, specs)
    assert (document.exists, document.deleting) == (True, True)
    assert document.vm_spec is not None
    request = ReleaseFinalizers(
        job=world.job, vm_name="spot", secrets=[SecretReference(name="never-there", namespace="nowhere")]
    )
    await run(specs.release_finalizers, request)
    assert await kube.find(world.job_path) is None
    await run(specs.release_finalizers, request)


async def test_deleting_job_takes_hold_of_nothing(world: World, specs: SpecActivities, kube: Kube) -> None:
    await kube.patch(world.job_path, {"metadata": {"finalizers": [names.FINALIZER]}})
    await kube.delete(world.job_path)
    await load(world, specs)
    assert await finalizers(world, world.vm_path) == []
    await run(specs.release_finalizers, ReleaseFinalizers(job=world.job))


async def test_release_leaves_a_job_of_another_uid_alone(world: World, specs: SpecActivities, kube: Kube) -> None:
    await kube.patch(world.job_path, {"metadata": {"finalizers": [names.FINALIZER]}})
    await run(specs.release_finalizers, ReleaseFinalizers(job=world.job.model_copy(update={"uid": "old"})))
    assert await finalizers(world, world.job_path) == [names.FINALIZER]
    await kube.patch(world.job_path, {"metadata": {"finalizers": None}})


async def test_a_request_becomes_the_spec(world: World, specs: SpecActivities) -> None:
    await run(specs.patch_spec, PatchSpec(job=world.job, replicas=3, suspend=True))
    await run(specs.patch_spec, PatchSpec(job=world.job, suspend=False))
    spec = (await load(world, specs)).spec
    assert spec is not None
    assert (spec.replicas, spec.suspend) == (3, False)


@pytest.mark.parametrize("other", [{"uid": "old"}, {"name": "gone"}])
async def test_a_request_to_another_job_is_dropped(world: World, specs: SpecActivities, other: dict[str, str]) -> None:
    await run(specs.patch_spec, PatchSpec(job=world.job.model_copy(update=other), replicas=3))
    spec = (await load(world, specs)).spec
    assert spec is not None
    assert spec.replicas == 2


async def test_stock_is_what_carries_the_jobs_id(world: World, specs: SpecActivities, kube: Kube) -> None:
    replicas = ReplicaActivities(kube, world.job.namespace)
    await run(replicas.create_replica, world.create_replica())
    await run(replicas.create_replica, world.create_replica(incarnation=2))
    made = names.vm_name(names.vm_key(JOB_ID, 0, 1), 1)
    labels = {names.LABEL_JOB: JOB_ID, "topology.kubernetes.io/zone": "us-central1-b"}
    await kube.create("/api/v1/nodes", {"metadata": {"name": made, "labels": labels}})
    entries = [
        {"name": names.vm_name(names.vm_key(job, 1, 1), 2), "zone": "us-east1-c"} for job in (JOB_ID, "ffffffff")
    ]
    await kube.patch(f"{world.vm_path}/status", {"status": {"provisionedInstances": entries}})
    stock = await run(specs.take_stock, world.job)
    assert (stock.jobs, stock.replicas, stock.checkpoints) == (
        ["resnet-0a1b2c3d-r0-i1", "resnet-0a1b2c3d-r0-i2"],
        [(0, 1), (0, 2)],
        [],
    )
    assert stock.nodes == [made]
    assert stock.machines == [f"us-central1-b/{made}", f"us-east1-c/outlast-{JOB_ID}-r1-v1-t2"]
    await kube.delete(f"/api/v1/nodes/{made}")


async def test_a_node_that_labels_itself_as_another_jobs_is_not_in_its_stock(
    world: World, specs: SpecActivities, kube: Kube
) -> None:
    """Root there may write that label, and the other job would wait for the Node to go."""
    other = names.vm_name(names.vm_key("ffffffff", 0, 1), 1)
    await kube.create("/api/v1/nodes", {"metadata": {"name": other, "labels": {names.LABEL_JOB: JOB_ID}}})
    stock = await run(specs.take_stock, world.job)
    assert (stock.nodes, stock.machines) == ([], [])
    await kube.delete(f"/api/v1/nodes/{other}")


async def test_a_copy_of_a_checkpoint_by_another_name_is_not_in_the_stock(
    world: World, specs: SpecActivities, kube: Kube
) -> None:
    where = path("migration.dcnlab.com/v1", "checkpointbackups", world.job.namespace)
    ours = names.checkpoint_name(world.job.name, JOB_ID, 3)
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "namespace": world.job.namespace}
    spec = {"schedule": "immediately", "podRef": {"name": "p", "namespace": "n"}, "resourceRef": reference}
    for name in (ours, "copy", f"copy-{JOB_ID}-c4"):
        metadata = {"name": name, "labels": {names.LABEL_JOB: JOB_ID}}
        backup = {
            "apiVersion": "migration.dcnlab.com/v1",
            "kind": "CheckpointBackup",
            "metadata": metadata,
            "spec": spec,
        }
        await kube.create(where, backup)
    assert (await run(specs.take_stock, world.job)).checkpoints == [ours]


async def test_job_without_anything_has_no_stock(world: World, specs: SpecActivities) -> None:
    other = JobRef(namespace=world.job.namespace, name="resnet", uid="u", job_id="ffffffff")
    stock = await run(specs.take_stock, other)
    assert (stock.jobs, stock.replicas, stock.checkpoints, stock.nodes) == ([], [], [], [])


# --- the worker's own identity


async def test_no_project_and_no_bucket_is_reached_as_the_worker_unless_it_is_lent(world: World) -> None:
    storage = {"type": "gcs", "bucket": "theirs"}
    await world.kube.patch(world.job_path, {"spec": {"checkpointConfig": {"checkpointStorage": storage}}})
    closed = await run(SpecActivities(world.kube, Timings()).load_job, world.job)
    assert [each.wanted for each in closed.not_lent] == ["gcp://p", "gs://theirs"]
    line = f"{world.job.namespace}: gcp://p gs://theirs"
    lent = SpecActivities(world.kube, Timings(), grants=parse_grants(line, own=""))
    assert (await run(lent.load_job, world.job)).not_lent == []
    own = SpecActivities(world.kube, Timings(), grants=parse_grants("", own=world.job.namespace))
    assert (await run(own.load_job, world.job)).not_lent == []


async def test_a_secret_of_ones_own_needs_no_grant(world: World) -> None:
    await world.secret("gcp", **{"credentials.json": "e30="})
    await world.kube.patch(world.job_path, {"spec": {"gcpCredentialsSecretRef": {"name": "gcp"}}})
    assert (await run(SpecActivities(world.kube, Timings()).load_job, world.job)).not_lent == []


async def test_a_request_is_read_with_the_job(world: World, specs: SpecActivities, kube: Kube) -> None:
    assert (await load(world, specs)).request is None
    for value, read in (("checkpoint-now 1", "checkpoint-now 1"), ("x" * 9000, "x" * 257)):
        await kube.patch(world.job_path, {"metadata": {"annotations": {names.ANNOTATION_REQUEST: value}}})
        assert (await load(world, specs)).request == read
    await kube.patch(world.job_path, {"metadata": {"annotations": None}})


async def test_specs_that_are_known_are_not_given_again(world: World, specs: SpecActivities) -> None:
    first = await run(specs.load_job, world.job)
    assert first.spec is not None
    again = await run(specs.load_job, world.job.model_copy(update={"known": first.digest}))
    assert (again.spec, again.vm_spec, again.unchanged) == (None, None, True)
    assert (again.generation, again.problems) == (first.generation, first.problems)
    await run(specs.patch_spec, PatchSpec(job=world.job, replicas=3))
    edited = await run(specs.load_job, world.job.model_copy(update={"known": first.digest}))
    assert edited.spec is not None
    assert not edited.unchanged

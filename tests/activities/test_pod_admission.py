"""Pods that would be refused: a real API server answers the worker's own ServiceAccount."""

from collections.abc import Callable
from typing import Any

import pytest

from activities.documents.activities import SpecActivities
from activities.preflight.pod_admission import PodAdmission, PodAdmissionActivities
from activities.replicas.activities import ReplicaActivities
from activities.signatures import CheckPod, CreateReplica, PodVerdict
from api import names
from api.common import SecretReference
from api.timings import Timings
from clients.kube import KubeError, connect, path
from tests.activities.rights import acting
from tests.activities.world import JOB_ID, LENT, World, eventually, run, training

Json = dict[str, Any]
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
PULL = "train-pull"


def pod(**spec: Any) -> Json:
    """Make a template of the training with more in its pod's spec."""
    template = training()
    template["spec"]["template"]["spec"] |= spec
    return template


def asked(world: World, template: Json | None = None, **more: Any) -> CreateReplica:
    return world.create_replica("any", bought=True, job_template=template or training(), **more)


async def check(world: World, template: Json | None = None, **more: Any) -> PodVerdict:
    verdict: PodVerdict = await run(
        PodAdmissionActivities(world.kube).check_pod, CheckPod(incarnation=asked(world, template, **more))
    )
    return verdict


async def until(world: World, judged: Callable[[PodVerdict], bool], template: Json | None = None) -> PodVerdict:
    """Wait until the API server heeds what was just made."""

    async def look() -> PodVerdict | None:
        verdict = await check(world, template)
        return verdict if judged(verdict) else None

    return await eventually("the API server has heard of it", look)


def refused(verdict: PodVerdict) -> bool:
    return not verdict.admitted


async def quota(world: World, name: str = "gpus", **hard: str) -> str:
    """Make a ResourceQuota, and wait until the cluster's controller has counted it."""
    body = {
        "metadata": {"name": name},
        "spec": {"hard": {key.replace("_", "/"): amount for key, amount in hard.items()}},
    }
    await world.kube.create(world.path("v1", "resourcequotas"), body)
    where = world.path("v1", "resourcequotas", name)

    async def counted() -> bool:
        return "used" in ((await world.kube.get(where)).get("status") or {})

    await eventually("the quota is counted", counted)
    return where


# --- what is refused, in whose words, and what helps


async def test_a_pod_that_fits_is_admitted_and_nothing_is_made(world: World) -> None:
    assert await check(world) == PodVerdict(admitted=True)
    for version, plural in (("v1", "pods"), ("batch/v1", "jobs")):
        assert await world.kube.list(world.path(version, plural)) == []


async def test_pod_security_names_the_fields_and_the_namespaces_label(world: World) -> None:
    await world.kube.patch(path("v1", "namespaces", name=world.job.namespace), {"metadata": {"labels": RESTRICTED}})
    verdict = await until(world, refused)
    assert verdict.reason == "PodRefused"
    assert 'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false' in verdict.message
    assert "pod-security.kubernetes.io/enforce" in verdict.message


async def test_a_quota_is_named_with_what_it_leaves(world: World) -> None:
    await quota(world, pods="0")
    verdict = await until(world, refused)
    assert "exceeded quota: gpus, requested: pods=1, used: pods=0, limited: pods=0" in verdict.message
    assert f"Raise ResourceQuota {world.job.namespace}/gpus" in verdict.message


async def test_a_quota_that_demands_requests_says_which(world: World) -> None:
    await quota(world, **{"requests.cpu": "8"})
    verdict = await until(world, refused)
    assert "must specify requests.cpu for: trainer" in verdict.message
    assert "jobTemplate.spec.template.spec" in verdict.message
    main = {"name": "trainer", "image": "i", "resources": {"requests": {"cpu": "2"}}}
    assert (await check(world, pod(containers=[main]))).admitted


async def test_a_quota_of_jobs_refuses_the_job(world: World) -> None:
    await quota(world, **{"count/jobs.batch": "0"})
    verdict = await until(world, refused)
    assert verdict.reason == "PodRefused"
    assert "exceeded quota: gpus, requested: count/jobs.batch=1" in verdict.message


async def test_a_limit_range_says_what_is_too_much(world: World) -> None:
    most = {"type": "Container", "max": {"memory": "1Gi"}}
    body = {"metadata": {"name": "small"}, "spec": {"limits": [most]}}
    await world.kube.create(world.path("v1", "limitranges"), body)
    main = {"name": "trainer", "image": "i", "resources": {"limits": {"memory": "80Gi"}}}
    verdict = await until(world, refused, pod(containers=[main]))
    assert "maximum memory usage per Container is 1Gi, but limit is 80Gi" in verdict.message
    assert "LimitRange" in verdict.message


@pytest.mark.parametrize(
    ("spec", "says", "helps"),
    [
        ({"priorityClassName": "gone"}, "no PriorityClass with name gone was found", "Create PriorityClass gone"),
        ({"serviceAccountName": "gone"}, 'serviceaccount "gone" not found', "serviceAccountName"),
        ({"runtimeClassName": "gone"}, 'RuntimeClass "gone" not found', "Create RuntimeClass gone"),
    ],
)
async def test_what_the_pod_names_and_is_not_there_is_told(world: World, spec: Json, says: str, helps: str) -> None:
    verdict = await check(world, pod(**spec))
    assert (verdict.admitted, verdict.reason) == (False, "PodRefused")
    assert says in verdict.message
    assert helps in verdict.message


async def test_it_heals_when_the_missing_account_appears(world: World) -> None:
    template = pod(serviceAccountName="later")
    assert refused(await check(world, template))
    await world.kube.create(world.path("v1", "serviceaccounts"), {"metadata": {"name": "later"}})
    await until(world, lambda verdict: verdict.admitted, template)


async def test_the_same_refusal_has_the_same_words_each_time(world: World) -> None:
    first, second = [await check(world, pod(priorityClassName="gone")) for _ in range(2)]
    assert first == second


async def test_no_word_is_said_of_an_object_that_was_never_made(world: World) -> None:
    verdict = await check(world, pod(priorityClassName="gone"))
    assert "-asked" not in verdict.message


# --- the pod as it will be


async def test_the_pod_is_asked_for_as_it_will_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the buyer's toleration, the pull Secret, the identity's volume and the Job's labels and owner."""
    asked_for: list[Json] = []
    create = world.kube.create

    async def note(where: str, body: Json, **query: Any) -> Json:
        asked_for.append(body)
        assert query["dryRun"] == "All"
        return await create(where, body, **query)

    monkeypatch.setattr(world.kube, "create", note)
    with acting():
        await PodAdmission(world.kube).judge(asked(world, image_pull=SecretReference(name="registry")))
    made = asked_for[-1]
    assert made["kind"] == "Pod"
    assert made["metadata"]["labels"].keys() >= {names.LABEL_JOB, "batch.kubernetes.io/job-name"}
    assert made["metadata"]["ownerReferences"][0]["kind"] == "Job"
    spec = made["spec"]
    assert {"name": names.pull_secret_name("resnet", JOB_ID)} in spec["imagePullSecrets"]
    assert any(each.get("value") == JOB_ID for each in spec["tolerations"])
    assert any(each["name"] == "outlast-identity" for each in spec["volumes"])
    assert spec["restartPolicy"] == "Never"


# --- a replica's own pods


async def test_a_pod_that_frees_the_place_of_its_replacement_keeps_it_from_nothing(world: World) -> None:
    replicas = ReplicaActivities(world.kube, world.job.namespace)
    await run(replicas.create_replica, world.create_replica(incarnation=1))

    async def made() -> list[Json]:
        return await world.kube.list(world.path("v1", "pods"))

    await eventually("the pod is made", made)
    await quota(world, pods="1")
    assert (await check(world, incarnation=2)).admitted
    verdict = await check(world, replica=1)
    assert refused(verdict)
    assert "used: pods=1, limited: pods=1" in verdict.message


async def test_a_quota_has_to_have_room_for_the_pods_of_other_replicas(world: World) -> None:
    await quota(world, pods="2")
    question = CheckPod(incarnation=asked(world), waiting=[1])
    activities = PodAdmissionActivities(world.kube)
    assert (await run(activities.check_pod, question)).admitted
    verdict = await run(activities.check_pod, question.model_copy(update={"waiting": [1, 2]}))
    assert refused(verdict)
    assert "exceeded quota: gpus, requested: pods=3, used: 0, limited: 2" in verdict.message
    assert f"Raise ResourceQuota {world.job.namespace}/gpus" in verdict.message


async def test_a_quota_without_room_for_all_replicas_is_a_warning(world: World) -> None:
    """The job is accepted, because one replica can train."""
    await quota(world, pods="1")
    document = await run(SpecActivities(world.kube, Timings(), grants=LENT).load_job, world.job)
    assert document.problems == []
    (warning,) = document.warnings
    assert "not all replicas can run: exceeded quota: gpus, requested: pods=2, used: 0, limited: 1" in warning


async def test_a_quota_has_to_have_room_for_all_members_of_a_gang(world: World) -> None:
    await quota(world, pods="3")
    assert (await check(world, members=3)).admitted
    verdict = await check(world, members=4)
    assert refused(verdict)
    assert "refuses the pods of all 4 members: exceeded quota: gpus, requested: pods=4" in verdict.message


# --- who cannot answer, and who cannot ask


def webhook(world: World) -> Json:
    """Register a webhook on the pods of the test's namespace, at an address without a server."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": world.job.namespace},
        "webhooks": [
            {
                "name": "pods.team.example",
                "clientConfig": {"url": "https://127.0.0.1:1/pods"},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.job.namespace}},
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }


async def test_a_webhook_that_does_not_answer_is_a_refusal(world: World) -> None:
    """The pod itself would be refused as well: its failurePolicy says so."""
    where = path("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations")
    await world.kube.create(where, webhook(world))
    try:
        verdict = await until(world, refused)
    finally:
        await world.kube.delete(f"{where}/{world.job.namespace}")
    assert verdict.reason == "PodRefused"
    assert 'failed calling webhook "pods.team.example"' in verdict.message
    assert "Nobody can make pods here until webhook pods.team.example answers again" in verdict.message


@pytest.mark.parametrize("kind", ["Job", "Pod"])
async def test_a_webhook_that_cannot_dry_run_is_a_warning(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Only webhooks that an upgrade kept from v1beta1 are like this. This API server accepts no new ones."""
    create = world.kube.create

    async def answer(where: str, body: Json, **query: Any) -> Json:
        if body["kind"] == kind:
            said = 'admission webhook "pods.team.example" does not support dry run'
            raise KubeError(400, {"reason": "BadRequest", "message": said})
        return await create(where, body, **query)

    monkeypatch.setattr(world.kube, "create", answer)
    verdict = await check(world)
    assert verdict.admitted
    assert 'webhook "pods.team.example" does not support dry run' in verdict.warning
    assert "sideEffects: None" in verdict.warning
    document = await run(SpecActivities(world.kube, Timings(), grants=LENT).load_job, world.job)
    assert (document.problems, document.warnings) == ([], [verdict.warning])


async def test_a_worker_without_the_right_says_so_and_buys(world: World, control_plane: Any, tmp_path: Any) -> None:
    """So it is on Kubernetes before 1.30, because no policy could restrict it to dry runs."""
    await world.kube.create(world.path("v1", "serviceaccounts"), {"metadata": {"name": "no-rights"}})
    config = await control_plane.account("no-rights", world.job.namespace, tmp_path / "kubeconfig")
    binding = {
        "metadata": {"name": "jobs"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "outlast-worker"},
        "subjects": [{"kind": "ServiceAccount", "name": "no-rights", "namespace": world.job.namespace}],
    }
    await world.kube.create(world.path("rbac.authorization.k8s.io/v1", "rolebindings"), binding)
    async with await connect(str(config)) as kube:

        async def may_make_jobs() -> PodVerdict | None:
            verdict = await PodAdmission(kube).judge(asked(world))
            return verdict if verdict.admitted else None

        verdict = await eventually("the account has its rights", may_make_jobs)
    assert "the worker may not ask" in verdict.warning


# --- the document


async def test_the_document_tells_what_keeps_its_pod_from_being_made(world: World) -> None:
    specs = SpecActivities(world.kube, Timings(), grants=LENT)
    assert (await run(specs.load_job, world.job)).problems == []
    await quota(world, pods="0")
    await until(world, refused)
    [problem] = (await run(specs.load_job, world.job)).problems
    assert (problem.type, problem.status, problem.reason) == ("Accepted", "False", "PodRefused")
    assert "ResourceQuota" in problem.message


# --- the worker's right


async def test_the_worker_makes_no_pod(world: World) -> None:
    """What it may ask as itself by a dry run, it may not do."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "mine"},
        "spec": training()["spec"]["template"]["spec"],
    }
    where = world.path("v1", "pods")

    async def make(**query: str) -> None:
        with acting():
            await world.kube.create(where, body, **query)

    await make(dryRun="All")
    with pytest.raises(KubeError, match="may make and change no pods, and only ask by a dry run") as told:
        await make()
    assert told.value.status == 403
    assert await world.kube.list(where) == []

"""Jobs, pods and CheckpointBackups as the API server sends them → what workflows see of them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from api.gang import LARGEST
from api.projections import checkpoint_view, pod_view, replica_view
from api.views import ReplicaView, evicted_by_api

Json = dict[str, Any]

STARTED = "2026-01-02T03:04:05Z"
FINISHED = "2026-01-02T04:04:05Z"


def pod(status: Json | None = None, spec: Json | None = None, **metadata: Any) -> Json:
    return {"metadata": {"name": "p", "uid": "u", **metadata}, "spec": spec or {}, "status": status or {}}


def container(name: str = "main", **state: Json) -> Json:
    return {"name": name, "state": state}


def ended(code: int, name: str = "main", **more: Any) -> Json:
    return container(name, terminated={"exitCode": code, "startedAt": STARTED, "finishedAt": FINISHED, **more})


def running(name: str = "main", at: str = STARTED) -> Json:
    return container(name, running={"startedAt": at})


def waiting(reason: str, message: str = "") -> Json:
    return container(waiting={"reason": reason, "message": message})


def job(*, suspend: bool, labels: Json | None = None, writers: dict[str, list[str]] | None = None) -> Json:
    """Make a Job whose fields were written by these managers, one after the other."""
    managed = [
        {
            "manager": who,
            "time": f"2026-01-0{day}T00:00:00Z",
            "fieldsV1": {"f:spec": {f"f:{each}": {} for each in fields}},
        }
        for day, (who, fields) in enumerate((writers or {}).items(), 1)
    ]
    return {
        "metadata": {"name": "j", "uid": "u", "labels": labels or {}, "managedFields": managed},
        "spec": {"suspend": suspend},
    }


def test_a_suspended_job_says_which_queue_it_is_in() -> None:
    view = replica_view("j", job(suspend=True, labels={"kueue.x-k8s.io/queue-name": "research"}), [])
    assert (view.suspended, view.queue, view.suspended_by) == (True, "research", None)


@pytest.mark.parametrize(
    ("writers", "who"),
    [
        ({"worker": ["backoffLimit", "suspend"]}, None),
        ({"worker": ["backoffLimit"], "kubectl-patch": ["suspend"]}, "kubectl-patch"),
        ({"worker": ["backoffLimit"], "kueue": ["suspend"], "kubectl-edit": ["suspend"]}, "kubectl-edit"),
        ({"worker": ["backoffLimit"]}, None),
        ({}, None),
    ],
)
def test_who_suspended_a_job_is_whoever_wrote_that_last(writers: dict[str, list[str]], who: str | None) -> None:
    assert replica_view("j", job(suspend=True, writers=writers), []).suspended_by == who
    assert replica_view("j", job(suspend=False, writers=writers), []).suspended_by is None


def test_pod_without_status_is_pending() -> None:
    view = pod_view(pod())
    assert (view.phase, view.node, view.exit_code, view.started_at) == ("Pending", None, None, None)


def test_running_pod_started_with_its_last_container() -> None:
    later = "2026-01-02T03:05:00Z"
    status = {"phase": "Running", "containerStatuses": [running("a"), running("b", at=later)]}
    assert pod_view(pod(status)).started_at == datetime(2026, 1, 2, 3, 5, tzinfo=UTC)


def test_pod_has_not_started_while_one_container_waits() -> None:
    status = {"containerStatuses": [running("a"), waiting("ContainerCreating")]}
    assert pod_view(pod(status)).started_at is None


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([ended(0)], 0),
        ([ended(0, "a"), ended(3, "b"), ended(4, "c")], 3),
        ([ended(0, "a"), running("b")], None),
        ([ended(7, "a"), running("b")], 7),
        ([], None),
    ],
)
def test_exit_code_is_that_of_the_first_failure_else_zero_once_all_ended(statuses: list[Json], code: int) -> None:
    assert pod_view(pod({"containerStatuses": statuses})).exit_code == code


def test_each_containers_end_is_told_while_others_run_on() -> None:
    status = {"phase": "Running", "containerStatuses": [ended(0, "a", reason="Completed"), running("b"), ended(7, "c")]}
    view = pod_view(pod(status))
    assert [(end.name, end.exit_code, end.message) for end in view.ends] == [("a", 0, "Completed"), ("c", 7, None)]
    assert view.ends[0].finished_at == datetime(2026, 1, 2, 4, 4, 5, tzinfo=UTC)


def test_sidecars_and_init_containers_that_ended_well_are_no_ends() -> None:
    init = [ended(0, "download"), ended(1, "check"), ended(137, "proxy")]
    status = {"phase": "Failed", "initContainerStatuses": init, "containerStatuses": [ended(0)]}
    spec = {"initContainers": [{"name": "download"}, {"name": "check"}, {"name": "proxy", "restartPolicy": "Always"}]}
    assert [(end.name, end.init) for end in pod_view(pod(status, spec)).ends] == [("check", True), ("main", False)]


@pytest.mark.parametrize(
    ("own", "code", "phase", "names"),
    [
        ({"restartPolicy": "Always"}, 0, "Running", []),
        ({"restartPolicy": "OnFailure"}, 1, "Running", []),
        ({"restartPolicy": "OnFailure"}, 0, "Running", ["main"]),
        ({"restartPolicy": "Never"}, 1, "Running", ["main"]),
        ({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart"}]}, 1, "Running", []),
        ({"restartPolicy": "OnFailure"}, 1, "Failed", ["main"]),
    ],
)
def test_a_container_that_is_started_again_has_not_ended(own: Json, code: int, phase: str, names: list[str]) -> None:
    status = {"phase": phase, "containerStatuses": [ended(code), running("b")]}
    assert [end.name for end in pod_view(pod(status, {"containers": [{"name": "main", **own}]})).ends] == names


def test_conditions_are_seen_once_something_has_ended() -> None:
    ready = {"type": "Ready", "status": "True"}
    broken = {"type": "ConfigIssue", "status": "True"}
    assert pod_view(pod({"phase": "Running", "conditions": [ready, broken]})).conditions == {}
    view = pod_view(pod({"phase": "Failed", "reason": "DeadlineExceeded", "conditions": [ready, broken]}))
    assert view.conditions == {"Ready": "True", "ConfigIssue": "True"}
    assert view.reason == "DeadlineExceeded"


def test_last_words_are_shortened() -> None:
    status = {"phase": "Failed", "containerStatuses": [ended(1, message="x" * 4096)]}
    assert len(pod_view(pod(status)).ends[0].message or "") == 256


def test_container_that_its_runtime_could_not_start_has_not_started() -> None:
    state = {"exitCode": 128, "reason": "StartError", "startedAt": "1970-01-01T00:00:00Z", "finishedAt": FINISHED}
    status = {"phase": "Failed", "containerStatuses": [container("train", terminated=state)]}
    assert pod_view(pod(status)).started_at is None


def test_failed_init_container_gives_the_exit_code() -> None:
    status = {"initContainerStatuses": [ended(9, "init")], "containerStatuses": [waiting("PodInitializing")]}
    assert pod_view(pod(status)).exit_code == 9


def test_code_of_a_stopped_sidecar_does_not_count() -> None:
    status = {"initContainerStatuses": [ended(137, "proxy")], "containerStatuses": [ended(0)]}
    spec = {"initContainers": [{"name": "proxy", "restartPolicy": "Always"}]}
    assert pod_view(pod(status, spec)).exit_code == 0


def test_finished_pod_says_when() -> None:
    view = pod_view(pod({"phase": "Succeeded", "containerStatuses": [ended(0)]}))
    assert view.finished_at == datetime(2026, 1, 2, 4, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "reason", ["Terminated", "NodeShutdown", "Evicted", "Preempting", "OutOfnvidia.com/gpu", "UnexpectedAdmissionError"]
)
def test_pod_ended_by_its_node_is_disrupted(reason: str) -> None:
    assert pod_view(pod({"phase": "Failed", "reason": reason, "message": "m"})).disrupted


def test_disruption_target_is_disrupted() -> None:
    assert pod_view(pod({"conditions": [{"type": "DisruptionTarget", "status": "True"}]})).disrupted


def test_disruption_target_that_does_not_hold_is_not() -> None:
    assert not pod_view(pod({"conditions": [{"type": "DisruptionTarget", "status": "False"}]})).disrupted


@pytest.mark.parametrize(
    "message",
    [
        "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
        'Usage of EmptyDir volume "ckpt" exceeds the limit "1Gi". ',
        'Container main exceeded its local ephemeral storage limit "1Gi". ',
    ],
)
def test_training_that_fills_its_own_disk_is_not_disrupted(message: str) -> None:
    assert not pod_view(pod({"phase": "Failed", "reason": "Evicted", "message": message})).disrupted


def test_failed_training_is_not_disrupted() -> None:
    assert not pod_view(pod({"phase": "Failed", "containerStatuses": [ended(1)]})).disrupted


def test_pull_failure_is_one_reason_however_the_kubelet_words_it() -> None:
    reasons = [
        pod_view(pod({"containerStatuses": [waiting(word)]})).waiting_reason
        for word in ("ErrImagePull", "ImagePullBackOff")
    ]
    assert reasons == ["ImagePullBackOff", "ImagePullBackOff"]


def test_waiting_container_says_why() -> None:
    view = pod_view(pod({"containerStatuses": [waiting("CreateContainerError", "criu failed")]}))
    assert (view.waiting_reason, view.message) == ("CreateContainerError", "criu failed")


def test_container_being_created_is_no_reason_to_worry() -> None:
    assert pod_view(pod({"containerStatuses": [waiting("ContainerCreating")]})).waiting_reason is None


def test_unschedulable_pod_says_so() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    view = pod_view(pod({"phase": "Pending", "conditions": [condition]}))
    assert (view.waiting_reason, view.message) == ("Unschedulable", "0/1 nodes")


def test_killed_container_gives_its_reason_as_message() -> None:
    assert pod_view(pod({"containerStatuses": [ended(137, reason="OOMKilled")]})).message == "OOMKilled"


def test_deleting_pod_on_its_node() -> None:
    view = pod_view(pod(spec={"nodeName": "n"}, deletionTimestamp=STARTED))
    assert (view.deleting, view.node) == (True, "n")


def test_replica_without_job_and_pod() -> None:
    view = replica_view("j", None, [])
    assert (view.job_name, view.job_exists, view.pod) == ("j", False, None)


def test_failed_job_says_why() -> None:
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    job = {"metadata": {"name": "j", "uid": "u"}, "status": {"conditions": [failed]}}
    assert replica_view("j", job, []).job_failed == "BackoffLimitExceeded"


def test_living_pod_is_preferred_to_newer_dead_one() -> None:
    old = pod({"phase": "Running"}, creationTimestamp="2026-01-01T00:00:00Z")
    new = pod({"phase": "Failed"}, creationTimestamp="2026-01-02T00:00:00Z")
    view = replica_view("j", {"metadata": {"uid": "u"}}, [old, new])
    assert view.pod is not None
    assert view.pod.phase == "Running"


def backup(images: list[Json] | None = None, url: str = "https://gcr.io/") -> Json:
    return {
        "metadata": {"name": "c", "uid": "u"},
        "spec": {"registry": {"url": url, "repository": "ignored"}},
        "status": {"phase": "Completed", "builtImages": images or []},
    }


def test_what_to_pull_is_the_registry_and_the_image_name() -> None:
    built = [{"containerName": "main", "imageName": "p/repo:t", "pushed": True}]
    assert checkpoint_view(backup(built)).images == {"main": "gcr.io/p/repo:t"}


def test_image_that_was_not_pushed_does_not_count() -> None:
    built = [{"containerName": "main", "imageName": "p/repo:t", "pushed": False}]
    view = checkpoint_view(backup(built))
    assert (view.images, view.usable(["main"])) == ({}, False)


def test_plain_http_registry_with_a_port() -> None:
    built = [{"containerName": "main", "imageName": "x:t", "pushed": True}]
    assert checkpoint_view(backup(built, url="http://127.0.0.1:5000")).images == {"main": "127.0.0.1:5000/x:t"}


def test_checkpoint_tells_what_was_asked_for() -> None:
    asked = {
        "training.dcnlab.com/tag": "t",
        "training.dcnlab.com/progress": "41.5",
        "training.dcnlab.com/progress-reported": "true",
    }
    view = checkpoint_view({"metadata": {"name": "c", "uid": "u", "annotations": asked}})
    assert (view.tag, view.progress, view.reported) == ("t", 41.5, True)


def test_checkpoint_that_nobody_touched_has_no_phase() -> None:
    view = checkpoint_view({"metadata": {"name": "c", "uid": "u"}, "spec": {}})
    assert (view.phase, view.progress, view.ended) == (None, None, False)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"phase": "Running"}, None),
        (
            {
                "phase": "Failed",
                "reason": "Evicted",
                "message": "The node was low on resource: memory.",
                "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}],
            },
            "Evicted: The node was low on resource: memory.",
        ),
        (
            {
                "phase": "Running",
                "conditions": [
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "EvictionByEvictionAPI",
                        "message": "Eviction API: evicting",
                    }
                ],
            },
            "EvictionByEvictionAPI: Eviction API: evicting",
        ),
    ],
)
def test_who_takes_a_pod_away_is_told(status: dict[str, Any], said: str | None) -> None:
    view = pod_view({"metadata": {"name": "p", "uid": "u"}, "spec": {}, "status": status})
    assert view.disruption == said
    assert evicted_by_api(view.disruption) is (said is not None and "Eviction API" in said)


@pytest.mark.parametrize("at", ["0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_what_root_on_a_node_says_of_a_pod_is_bounded(at: str) -> None:
    long = "x" * 100_000
    ended = {"terminated": {"exitCode": 1, "startedAt": at, "finishedAt": at, "message": long}}
    statuses = [{"name": f"{long}{number}", "state": ended} for number in range(500)]
    conditions = [{"type": f"{long}{number}", "status": "True"} for number in range(500)]
    status = {"phase": "Failed", "reason": long, "message": long, "conditions": conditions}
    pod = {"metadata": {"name": "p", "uid": "u"}, "status": status | {"containerStatuses": statuses}}
    view = pod_view(pod)
    assert len(view.model_dump_json()) < 100_000
    assert view.finished_at is not None
    assert 1970 <= view.finished_at.year <= 2100


# --- gangs


def member(index: str, name: str = "p", *, of: str = "j", **status: Any) -> Json:
    owner = {"kind": "Job", "name": of, "controller": True}
    annotations = {"batch.kubernetes.io/job-completion-index": index}
    return pod(status, name=name, uid=f"u-{name}", annotations=annotations, ownerReferences=[owner])


GANG = {"metadata": {"name": "j", "uid": "u"}, "spec": {"completionMode": "Indexed"}}


@pytest.mark.parametrize("job", [GANG, None], ids=["its Job", "its Job is gone"])
def test_the_pods_of_a_gang_are_seen_by_member(job: Json | None) -> None:
    view = replica_view("j", job, [member("2", "c"), member("0", "a"), member("1", "b")])
    assert {number: pod.name for number, pod in view.pods.items()} == {0: "a", 1: "b", 2: "c"}
    assert view.job_exists is (job is not None)


def test_a_gang_whose_first_member_is_gone_has_the_others() -> None:
    view = replica_view("j", GANG, [member("1", "b")])
    assert (view.pod, list(view.other_pods)) == (None, [1])


def test_of_two_pods_of_one_member_the_one_that_runs_counts() -> None:
    old = member("1", "old", phase="Failed")
    assert replica_view("j", GANG, [member("1", "new"), old]).other_pods[1].name == "new"


def test_pods_of_a_replica_of_one_are_never_others_whatever_they_say_of_themselves() -> None:
    view = replica_view("j", {"metadata": {"uid": "u"}, "spec": {}}, [member("7")])
    assert (view.pod is not None, view.other_pods) == (True, {})


@pytest.mark.parametrize(
    "pod",
    [member("1", of="another"), member("-1"), member("1e3"), member("256"), member("9" * 400)],
    ids=["of another Job", "negative", "no number", "beyond the largest gang", "too long"],
)
def test_an_index_that_cannot_be_is_none(pod: Json) -> None:
    assert replica_view("j", None, [pod]).other_pods == {}


def test_what_root_on_all_nodes_of_the_largest_gang_writes_fits_into_a_message() -> None:
    long = "\x01" * 5000
    end = {"exitCode": 1, "startedAt": STARTED, "finishedAt": FINISHED, "message": long}
    status = {
        "phase": "Failed",
        "reason": long,
        "message": long,
        "conditions": [{"type": f"{number}{long}", "status": "True"} for number in range(50)],
        "containerStatuses": [{"name": f"{number}{long}", "state": {"terminated": end}} for number in range(500)],
    }
    view = replica_view("j", GANG, [member(str(number), f"p{number}", **status) for number in range(LARGEST)])
    assert len(view.pods) == LARGEST
    assert len(view.model_dump_json()) < 600_000
    assert [pod.exit_code for pod in view.pods.values()] == [1] * LARGEST
    assert [end.exit_code for end in view.pods[0].ends] == [1] * 4


@pytest.mark.parametrize(("members", "kept"), [(32, ("m" * 2000, "why")), (LARGEST, ("m" * 128, None))])
def test_the_words_of_a_gangs_pods_are_kept_as_far_as_there_is_room(members: int, kept: tuple[str, str | None]) -> None:
    status = {"phase": "Failed", "message": "m" * 2000, "containerStatuses": [ended(3, message="why")]}
    view = replica_view("j", GANG, [member(str(number), f"p{number}", **status) for number in range(members)])
    assert {(pod.message, pod.ends[0].message) for pod in view.pods.values()} == {kept}


def test_what_is_written_of_a_gang_is_read_again_and_short() -> None:
    status = {
        "phase": "Running",
        "containerStatuses": [{"name": "train", "state": {"running": {"startedAt": STARTED}}}],
    }
    view = replica_view("j", GANG, [member(str(number), f"p{number}", **status) for number in range(LARGEST)])
    assert ReplicaView.model_validate_json(view.model_dump_json()) == view
    assert len(view.model_dump_json()) < 200 * LARGEST

"""The Job that is made from a user's jobTemplate."""

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from activities.replicas.job_builder import IDENTITY_PATH, build_job, job_to_judge
from activities.signatures import CreateReplica, JobRef
from api.common import SecretReference
from api.spot_instance_job import CheckpointStorage
from api.views import RestorePoint

Json = dict[str, Any]

JOB = JobRef(namespace="team", name="resnet", uid="u-1", job_id="0a1b2c3d")
ALWAYS = "requiredDuringSchedulingIgnoredDuringExecution"


def template(pod: Json | None = None, container: Json | None = None, spec: Json | None = None, **metadata: Any) -> Json:
    main = {"name": "main", "image": "train:v1", **(container or {})}
    pod_template = {"metadata": metadata, "spec": {"containers": [main], **(pod or {})}}
    return {"spec": {"template": pod_template, **(spec or {})}}


def build(job_template: Json | None = None, **more: Any) -> Json:
    request = {"replica": 1, "incarnation": 2, "nodes": ["n1", "n2"], "bought": False} | more
    return build_job(CreateReplica(job=JOB, job_template=job_template or template(), **request))


def pod_of(job: Json) -> Json:
    found: Json = job["spec"]["template"]["spec"]
    return found


def point(**images: str) -> RestorePoint:
    return RestorePoint(images=images, progress=7, created_at=datetime(2026, 1, 1, tzinfo=UTC))


def test_name_and_owner_say_whose_it_is() -> None:
    metadata = build()["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("resnet-0a1b2c3d-r1-i2", "team")
    assert [(owner["kind"], owner["uid"], owner["controller"]) for owner in metadata["ownerReferences"]] == [
        ("SpotInstanceJob", "u-1", True)
    ]


PLACE = {"key": "training.dcnlab.com.node-restriction.kubernetes.io/place", "operator": "In", "values": ["x-r1-i2"]}
NAMED = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1", "n2"]}
ZONE = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"]}


@pytest.mark.parametrize(
    ("nodes", "pins"), [([], [PLACE]), (["n1", "n2"], [NAMED, PLACE])], ids=["nothing was free", "nodes were free"]
)
def test_a_job_that_queues_is_suspended_and_pinned_to_what_is_to_come(nodes: list[str], pins: list[Json]) -> None:
    built = build(nodes=nodes, place="x-r1-i2", suspended=True)
    assert built["spec"]["suspend"] is True
    terms = pod_of(built)["affinity"]["nodeAffinity"][ALWAYS]["nodeSelectorTerms"]
    assert terms == [{"matchExpressions": [pin]} for pin in pins]
    assert {"key": "nvidia.com/gpu", "operator": "Equal", "value": "0a1b2c3d", "effect": "NoSchedule"} in pod_of(built)[
        "tolerations"
    ]


def test_each_term_of_the_template_is_narrowed_to_each_place() -> None:
    affinity = {"nodeAffinity": {ALWAYS: {"nodeSelectorTerms": [{"matchExpressions": [ZONE]}, {}]}}}
    pod = pod_of(build(template(pod={"affinity": affinity}), place="x-r1-i2"))
    terms = pod["affinity"]["nodeAffinity"][ALWAYS]["nodeSelectorTerms"]
    assert terms == [{"matchExpressions": [ZONE, NAMED]}, {"matchExpressions": [ZONE, PLACE]}, {}, {}]


def test_labels_for_a_queue_give_way_to_the_templates() -> None:
    given = {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "mine"}}, **template()}
    labels = {"kueue.x-k8s.io/queue-name": "theirs", "kueue.x-k8s.io/priority-class": "high"}
    built = build(given, labels=labels)["metadata"]["labels"]
    assert (built["kueue.x-k8s.io/queue-name"], built["kueue.x-k8s.io/priority-class"]) == ("mine", "high")


def test_controller_never_starts_the_training_again() -> None:
    spec = build(template(pod={"restartPolicy": "OnFailure"}, spec={"backoffLimit": 6}))["spec"]
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ttlSecondsAfterFinished", 0),
        ("activeDeadlineSeconds", 60),
        ("podFailurePolicy", {"rules": []}),
        ("successPolicy", {"rules": []}),
        ("selector", {"matchLabels": {"a": "b"}}),
        ("manualSelector", True),
        ("managedBy", "example.com/x"),
        ("suspend", True),
        ("backoffLimitPerIndex", 1),
        ("maxFailedIndexes", 1),
        ("completionMode", "Indexed"),
    ],
)
def test_field_by_which_the_controller_would_decide_is_taken_out(field: str, value: Any) -> None:
    assert field not in build(template(spec={field: value}))["spec"]


def test_what_the_workflow_does_itself_the_api_server_judges_all_the_same() -> None:
    rules = {"rules": [{"action": "FailJob"}]}
    given = template(pod={"activeDeadlineSeconds": 30}, spec={"activeDeadlineSeconds": 60, "podFailurePolicy": rules})
    asked = CreateReplica(job=JOB, job_template=given, replica=1, incarnation=2, nodes=["n"], bought=False)
    created, judged = build_job(asked), job_to_judge(asked)
    assert "activeDeadlineSeconds" not in created["spec"]
    assert "activeDeadlineSeconds" not in pod_of(created)
    assert (judged["spec"]["activeDeadlineSeconds"], judged["spec"]["podFailurePolicy"]) == (60, rules)
    assert pod_of(judged)["activeDeadlineSeconds"] == 30


def test_stopping_stays_the_users() -> None:
    hook = {"preStop": {"exec": {"command": ["sleep", "5"]}}}
    pod = pod_of(build(template(pod={"terminationGracePeriodSeconds": 120}, container={"lifecycle": hook})))
    assert (pod["terminationGracePeriodSeconds"], pod["containers"][0]["lifecycle"]) == (120, hook)


def test_template_is_not_changed() -> None:
    given = template(container={"resources": {"requests": {"nvidia.com/gpu": 1}}})
    before = deepcopy(given)
    build(given)
    assert given == before


def test_pinned_by_affinity_and_never_by_node_name() -> None:
    pod = pod_of(build(template(pod={"nodeName": "n9"})))
    assert "nodeName" not in pod
    assert pod["affinity"]["nodeAffinity"][ALWAYS]["nodeSelectorTerms"] == [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1", "n2"]}]}
    ]


def test_each_of_the_templates_node_terms_is_narrowed() -> None:
    own = [{"key": "gpu", "operator": "In", "values": ["a100"]}], [{"key": "gpu", "operator": "In", "values": ["h100"]}]
    terms = [{"matchExpressions": expressions} for expressions in own]
    given = template(pod={"affinity": {"nodeAffinity": {ALWAYS: {"nodeSelectorTerms": terms}}}})
    built = pod_of(build(given))["affinity"]["nodeAffinity"][ALWAYS]["nodeSelectorTerms"]
    assert [[each["key"] for each in term["matchExpressions"]] for term in built] == [
        ["gpu", "kubernetes.io/hostname"],
        ["gpu", "kubernetes.io/hostname"],
    ]


def test_term_that_matches_nothing_still_matches_nothing() -> None:
    given = template(pod={"affinity": {"nodeAffinity": {ALWAYS: {"nodeSelectorTerms": [{"matchExpressions": []}]}}}})
    assert pod_of(build(given))["affinity"]["nodeAffinity"][ALWAYS]["nodeSelectorTerms"] == [{"matchExpressions": []}]


def test_preferences_of_the_template_are_kept() -> None:
    preferred = [{"weight": 1, "preference": {"matchExpressions": []}}]
    key = "preferredDuringSchedulingIgnoredDuringExecution"
    given = template(pod={"affinity": {"nodeAffinity": {key: preferred}}})
    assert pod_of(build(given))["affinity"]["nodeAffinity"][key] == preferred


def test_replicas_of_a_job_keep_apart() -> None:
    terms = pod_of(build())["affinity"]["podAntiAffinity"][ALWAYS]
    assert terms == [
        {
            "labelSelector": {"matchLabels": {"training.dcnlab.com/job": "0a1b2c3d"}},
            "topologyKey": "kubernetes.io/hostname",
        }
    ]


def test_lost_nodes_are_borne_without_limit() -> None:
    bounded = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}
    anything = {"operator": "Exists", "tolerationSeconds": 30}
    tolerations = pod_of(build(template(pod={"tolerations": [bounded | {"tolerationSeconds": 30}, anything]})))[
        "tolerations"
    ]
    assert all("tolerationSeconds" not in each for each in tolerations)
    assert [each.get("key") for each in tolerations] == [
        "node.kubernetes.io/not-ready",
        None,
        "node.kubernetes.io/unreachable",
    ]


def test_tolerations_of_the_template_are_kept() -> None:
    spot = {"key": "capacity-type", "value": "spot", "effect": "NoSchedule", "tolerationSeconds": 1}
    assert spot in pod_of(build(template(pod={"tolerations": [spot]})))["tolerations"]


@pytest.mark.parametrize("bought", [True, False])
def test_taint_of_the_bought_node_is_tolerated_by_value_where_it_was_bought(bought: bool) -> None:
    ours = {"key": "nvidia.com/gpu", "operator": "Equal", "value": "0a1b2c3d", "effect": "NoSchedule"}
    assert (ours in pod_of(build(bought=bought))["tolerations"]) is bought


@pytest.mark.parametrize("bought", [True, False])
def test_a_cordon_is_tolerated_on_a_bought_node_alone(bought: bool) -> None:
    ours = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}
    assert (ours in pod_of(build(bought=bought))["tolerations"]) is bought


def test_gpu_request_is_copied_into_the_limit() -> None:
    given = template(container={"resources": {"requests": {"nvidia.com/gpu": 2, "cpu": "1"}}})
    assert pod_of(build(given))["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 2}


def test_limit_of_the_template_wins() -> None:
    resources = {"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": 2, "memory": "1Gi"}}
    limits = pod_of(build(template(container={"resources": resources})))["containers"][0]["resources"]["limits"]
    assert limits == {"nvidia.com/gpu": 2, "memory": "1Gi"}


def test_cdi_device_is_left_as_it_is() -> None:
    device = {"container.devices.cdi.k8s.io/main": "nvidia.com/gpu=0"}
    given = template(pod={"runtimeClassName": "nvidia-cdi"}, container={"resources": {}}, annotations=device)
    job = build(given)
    assert job["spec"]["template"]["metadata"]["annotations"].items() >= device.items()
    assert (pod_of(job)["runtimeClassName"], pod_of(job)["containers"][0]["resources"]) == ("nvidia-cdi", {})


def test_labels_of_the_user_are_kept_and_ours_win() -> None:
    job = build(template(labels={"app": "x", "app.kubernetes.io/managed-by": "kustomize"}))
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        assert (
            metadata["labels"].items()
            >= {
                "training.dcnlab.com/job": "0a1b2c3d",
                "training.dcnlab.com/replica": "1",
                "training.dcnlab.com/incarnation": "2",
                "app.kubernetes.io/managed-by": "outlast",
            }.items()
        )
    assert job["spec"]["template"]["metadata"]["labels"]["app"] == "x"


def test_labels_of_another_jobs_controller_are_dropped() -> None:
    job = build(template(labels={"batch.kubernetes.io/controller-uid": "u", "job-name": "old"}))
    assert not {"batch.kubernetes.io/controller-uid", "job-name"} & set(job["spec"]["template"]["metadata"]["labels"])


def test_bridge_learns_where_changes_go() -> None:
    job = build()
    assert job["metadata"]["annotations"]["training.dcnlab.com/workflow"] == "team/resnet"
    assert job["spec"]["template"]["metadata"]["annotations"]["training.dcnlab.com/workflow"] == "team/resnet"


def test_every_container_can_read_who_it_is() -> None:
    pod = pod_of(build(template(pod={"initContainers": [{"name": "init", "image": "i"}]})))
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == [IDENTITY_PATH]
    files = pod["volumes"][-1]["downwardAPI"]["items"]
    assert [file["path"] for file in files] == ["job", "replica", "incarnation", "restoredFrom"]


def test_mount_of_the_template_at_our_path_wins() -> None:
    own = [{"name": "mine", "mountPath": "/etc/outlast/"}]
    pod = pod_of(build(template(pod={"volumes": [{"name": "mine", "emptyDir": {}}]}, container={"volumeMounts": own})))
    assert pod["containers"][0]["volumeMounts"] == own


def test_restored_container_gets_the_checkpoints_image() -> None:
    both = [{"name": "main", "image": "train:v1"}, {"name": "side", "image": "side:v1"}]
    job = build(template(pod={"containers": both}), restore=point(main="gcr.io/p/r:t@sha256:1"))
    assert [each["image"] for each in pod_of(job)["containers"]] == ["gcr.io/p/r:t@sha256:1", "side:v1"]
    assert job["metadata"]["annotations"]["training.dcnlab.com/restored-from"] == "gcr.io/p/r:t@sha256:1"


def test_cold_start_is_restored_from_nothing() -> None:
    job = build()
    assert job["spec"]["template"]["metadata"]["annotations"]["training.dcnlab.com/restored-from"] == ""


def test_pull_secret_is_added_to_those_of_the_template() -> None:
    given = template(pod={"imagePullSecrets": [{"name": "own"}]})
    pod = pod_of(build(given, image_pull=SecretReference(name="registry")))
    assert [each["name"] for each in pod["imagePullSecrets"]] == ["own", "resnet-0a1b2c3d-pull"]


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        ({}, "jobTemplate.spec"),
        ({"spec": {"template": "x"}}, "jobTemplate.spec.template"),
        ({"spec": {"template": {"spec": {}}}}, "jobTemplate.spec.template.spec.containers"),
    ],
)
def test_template_without_a_pod_is_refused_by_the_name_of_the_field(broken: Json, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        build_job(CreateReplica(job=JOB, job_template=broken, replica=0, incarnation=1, nodes=["n"], bought=False))


def test_files_say_where_an_incarnation_may_save_itself_and_what_from_it_restores() -> None:
    storage = CheckpointStorage(type="s3", bucket="b", path_prefix="team/", endpoint="http://minio:9000")
    path = "team/0a1b2c3d/checkpoints/r0-i2/step-9"
    restore = point().model_copy(update={"kind": "Storage", "path": path})
    job = build(replica=0, incarnation=3, nodes=["n"], bought=True, storage=storage, restore=restore)
    metadata = job["spec"]["template"]["metadata"]
    said = {item["path"]: item["fieldRef"]["fieldPath"] for item in identity_items(job)}
    values = {
        file: metadata["annotations"][field.removeprefix("metadata.annotations['").removesuffix("']")]
        for file, field in said.items()
        if field.startswith("metadata.annotations")
    }
    assert values == {
        "restoredFrom": path,
        "storageType": "s3",
        "storageBucket": "b",
        "storagePrefix": "team/0a1b2c3d/checkpoints/r0-i3",
        "storageEndpoint": "http://minio:9000",
        "storageRegion": "",
    }
    assert pod_of(job)["containers"][0]["image"] == "train:v1"


def test_how_a_training_stops_and_where_it_may_run_stays_the_templates() -> None:
    pod = {"terminationGracePeriodSeconds": 600, "nodeSelector": {"pool": "a"}, "tolerations": [{"key": "mine"}]}
    hook = {"preStop": {"exec": {"command": ["save"]}}}
    storage = CheckpointStorage(type="gcs", bucket="b")
    built = pod_of(build(template(pod, {"lifecycle": hook}), bought=True, storage=storage))
    assert built["terminationGracePeriodSeconds"] == 600
    assert built["nodeSelector"] == {"pool": "a"}
    assert {"key": "mine"} in built["tolerations"]
    assert built["containers"][0]["lifecycle"] == hook


def identity_items(job: Json) -> list[Json]:
    volumes = pod_of(job)["volumes"]
    return next(volume["downwardAPI"]["items"] for volume in volumes if "downwardAPI" in volume)


LIVENESS = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 5}


@pytest.mark.parametrize("kind", ["livenessProbe", "startupProbe"])
def test_a_probe_bears_that_the_training_stands_still_while_it_is_dumped(kind: str) -> None:
    job = build(template(container={kind: LIVENESS, "readinessProbe": LIVENESS}), probe_patience=600)
    main = pod_of(job)["containers"][0]
    assert main[kind] == {**LIVENESS, "failureThreshold": 120}
    assert main["readinessProbe"] == LIVENESS, "it ends nothing"
    said = job["metadata"]["annotations"]["training.dcnlab.com/probes"]
    assert f"main.{kind}.failureThreshold 3 to 120" in said


@pytest.mark.parametrize(
    ("probe", "patience"),
    [
        (LIVENESS, 0),
        ({"periodSeconds": 60, "failureThreshold": 10}, 600),
        ({"periodSeconds": "5"}, 600),
        ("none", 600),
        (None, 600),
    ],
)
def test_a_probe_that_bears_it_or_need_not_stays_as_it_is(probe: Any, patience: float) -> None:
    job = build(template(container={"livenessProbe": probe}), probe_patience=patience)
    assert pod_of(job)["containers"][0]["livenessProbe"] == probe
    assert "training.dcnlab.com/probes" not in job["metadata"]["annotations"]

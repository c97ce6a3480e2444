"""What `kubectl apply` accepts and what it refuses, on a real API server."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from api import crd
from api.common import LocalReference
from api.market import Candidate
from api.model import Model
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from sandbox.errors import SandboxError

ORIGIN = sorted((Path(__file__).parents[1] / "manifests" / "origin").glob("*.yaml"))
LATER = sorted((Path(__file__).parents[1] / "manifests" / "origin" / "later").glob("*.yaml"))
SAMPLES = sorted((Path(__file__).parents[2] / "deploy" / "samples").rglob("*.yaml"))
PLAIN = {
    "vmImage": "ubuntu-2404-lts-amd64",
    "gcp": {"project": "team", "zone": "us-central1-a", "machineType": "n1-standard-4"},
}
TOKEN = "spec.kubeadmJoinConfig.tokenSecretRef"
SPECS: dict[str, type[Model]] = {
    "SpotInstanceJob": SpotInstanceJobSpec,
    "SpotInstanceVM": SpotInstanceVMSpec,
    "InstanceTemplate": SpotInstanceVMSpec,
}


def test_the_committed_crds_are_what_the_types_say() -> None:
    assert crd.main(["--check"]) == 0


def test_check_tells_drift(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(crd, "DIRECTORY", tmp_path)
    crd.main([])
    path = next(tmp_path.iterdir())
    path.write_text(path.read_text().replace("v1alpha1", "v1alpha0"))
    assert crd.main(["--check"]) == 1
    assert "+    - name: v1alpha1" in capsys.readouterr().out


def resources(path: Path) -> list[Any]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each["kind"] in SPECS]


async def is_refused(apply: Any, document: Any, *complaints: str) -> None:
    with pytest.raises(SandboxError) as refused:
        await apply(document)
    for complaint in complaints:
        assert complaint in str(refused.value)


@pytest.mark.parametrize("path", [*ORIGIN, *LATER, *SAMPLES], ids=lambda path: path.stem)
async def test_manifests_apply_unmodified(control_plane: Any, namespace: str, path: Path) -> None:
    await control_plane.kubectl("apply", "-n", namespace, "-f", path)
    for wanted in resources(path):
        found = await control_plane.kubectl(
            "get", wanted["kind"], wanted["metadata"]["name"], "-n", namespace, "-o", "json"
        )
        _assert_kept(wanted["spec"], json.loads(found)["spec"])
        SPECS[wanted["kind"]].model_validate(json.loads(found)["spec"])


def _assert_kept(wanted: Any, found: Any) -> None:
    """Check that nothing that a person wrote was pruned or changed; defaults may have been added."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            _assert_kept(value, found[key])
    elif isinstance(wanted, list):
        assert len(wanted) == len(found)
        for one, other in zip(wanted, found, strict=True):
            _assert_kept(one, other)
    else:
        assert wanted == found


async def test_defaults_are_the_types_defaults(control_plane: Any, namespace: str, apply: Any, job: Any) -> None:
    await apply(job)
    spec = json.loads(await control_plane.kubectl("get", "sij", "train", "-n", namespace, "-o", "json"))["spec"]
    assert spec["replicas"] == 2
    assert spec["checkpointConfig"]["checkpointInterval"] == "30m"
    assert spec["checkpointConfig"]["retention"] == {"keepLast": 3}
    assert SpotInstanceJobSpec.model_validate(spec) == SpotInstanceJobSpec.model_validate(job["spec"])


async def test_a_null_is_a_field_left_out(apply: Any, job: Any, control_plane: Any, namespace: str) -> None:
    job["spec"]["gcpCredentialsSecretRef"] = None
    job["spec"]["maxRestarts"] = None
    await apply(job)
    spec = json.loads(await control_plane.kubectl("get", "sij", "train", "-n", namespace, "-o", "json"))["spec"]
    assert "maxRestarts" not in spec
    assert "gcpCredentialsSecretRef" not in spec


def change(manifest: Any, path: str, value: Any) -> Any:
    """Set one field of the manifest, or remove it if the value is None."""
    changed = deepcopy(manifest)
    *parents, last = path.split(".")
    node = changed
    for step in parents:
        node = node.setdefault(step, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return changed


INTERVAL = "spec.checkpointConfig.checkpointInterval"
RETENTION = "spec.checkpointConfig.retention"
CONFIG = "spec.checkpointConfig"
BUCKET = {"type": "s3", "bucket": "b"}
REPO = "spec.checkpointConfig.checkpointImageRepo"
JOB = "spec.jobTemplate.spec"
NOTICE = "spec.gcp.preemptionNoticeDuration"


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (INTERVAL, "half an hour", 'spec.checkpointConfig.checkpointInterval: Invalid value: "half an hour": not a'),
        (INTERVAL, "30", 'write for example "30m"'),
        (INTERVAL, "-5m", "not a duration"),
        (INTERVAL, "automatic", 'or "auto" to have it tuned'),
        (RETENTION, {"keepLast": 0}, "keepLast in body should be greater than or equal to 1"),
        (INTERVAL, "0s", "too short"),
        (INTERVAL, "900ms", "too short"),
        ("spec.replicas", 0, "spec.replicas in body should be greater than or equal to 1"),
        ("metadata.name", "a" * 41, "longer than 40 characters"),
        ("metadata.name", "3d-unet", "begin with a letter"),
        ("metadata.name", "a.b", "lower case letters"),
        (REPO, None, "checkpointImageRepo is missing"),
        (REPO, "gcr.io/team/train:latest", "without a tag"),
        (REPO, "registry:5000/train@sha256:00", "without a tag or digest"),
        ("spec.checkpointConfig.mode", "Application", "checkpointStorage is missing"),
        (
            CONFIG,
            {"mode": "Application", "checkpointStorage": {"type": "ftp", "bucket": "b"}},
            "none of gcs, s3, azure",
        ),
        ("spec.checkpointConfig.checkpointStorage", {**BUCKET, "endpoint": "minio:9000"}, "a URL without a path"),
        (
            "spec.checkpointConfig.checkpointStorage",
            {**BUCKET, "layout": "Lightning"},
            'layout: Unsupported value: "Lightning": supported values: "Outlast", "TorchDCP", "Orbax"',
        ),
        (
            "spec.checkpointConfig.checkpointStorage",
            {**BUCKET, "layout": "Orbax"},
            "leave layout out, or set that mode",
        ),
        ("spec.keepFailedFor", "a day", "not a duration"),
        ("spec.checkpointConfig.mode", "Both", 'supported values: "Image", "Application"'),
        ("spec.checkpointConfig.progress", {"logPattern": "step"}, "a group that matches the number is missing"),
        ("spec.spotInstanceVMRef", None, "set one of spotInstanceVMRef and instanceTemplateRef"),
        ("spec.instanceTemplateRef", {"name": "t4"}, "and not both"),
        ("spec.completionPolicy", "Most", 'supported values: "Any", "All"'),
        ("spec.jobTemplate", {}, "spec.jobTemplate.spec: Required value"),
        (f"{JOB}.template.spec.containers", [], "should have at least 1 items"),
        (f"{JOB}.template.spec.containers", [{"name": "train"}], "containers[0].image: Required value"),
        (f"{JOB}.template.spec.containers", "train", "must be of type array"),
        (f"{JOB}.parallelism", 2, "write replicas: 1, because it is 2 if it is left out"),
        (f"{JOB}.parallelism", 2, "write mode: Application, in which the training saves itself"),
        (f"{JOB}.parallelism", 257, "parallelism is above 256, the most pods that can train together"),
        (f"{JOB}.completions", 2, "completions differs from the number of pods that train together"),
        (f"{JOB}.completionMode", "Indexed", "are one replica: write replicas: 1"),
        ("spec.gang", {"minSize": 2, "maxSize": 2}, "are one replica: write replicas: 1"),
        ("spec.gang", {"minSize": 3, "maxSize": 2}, "minSize is greater than maxSize: lower minSize"),
        ("spec.gang", {"minSize": 2}, "spec.gang.maxSize: Required value"),
        ("spec.gang", {"minSize": 257, "maxSize": 257}, "should be less than or equal to 256"),
        ("spec.replica", 3, 'unknown field "spec.replica"'),
        ("spec.outputs", ["out"], "not a path in a container: write it from the root"),
        ("spec.gcpCredentialsSecretRef", {"name": "../../victim/secrets/db"}, "not the name of an object: write lower"),
        (
            "spec.gcpCredentialsSecretRef",
            {"name": "a", "namespace": "../b"},
            "not the name of a namespace: write lower",
        ),
        ("spec.spotInstanceVMRef.name", "a/b", "not the name of an object"),
        ("spec.checkpointConfig.checkpointRepoCredentialRef", {"name": "A"}, "not the name of an object"),
        ("spec.checkpointConfig.restoreFrom", "a/../b", "write an image, for example gcr.io"),
        ("spec.checkpointConfig.checkpointStorage", {"type": "s3", "bucket": "s3://b"}, "write its name alone"),
        ("spec.checkpointConfig.checkpointStorage", {**BUCKET, "pathPrefix": "../b"}, "not a path in a bucket"),
    ],
)
async def test_a_wrong_job_is_refused_with_the_remedy(
    apply: Any, job: Any, path: str, value: Any, complaint: str
) -> None:
    await is_refused(apply, change(job, path, value), complaint)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (INTERVAL, "1.5h"),
        (INTERVAL, "auto"),
        (RETENTION, {"keepLast": 1}),
        (RETENTION, {}),
        (INTERVAL, "1h30m10s"),
        ("metadata.name", "a" * 40),
        ("metadata.name", "x"),
        (REPO, "registry:5000/team/train"),
        (CONFIG, {"mode": "Application", "checkpointStorage": {**BUCKET, "layout": "TorchDCP"}}),
        (f"{CONFIG}.checkpointStorage", {**BUCKET, "layout": "Outlast"}),
        (f"{JOB}.parallelism", 1),
        (f"{JOB}.completionMode", "NonIndexed"),
    ],
)
async def test_what_is_unusual_and_right_is_taken(apply: Any, job: Any, path: str, value: Any) -> None:
    await apply(change(job, path, value))


GANG = {"minSize": 4, "maxSize": 4}


@pytest.fixture
def gang(job: Any) -> Any:
    """Make a job whose replica is a gang of four."""
    config = {"mode": "Application", "checkpointStorage": BUCKET}
    return change(change(change(job, "spec.gang", GANG), CONFIG, config), "spec.replicas", 1)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("spec.replicas", None, "are one replica: write replicas: 1"),
        (f"{JOB}.parallelism", 2, "parallelism differs from gang.maxSize: leave parallelism out"),
        (f"{JOB}.completions", 2, "completions differs from the number of pods that train together"),
        (CONFIG, {"checkpointImageRepo": "gcr.io/team/train"}, "write mode: Application"),
    ],
)
async def test_a_wrong_gang_is_refused_with_the_remedy(
    apply: Any, gang: Any, path: str, value: Any, complaint: str
) -> None:
    await is_refused(apply, change(gang, path, value), complaint)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"parallelism": 4, "completions": 4, "completionMode": "Indexed"},
        {"parallelism": 2, "completions": 2},
        {"parallelism": 2, "completionMode": "Indexed"},
        {"completionMode": "Indexed", "completions": 1},
    ],
)
async def test_gangs_are_taken(apply: Any, gang: Any, more: Any) -> None:
    if more.get("parallelism") != 4 and more:
        del gang["spec"]["gang"]
    gang["spec"]["jobTemplate"]["spec"] |= more
    await apply(gang)


async def test_a_gang_that_runs_can_be_resized_but_keeps_its_placement(apply: Any, begin: Any, gang: Any) -> None:
    await begin(gang, "jobStatuses")
    await apply(change(gang, "spec.gang", {"minSize": 2, "maxSize": 3}))
    with pytest.raises(SandboxError, match="gang cannot be changed once its replicas have begun"):
        await apply(change(gang, "spec.gang", {"minSize": 2, "maxSize": 2, "placement": "Region"}))


@pytest.fixture
def begin(control_plane: Any, namespace: str, apply: Any) -> Any:
    """Apply an object, and list something in its status, as Outlast does once it has begun to work on it."""

    async def run(manifest: Any, listed: str) -> None:
        await apply(manifest)
        await control_plane.kubectl(
            "patch", manifest["kind"], manifest["metadata"]["name"], "-n", namespace, "--subresource=status",
            "--type=merge", "-p", json.dumps({"status": {listed: [{"name": "one"}]}}),
        )  # fmt: skip

    return run


STORAGE = f"{CONFIG}.checkpointStorage"
SAVES_ITSELF = {"mode": "Application", "checkpointStorage": {**BUCKET, "region": "eu-west-1"}}


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (REPO, "gcr.io/team/other", "checkpointImageRepo cannot be changed"),
        (CONFIG, {"mode": "Application", "checkpointStorage": BUCKET}, "neither mode can restore what the other"),
        ("spec.spotInstanceVMRef.name", "l4", "edit the SpotInstanceVM that it names"),
        ("spec.gcpCredentialsSecretRef", None, "Put the new key into the Secret that it names"),
        ("spec.gcpCredentialsSecretRef", {"name": "other"}, "gcpCredentialsSecretRef cannot be changed"),
        ("spec.gcpCredentialsSecretRef.namespace", "vault", "gcpCredentialsSecretRef cannot be changed"),
        (f"{JOB}.backoffLimit", 1, "jobTemplate cannot be changed"),
        # A field that the schema does not know counts as much as one that it knows.
        (f"{JOB}.template.spec.terminationGracePeriodSeconds", 5, "restoreFrom set to status.lastCheckpointImage"),
    ],
)
async def test_what_a_training_depends_on_cannot_be_edited_once_it_has_begun(
    apply: Any, begin: Any, job: Any, path: str, value: Any, complaint: str
) -> None:
    job["spec"]["gcpCredentialsSecretRef"] = {"name": "gcp"}
    await begin(job, "jobStatuses")
    await is_refused(apply, change(job, path, value), complaint, "once its replicas have begun")


async def test_a_reference_to_a_template_is_fixed_as_well(apply: Any, begin: Any, job: Any) -> None:
    job["spec"]["instanceTemplateRef"] = job["spec"].pop("spotInstanceVMRef")
    await begin(job, "jobStatuses")
    with pytest.raises(SandboxError, match="edit the InstanceTemplate that it names"):
        await apply(change(job, "spec.instanceTemplateRef.name", "l4"))
    await apply(change(job, "spec.replicas", 1))


async def test_credentials_cannot_be_added_once_it_has_begun(apply: Any, begin: Any, job: Any) -> None:
    await begin(job, "jobStatuses")
    with pytest.raises(SandboxError, match="gcpCredentialsSecretRef cannot be changed"):
        await apply(change(job, "spec.gcpCredentialsSecretRef", {"name": "gcp"}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (STORAGE, None),
        (f"{STORAGE}.bucket", "other"),
        (f"{STORAGE}.type", "gcs"),
        (f"{STORAGE}.pathPrefix", "team"),
        (f"{STORAGE}.endpoint", "https://minio.example.com"),
        (f"{STORAGE}.region", None),
    ],
)
@pytest.mark.parametrize("mode", ["Image", "Application"])
async def test_what_was_saved_stays_where_it_is(
    apply: Any, begin: Any, job: Any, path: str, value: Any, mode: str
) -> None:
    job["spec"]["checkpointConfig"] |= {**SAVES_ITSELF, "mode": mode}
    await begin(job, "jobStatuses")
    await is_refused(apply, change(job, path, value), "checkpointStorage")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (CONFIG, SAVES_ITSELF),
        (REPO, "gcr.io/team/other"),
        ("spec.spotInstanceVMRef.name", "l4"),
        ("spec.gcpCredentialsSecretRef", {"name": "gcp"}),
        (f"{JOB}.template.spec.containers", [{"name": "other", "image": "other:1"}]),
    ],
)
async def test_everything_can_be_corrected_before_it_has_begun(
    apply: Any, job: Any, control_plane: Any, namespace: str, path: str, value: Any
) -> None:
    await apply(job)
    waiting = [{"type": "Accepted", "status": "False", "reason": "SecretNotFound", "message": ""}]
    await control_plane.kubectl(
        "patch", "sij", "train", "-n", namespace, "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": {"conditions": waiting}}),
    )  # fmt: skip
    assert "configured" in await apply(change(job, path, value))


async def test_a_bucket_may_be_added_to_a_training_and_its_credentials_changed(
    apply: Any, begin: Any, job: Any
) -> None:
    await begin(job, "jobStatuses")
    with_bucket = change(job, STORAGE, BUCKET)
    await apply(with_bucket)
    await apply(change(with_bucket, f"{STORAGE}.credentialsSecretRef", {"name": "rotated"}))


async def test_a_layout_that_was_forgotten_can_be_added(apply: Any, begin: Any, job: Any) -> None:
    job["spec"]["checkpointConfig"] |= SAVES_ITSELF
    await begin(job, "jobStatuses")
    await apply(change(job, f"{STORAGE}.layout", "TorchDCP"))


async def test_a_project_stays_while_machines_are_in_it(apply: Any, begin: Any, vm: Any) -> None:
    await apply(change(vm, "spec.gcp.project", "mistyped"))
    await begin(vm, "provisionedInstances")
    with pytest.raises(SandboxError, match="Wait until status"):
        await apply(change(vm, "spec.gcp.project", "other"))
    await apply(change(vm, "spec.gcp.machineType", "n1-standard-8"))


@pytest.mark.parametrize(
    ("path", "value"),
    [(INTERVAL, "10m"), ("spec.replicas", 1), ("spec.suspend", True), ("spec.completionPolicy", "All")],
)
async def test_the_rest_can_be_edited(apply: Any, begin: Any, job: Any, path: str, value: Any) -> None:
    await begin(job, "jobStatuses")
    assert "configured" in await apply(change(job, path, value))


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("spec.gcp.region", "europe-west4", "region and zone do not match: leave region out"),
        ("spec.gcp.zone", "us-central1", "not a zone: write one of `gcloud compute zones list`"),
        ("spec.gcp.zones", ["us-central1-a", "b"], "spec.gcp.zones[1]: Invalid value"),
        ("spec.sshUser", "Me", "not a user's name: write lower case letters"),
        ("spec.onDemandFallback", {"after": "1h", "pricePerHour": "$2"}, "not a price: write USD per hour"),
        ("spec.gcp.machineType", None, "spec.gcp.machineType: Required value"),
        ("spec.gpu", {"type": "nvidia-l4", "count": 0}, "spec.gpu.count"),
        ("spec.gcp.zone", "us-central1-ai", "spec.gcp.zone"),
        ("spec", {**PLAIN, "preemptible": False, "onDemandFallback": {"after": "10m"}}, "leave out one of the two"),
        ("spec.gcp.zone", "us-central1-xy1a", "spec.gcp.zone"),
        (TOKEN, "../secrets/db", "spec.kubeadmJoinConfig.tokenSecretRef"),
        (TOKEN, "", "spec.kubeadmJoinConfig.tokenSecretRef"),
        (TOKEN, "a" * 254, "spec.kubeadmJoinConfig.tokenSecretRef"),
        (TOKEN, {}, "spec.kubeadmJoinConfig.tokenSecretRef.name: Required value"),
        (TOKEN, {"name": 7}, "spec.kubeadmJoinConfig.tokenSecretRef.name"),
        ("spec.gcp.diskSizeGb", 100, 'unknown field "spec.gcp.diskSizeGb"'),
        ("spec.gcp.project", "My Project", "not a project: write its ID"),
        ("spec.gcp.networkTags", ["good", "bad tag"], "spec.gcp.networkTags[1]: Invalid value"),
        ("spec.gcp.alternatives", [{"machineType": "../x"}], "not a machine type: write one of"),
        ("spec.gcp.serviceAccount", "me", "write its e-mail address"),
        ("spec.gcp.subnetwork", "a/../b", "not a subnetwork: write its name"),
        ("spec.gpu", {"type": "T4"}, "not a GPU: write one of"),
        ("spec.vmImage", "a image", "not an image: write family"),
        ("spec.kubeadmJoinConfig", {"controlPlaneEndpoint": "http://a/b"}, "write host:port"),
        ("spec.kubeadmJoinConfig", {"criSocket": "tcp://10.0.0.1"}, "not the socket of a container runtime"),
        ("spec.kubeadmJoinConfig", {"tokenSecretRef": {"name": "../a"}}, "spec.kubeadmJoinConfig.tokenSecretRef.name"),
        ("spec.sshKeySecretRef", {"name": "../a"}, "not the name of an object"),
        (NOTICE, "30s", 'GCE knows two notices: write "120s", or leave it out'),
        (NOTICE, "two minutes", 'GCE knows two notices: write "120s", or leave it out'),
    ],
)
async def test_a_wrong_vm_is_refused(apply: Any, vm: Any, path: str, value: Any, complaint: str) -> None:
    await is_refused(apply, change(vm, path, value), complaint)


@pytest.mark.parametrize("reference", ["kubeadm-join-token", {"name": "kubeadm-join-token"}])
async def test_the_secret_with_the_join_token_is_named_as_a_string_or_an_object(
    apply: Any, vm: Any, control_plane: Any, namespace: str, reference: Any
) -> None:
    vm["spec"]["kubeadmJoinConfig"] = {"tokenSecretRef": reference}
    await apply(vm)
    spec = json.loads(await control_plane.kubectl("get", "sivm", "t4", "-n", namespace, "-o", "json"))["spec"]
    assert spec["kubeadmJoinConfig"]["tokenSecretRef"] == reference
    join = SpotInstanceVMSpec.model_validate(spec).kubeadm_join_config
    assert join is not None
    assert join.token_secret_ref == LocalReference(name="kubeadm-join-token")


async def test_the_two_forms_of_a_reference_change_into_each_other(apply: Any, vm: Any) -> None:
    for reference in ("one", {"name": "two"}, "three"):
        vm["spec"]["kubeadmJoinConfig"] = {"tokenSecretRef": reference}
        await apply(vm)


@pytest.mark.parametrize("zone", ["us-central1-a", "us-central1-ai1a", "us-south1-ai1b", "europe-west12-c"])
async def test_zones_are_taken_ai_zones_among_them(apply: Any, vm: Any, zone: str) -> None:
    region = zone.rpartition("-")[0]
    vm["spec"]["gcp"] |= {"zone": zone, "region": region, "zones": [zone], "alternatives": [{"zone": zone}]}
    await apply(vm)
    assert Candidate(zone=zone, machine_type="n1-standard-4").region == region


@pytest.mark.parametrize("value", ["0s", "120s", "2m"])
async def test_a_notice_that_gce_knows_is_taken(apply: Any, vm: Any, value: str) -> None:
    await apply(change(vm, NOTICE, value))


async def test_kubectl_scale_changes_the_replicas(control_plane: Any, namespace: str, apply: Any, job: Any) -> None:
    await apply(job)
    await control_plane.kubectl("scale", "sij", "train", "--replicas=3", "-n", namespace)
    assert await control_plane.kubectl("get", "sij", "train", "-n", namespace, "-o", "jsonpath={.spec.replicas}") == "3"


async def test_two_writers_share_the_list_of_instances(control_plane: Any, namespace: str, apply: Any, vm: Any) -> None:
    await apply(vm)
    for name in ("one", "two"):
        entry = {**vm, "status": {"provisionedInstances": [{"name": name, "state": "RUNNING"}]}}
        del entry["spec"]
        await control_plane.kubectl(
            "apply", "--server-side", "--subresource=status", f"--field-manager={name}", "-n", namespace, "-f", "-",
            stdin=json.dumps(entry),
        )  # fmt: skip
    names = await control_plane.kubectl(
        "get", "sivm", "t4", "-n", namespace, "-o", "jsonpath={.status.provisionedInstances[*].name}"
    )
    assert names == "one two"


async def test_get_shows_what_matters(control_plane: Any, namespace: str, apply: Any, job: Any, vm: Any) -> None:
    await apply(job)
    await apply(vm)
    listed = await control_plane.kubectl("get", "outlast", "-n", namespace)
    for heading in ("REPLICAS", "ACTIVE", "STATE", "PROGRESS", "LAST CHECKPOINT", "PREEMPTIONS", "MACHINE", "ZONE"):
        assert heading in listed

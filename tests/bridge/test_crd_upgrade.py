"""Objects of earlier versions under this version's CRDs, and back, on a real API server.

``tests/crds`` has a directory for each earlier version, with its CRDs and objects that fill every field.
"""

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from activities.documents.activities import SpecActivities
from activities.signatures import JobRef, ReleaseFinalizers
from api import names
from api.common import SecretReference
from api.timings import Timings
from clients.kube import Kube, KubeError, path
from crd_bridge.jobs import Jobs, _job
from crd_bridge.queues import Queues
from crd_bridge.temporal import Gateway
from sandbox.errors import SandboxError
from tests.bridge.conftest import CRDS
from tests.bridge.recorder import eventually

EARLIER = sorted((Path(__file__).parents[1] / "crds").iterdir())
KINDS = ["SpotInstanceJob", "SpotInstanceVM"]
ROOT = "self"


def files(directory: Path) -> list[Path]:
    """List the CRDs of a version."""
    return sorted(directory.glob("*spotinstance*.yaml"))


def schemas(directory: Path) -> dict[str, Any]:
    """Read the schema of each kind."""
    crds = [yaml.safe_load(file.read_text()) for file in files(directory)]
    return {crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in crds}


def fields(schema: Any, path: str = ROOT) -> Iterator[tuple[str, Any]]:
    """List each field with its schema."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from fields(inner, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")


def filled(value: Any, path: str = ROOT) -> Iterator[str]:
    """List each field that an object fills."""
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from filled(inner, f"{path}.{name}")
    if isinstance(value, list):
        for inner in value:
            yield from filled(inner, f"{path}[]")


def objects(directory: Path) -> dict[str, Any]:
    """Read the objects that fill every field."""
    return {each["kind"]: each for each in yaml.safe_load_all((directory / "objects.yaml").read_text())}


@pytest.mark.parametrize("earlier", EARLIER, ids=lambda each: each.name)
@pytest.mark.parametrize("kind", KINDS)
def test_the_objects_fill_every_field(earlier: Path, kind: str) -> None:
    known = {path for path, _ in fields(schemas(earlier)[kind])}
    assert known - set(filled(objects(earlier)[kind])) == set()


@pytest.mark.parametrize("earlier", EARLIER, ids=lambda each: each.name)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_taken_away_or_demanded(earlier: Path, kind: str) -> None:
    now = dict(fields(schemas(CRDS)[kind]))
    for field, then in fields(schemas(earlier)[kind]):
        assert field in now, f"{field} was there"
        assert now[field].get("type") in (then.get("type"), None), field  # without a type it takes any value
        assert set(now[field].get("required", [])) <= set(then.get("required", [])), field
        assert set(now[field].get("enum", [])) >= set(then.get("enum", [])), field
        for least in ("minimum", "minLength", "minItems"):
            assert now[field].get(least, 0) <= then.get(least, 0), f"{least} of {field}"
        for most in ("maximum", "maxLength", "maxItems"):
            if most == "maxLength" and most not in then and "x-kubernetes-validations" in now[field]:
                continue  # it came with a format, which has its own tests below
            if most == "maxLength" and then.get("type") == "object":
                continue  # of the string that it may be now
            assert most not in now[field] or now[field][most] >= then.get(most, now[field][most] + 1), (
                f"{most} of {field}"
            )


@pytest.fixture(params=EARLIER, ids=lambda each: each.name)
async def earlier(request: pytest.FixtureRequest, control_plane: Any, crds: None) -> AsyncIterator[Path]:
    """Install an earlier version's CRDs. Whatever a test does, this version's are restored afterwards."""
    yield request.param
    await serve(control_plane, CRDS)


async def serve(control_plane: Any, directory: Path) -> None:
    """Apply CRDs, and wait until the API server knows exactly their fields."""
    names = [argument for file in files(directory) for argument in ("-f", file)]
    await control_plane.kubectl("apply", "--server-side", "--force-conflicts", *names)
    wanted = schemas(directory)

    async def served() -> bool:
        published = json.loads(
            await control_plane.kubectl("get", "--raw", "/openapi/v3/apis/training.training.dcnlab.com/v1alpha1")
        )["components"]["schemas"]
        found = {name.rsplit(".", 1)[-1]: schema for name, schema in published.items()}
        return all(
            {path for path, _ in fields(found[kind]["properties"]["spec"])}
            == {path for path, _ in fields(wanted[kind]["properties"]["spec"])}
            for kind in KINDS
        )

    await eventually(served, f"the API server serves {directory.name}", deadline=120)


class Server:
    """The API server for objects of one namespace."""

    def __init__(self, control_plane: Any, namespace: str) -> None:
        self._kubectl = control_plane.kubectl
        self._namespace = ("-n", namespace)

    async def create(self, manifest: Any) -> None:
        """Create an object with strict validation, and with its status, which a person does not write."""
        await self._kubectl("create", *self._namespace, "-f", "-", stdin=json.dumps(without_status(manifest)))
        if "status" in manifest:
            status = json.dumps({"status": manifest["status"]})
            await self._patch(manifest, "--subresource=status", "-p", status)

    async def edit(self, manifest: Any, field: str, value: Any) -> None:
        """Edit one field of the spec, as `kubectl edit` does."""
        await self._patch(manifest, "-p", json.dumps({"spec": {field: value}}))

    async def _patch(self, manifest: Any, *arguments: str) -> None:
        name = manifest["metadata"]["name"]
        await self._kubectl("patch", manifest["kind"], name, *self._namespace, "--type=merge", *arguments)

    async def get(self, manifest: Any) -> Any:
        """Read it as it is now."""
        name = manifest["metadata"]["name"]
        return json.loads(await self._kubectl("get", manifest["kind"], name, *self._namespace, "-o", "json"))


def without_status(manifest: Any) -> Any:
    return {key: value for key, value in manifest.items() if key != "status"}


def holds(found: Any, wanted: Any) -> None:
    """Check that everything that was written is there; defaults may have been added."""
    for part in ("spec", "status"):
        assert_holds(found[part], wanted[part], part)


def assert_holds(found: Any, wanted: Any, path: str) -> None:
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            assert key in found, f"{path}.{key} is lost"
            assert_holds(found[key], value, f"{path}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), path
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_holds(one, other, f"{path}[{number}]")
    else:
        assert found == wanted, path


EDITS = {"SpotInstanceJob": ("replicas", 4), "SpotInstanceVM": ("startupScript", "echo again")}


async def test_objects_outlast_the_upgrade_of_their_crds_and_the_way_back(
    control_plane: Any, namespace: str, earlier: Path
) -> None:
    server, all_fields = Server(control_plane, namespace), objects(earlier)
    await serve(control_plane, earlier)
    for manifest in all_fields.values():
        await server.create(manifest)
    for directory in (CRDS, earlier, CRDS):
        await serve(control_plane, directory)
        for kind, manifest in all_fields.items():
            holds(await server.get(manifest), manifest)
            field, value = EDITS[kind]
            await server.edit(manifest, field, value)
            await server.edit(manifest, field, manifest["spec"][field])
            holds(await server.get(manifest), manifest)


async def test_an_object_with_newer_fields_is_still_usable_under_the_crds_before(
    control_plane: Any, namespace: str, earlier: Path, job: Any, vm: Any
) -> None:
    server = Server(control_plane, namespace)
    job["spec"]["keepFailedFor"] = "1h"
    job["spec"]["checkpointConfig"]["retention"] = {"keepLast": 5}
    vm["spec"]["gcp"]["zones"] = ["us-central1-b"]
    await serve(control_plane, CRDS)
    for manifest in (job, vm):
        await server.create(manifest)
    await serve(control_plane, earlier)
    for manifest in (job, vm):
        field, value = EDITS[manifest["kind"]]
        await server.edit(manifest, field, value)
        assert (await server.get(manifest))["spec"][field] == value
    with pytest.raises(SandboxError, match="keepFailedFor"):
        await server.create({**job, "metadata": {"name": "another"}})


HOSTILE = "../../victim/secrets/db"
JOB_ID = "0a1b2c3d"


def put(spec: Any, dotted: str, value: Any) -> None:
    """Write a field of a spec."""
    *parents, last = dotted.split(".")
    for step in parents:
        spec = spec.setdefault(step, {})
    spec[last] = value


def broken(manifest: Any) -> Any:
    """Make an object that this version's CRDs refuse, and that the first ones accepted."""
    broken = json.loads(json.dumps(without_status(manifest)))
    spec = broken["spec"]
    if manifest["kind"] == "SpotInstanceJob":
        put(spec, "spotInstanceVMRef.name", HOSTILE)
        put(spec, "gcpCredentialsSecretRef", {"name": HOSTILE, "namespace": "A/b"})
        put(spec, "checkpointConfig.checkpointRepoCredentialRef.name", HOSTILE)
        put(spec, "checkpointConfig.checkpointImageRepo", "gcr.io/../x")
        put(spec, "checkpointConfig.checkpointStorage.bucket", "a/b")
        put(spec, "checkpointConfig.checkpointStorage.pathPrefix", "../x")
        return broken
    put(spec, "gcp.project", HOSTILE)
    put(spec, "gcp.networkTags", ["good", "x" * 2000, "?"])
    put(spec, "gcp.network", "a b")
    put(spec, "kubeadmJoinConfig.controlPlaneEndpoint", "a?b")
    put(spec, "sshKeySecretRef.name", HOSTILE)
    return broken


def without_ratcheting(directory: Path) -> Path:
    """Change this version's CRDs so that a format applies to every change, as all do before Kubernetes 1.30.

    Later servers cannot be told to do without ratcheting, but they have none for rules about changes.
    """
    rules = "x-kubernetes-validations"

    def harden(schema: Any) -> None:
        for rule in schema.get(rules, []) if schema.get("type") == "string" else []:
            rule["rule"] = f"({rule['rule']}) && oldSelf == oldSelf"
        items = schema.get("items", {})
        for rule in items.get(rules, []) if items.get("type") == "string" else []:
            each = rule["rule"].replace("self", "each")
            schema.setdefault(rules, []).append({"rule": f"self.all(each, {each}) && oldSelf == oldSelf"})
        for inner in schema.get("properties", {}).values():
            harden(inner)

    for file in files(CRDS):
        crd = yaml.safe_load(file.read_text())
        harden(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"])
        (directory / file.name).write_text(yaml.safe_dump(crd))
    return directory


async def stored(cluster: Kube, namespace: str, manifest: Any, finalizer: str = "") -> str:
    """Create an object that a job protects, or that nobody does, and return its path."""
    where = path(names.API_VERSION, f"{manifest['kind'].lower()}s", namespace)
    name = f"{manifest['metadata']['name'][:20]}-{secrets.token_hex(3)}"
    labels = {finalizer: ""} if names.job_id_of(finalizer) else {}
    metadata = {"name": name, "finalizers": [finalizer] if finalizer else [], "labels": labels}
    await cluster.create(where, {**manifest, "metadata": metadata})
    return path(names.API_VERSION, f"{manifest['kind'].lower()}s", namespace, name)


async def test_what_breaks_a_new_format_can_still_be_deleted(
    control_plane: Any, cluster: Kube, namespace: str, earlier: Path, tmp_path: Path
) -> None:
    """The server validates the whole object at each change, with what the worker does at the end of a teardown."""
    await serve(control_plane, earlier)
    held = names.job_finalizer(JOB_ID)
    all_fields = {kind: broken(manifest) for kind, manifest in objects(earlier).items()}
    job = await stored(cluster, namespace, all_fields["SpotInstanceJob"], names.FINALIZER)
    vm = await stored(cluster, namespace, all_fields["SpotInstanceVM"], held)
    kept = await stored(cluster, namespace, all_fields["SpotInstanceVM"], held)
    fresh = await stored(cluster, namespace, all_fields["SpotInstanceJob"])
    await serve(control_plane, without_ratcheting(tmp_path))
    for where in (job, vm, kept):
        with pytest.raises(KubeError) as refused:
            await cluster.patch(where, {"metadata": {"finalizers": []}})
        assert refused.value.status == 422
    await cluster.delete(job)
    await cluster.delete(vm)

    # The bridge begins nothing for an object that it cannot protect, and does not try for ever.
    gateway, queues = Gateway(None), Queues()  # type: ignore[arg-type]
    assert not await Jobs(cluster, gateway, queues, "c")._add_finalizer(_job(await cluster.get(fresh)))
    metadata = (await cluster.get(job))["metadata"]
    ref = JobRef(namespace=namespace, name=metadata["name"], uid=metadata["uid"], job_id=JOB_ID)
    secret = SecretReference(name=HOSTILE, namespace="A/b")
    release = ReleaseFinalizers(job=ref, vm_name=HOSTILE, secrets=[secret])
    await SpecActivities(cluster, Timings()).release_finalizers(release)
    assert await cluster.find(job) is None
    assert await cluster.find(vm) is None
    # One that nobody deletes is as it was, and goes later.
    left = await cluster.get(kept)
    assert left["spec"]["gcp"]["project"] == HOSTILE
    assert left["metadata"]["finalizers"] == [held]
    await cluster.delete(kept)
    await SpecActivities(cluster, Timings()).release_finalizers(release)
    assert await cluster.find(kept) is None


async def test_a_reference_that_never_worked_may_be_corrected(
    control_plane: Any, cluster: Kube, namespace: str, earlier: Path
) -> None:
    await serve(control_plane, earlier)
    job = await stored(cluster, namespace, broken(objects(earlier)["SpotInstanceJob"]), names.FINALIZER)
    await serve(control_plane, CRDS)
    await cluster.patch(f"{job}/status", {"status": {"jobStatuses": [{"name": "one"}]}})
    repaired = {"checkpointImageRepo": "gcr.io/p/r"}
    await cluster.patch(job, {"spec": {"spotInstanceVMRef": {"name": "spot"}, "checkpointConfig": repaired}})
    for again in ({"spotInstanceVMRef": {"name": "other"}}, {"checkpointConfig": {"checkpointImageRepo": "gcr.io/q"}}):
        with pytest.raises(KubeError, match="cannot be changed once its replicas have begun"):
            await cluster.patch(job, {"spec": again})
    await cluster.patch(job, {"metadata": {"finalizers": []}})

"""Objects of earlier versions under this version's CRDs, and back, on a real API server.

``tests/crds`` holds the CRDs of an earlier version in a directory each, with objects that fill every field of theirs.
"""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.errors import SandboxError
from tests.bridge.conftest import CRDS
from tests.bridge.recorder import eventually

EARLIER = sorted((Path(__file__).parents[1] / "crds").iterdir())
KINDS = ["SpotInstanceJob", "SpotInstanceVM"]
ROOT = "self"


def files(directory: Path) -> list[Path]:
    """The CRDs of a version."""
    return sorted(directory.glob("*spotinstance*.yaml"))


def schemas(directory: Path) -> dict[str, Any]:
    """The schema of each kind."""
    crds = [yaml.safe_load(file.read_text()) for file in files(directory)]
    return {crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in crds}


def fields(schema: Any, path: str = ROOT) -> Iterator[tuple[str, Any]]:
    """Each field with its schema."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from fields(inner, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")


def filled(value: Any, path: str = ROOT) -> Iterator[str]:
    """Each field that an object fills."""
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from filled(inner, f"{path}.{name}")
    if isinstance(value, list):
        for inner in value:
            yield from filled(inner, f"{path}[]")


def objects(directory: Path) -> dict[str, Any]:
    """The objects that fill every field."""
    return {each["kind"]: each for each in yaml.safe_load_all((directory / "objects.yaml").read_text())}


@pytest.mark.parametrize("earlier", EARLIER, ids=lambda path: path.name)
@pytest.mark.parametrize("kind", KINDS)
def test_the_objects_fill_every_field(earlier: Path, kind: str) -> None:
    known = {path for path, _ in fields(schemas(earlier)[kind])}
    assert known - set(filled(objects(earlier)[kind])) == set()


@pytest.mark.parametrize("earlier", EARLIER, ids=lambda path: path.name)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_taken_away_or_demanded(earlier: Path, kind: str) -> None:
    now = dict(fields(schemas(CRDS)[kind]))
    for path, then in fields(schemas(earlier)[kind]):
        assert path in now, f"{path} was there"
        assert now[path].get("type") == then.get("type"), path
        assert set(now[path].get("required", [])) <= set(then.get("required", [])), path
        assert set(now[path].get("enum", [])) >= set(then.get("enum", [])), path
        for least in ("minimum", "minLength", "minItems"):
            assert now[path].get(least, 0) <= then.get(least, 0), f"{least} of {path}"
        for most in ("maximum", "maxLength", "maxItems"):
            assert most not in now[path] or now[path][most] >= then.get(most, now[path][most] + 1), f"{most} of {path}"


@pytest.fixture(params=EARLIER, ids=lambda path: path.name)
async def earlier(request: pytest.FixtureRequest, control_plane: Any, crds: None) -> AsyncIterator[Path]:
    """An earlier version; whatever a test does, this version's CRDs are back afterwards."""
    yield request.param
    await serve(control_plane, CRDS)


async def serve(control_plane: Any, directory: Path) -> None:
    """Apply CRDs, and wait until the API server knows just the fields of theirs."""
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
    """Objects of one namespace."""

    def __init__(self, control_plane: Any, namespace: str) -> None:
        self._kubectl = control_plane.kubectl
        self._namespace = ("-n", namespace)

    async def create(self, manifest: Any) -> None:
        """By strict validation, with its status, which a person does not write."""
        await self._kubectl("create", *self._namespace, "-f", "-", stdin=json.dumps(without_status(manifest)))
        if "status" in manifest:
            status = json.dumps({"status": manifest["status"]})
            await self._patch(manifest, "--subresource=status", "-p", status)

    async def edit(self, manifest: Any, field: str, value: Any) -> None:
        """As `kubectl edit` of one field of the spec."""
        await self._patch(manifest, "-p", json.dumps({"spec": {field: value}}))

    async def _patch(self, manifest: Any, *arguments: str) -> None:
        name = manifest["metadata"]["name"]
        await self._kubectl("patch", manifest["kind"], name, *self._namespace, "--type=merge", *arguments)

    async def get(self, manifest: Any) -> Any:
        """As it is read now."""
        name = manifest["metadata"]["name"]
        return json.loads(await self._kubectl("get", manifest["kind"], name, *self._namespace, "-o", "json"))


def without_status(manifest: Any) -> Any:
    return {key: value for key, value in manifest.items() if key != "status"}


def holds(found: Any, wanted: Any) -> None:
    """Everything that was written is there as it was; defaults may have come on top."""
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

"""By which ways a project can be looked into: whose objects name it, and with whose credentials."""

from collections.abc import Container
from dataclasses import dataclass

from pydantic import ValidationError

from activities.finalizers import holders
from api.common import LocalReference, SecretReference
from api.spot_instance_job import vm_name_in
from api.spot_instance_vm import SpotInstanceVMSpec
from clients.kube import Json

KEY = "credentials.json"  # of a Secret that opens a cloud
NOBODY = "-"  # a name and a UID that no object can have


@dataclass(frozen=True)
class Source:
    """A way to see a project: what a VM of it was made from, with whose credentials."""

    namespace: str
    vm_name: str
    spec: SpotInstanceVMSpec
    credentials: SecretReference | None
    ssh_key: LocalReference | None


def nobodys(project: str) -> Source:
    """A project that no SpotInstanceVM names: the worker's own identity, and what a teardown needs of a spec."""
    gcp = {"project": project, "zone": "us-central1-a", "machineType": NOBODY}
    return Source(NOBODY, NOBODY, SpotInstanceVMSpec.model_validate({"vmImage": NOBODY, "gcp": gcp}), None, None)


def sources_by_project(vm_objects: list[Json], job_objects: list[Json]) -> dict[str, list[Source]]:
    """The projects that CRs name; a job's credentials are tried before the worker's own identity."""
    specs = {(vm["metadata"]["namespace"], vm["metadata"]["name"]): vm["spec"] for vm in vm_objects}
    wanted: list[tuple[str, str, Json | None]] = [
        (
            job["metadata"]["namespace"],
            vm_name_in(job["spec"]),
            job["spec"].get("gcpCredentialsSecretRef"),
        )
        for job in job_objects
    ]
    wanted += [(namespace, name, None) for namespace, name in specs]
    sources: dict[str, list[Source]] = {}
    tried: set[tuple[str, str, str]] = set()
    for namespace, name, reference in wanted:
        try:
            spec = SpotInstanceVMSpec.model_validate(specs[namespace, name])
        except (KeyError, ValidationError):
            continue  # nothing can have been bought from it
        credentials = SecretReference.model_validate(reference) if reference else None
        secret = (credentials.namespace or namespace, credentials.name) if credentials else ("", "")
        if (spec.gcp.project, *secret) in tried:
            continue
        tried.add((spec.gcp.project, *secret))
        source = Source(namespace, name, spec, credentials, spec.ssh_key_secret_ref)
        sources.setdefault(spec.gcp.project, []).append(source)
    return sources


def left_behind(vm_objects: list[Json], held: list[Json], living: Container[str]) -> dict[str, list[Source]]:
    """Ways of jobs that are gone and not ``living``: what they bought from, and the keys that they still hold.

    A job held a key only once it was permitted to. Its workflow's id is on both objects, so that nobody who writes his
    own SpotInstanceVM has somebody else's key tried.
    """
    keys = {holder: each for each in held if KEY in (each.get("data") or {}) for holder in holders(each)}
    sources: dict[str, list[Source]] = {}
    for vm in vm_objects:
        namespace, name = vm["metadata"]["namespace"], vm["metadata"]["name"]
        for job_id, workflow_id in holders(vm):
            secret = keys.get((job_id, workflow_id))
            if secret is None or job_id in living or workflow_id.partition("/")[0] != namespace:
                continue
            try:
                spec = SpotInstanceVMSpec.model_validate(vm["spec"])
            except ValidationError:
                continue
            key = SecretReference(name=secret["metadata"]["name"], namespace=secret["metadata"]["namespace"])
            sources.setdefault(spec.gcp.project, []).append(Source(namespace, name, spec, key, spec.ssh_key_secret_ref))
    return sources

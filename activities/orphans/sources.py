"""Sources: the ways to look into a project, by the objects that name it and the credentials that open it."""

from collections.abc import Container
from dataclasses import dataclass

from pydantic import ValidationError

from activities.documents.protected import protectors
from api.common import LocalReference, SecretReference
from api.spot_instance_job import vm_name_in
from api.spot_instance_vm import SpotInstanceVMSpec
from clients.kube import Json

KEY = "credentials.json"  # in a Secret that opens a cloud
NOBODY = "-"  # a name and a UID that no object can have


@dataclass(frozen=True)
class Source:
    """A way to look into a project: what one of its VMs was made from, and with whose credentials."""

    namespace: str
    vm_name: str
    spec: SpotInstanceVMSpec
    credentials: SecretReference | None
    ssh_key: LocalReference | None


def nobodys(project: str) -> Source:
    """Make the source of a project that no SpotInstanceVM names: the worker's own identity, and a minimal spec."""
    gcp = {"project": project, "zone": "us-central1-a", "machineType": NOBODY}
    return Source(NOBODY, NOBODY, SpotInstanceVMSpec.model_validate({"vmImage": NOBODY, "gcp": gcp}), None, None)


def sources_by_project(vm_objects: list[Json], job_objects: list[Json]) -> dict[str, list[Source]]:
    """List the sources of the projects that CRs name; a job's credentials come before the worker's own identity."""
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


def left_behind(vm_objects: list[Json], protected: list[Json], living: Container[str]) -> dict[str, list[Source]]:
    """List the sources of jobs that are not ``living``: what they bought from, with the keys that they protect.

    A job protects a key only if it was once permitted to use it. Both objects carry the id of its workflow, so nobody
    can write a SpotInstanceVM to have somebody else's key tried.
    """
    keys = {protector: each for each in protected if KEY in (each.get("data") or {}) for protector in protectors(each)}
    sources: dict[str, list[Source]] = {}
    for vm in vm_objects:
        namespace, name = vm["metadata"]["namespace"], vm["metadata"]["name"]
        for job_id, workflow_id in protectors(vm):
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

"""``outlast plan``: what a job would do, without doing it. Its manifests are sent as dry runs, so nothing is stored."""

from collections.abc import AsyncIterator, Iterator

import yaml
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from activities.documents.checks import format_problems, secrets_in_use, spec_problems, vm_problems
from api import names
from api.market import Candidate
from api.prices import AS_OF, gpus_of, on_demand_price
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from cli.session import USAGE, Cluster, Told, console
from clients.kube import APPLY_PATCH, Json, KubeError, path
from workflows.policy.candidates import candidates_of

KINDS = {
    "SpotInstanceJob": (names.API_VERSION, names.JOB_PLURAL),
    "SpotInstanceVM": (names.API_VERSION, names.VM_PLURAL),
    "InstanceTemplate": (names.API_VERSION, names.TEMPLATE_PLURAL),
    "Secret": ("v1", "secrets"),
    "ConfigMap": ("v1", "configmaps"),
}
"""The kinds of manifests that are planned; others are passed over."""
MANAGER = "outlast-plan"


async def tell(cluster: Cluster, text: str) -> int:
    """Tell what the jobs of these manifests would do, and return how many problems were found.

    Raises:
        Told: there is no SpotInstanceJob in them.
    """
    documents = _documents(text)
    jobs = [each for each in documents if each["kind"] == "SpotInstanceJob"]
    if not jobs:
        raise Told("there is no SpotInstanceJob in this file", USAGE)
    refused = [line async for line in _refusals(cluster, documents)]
    for line in refused:
        console.print(f"✗ {line}", style="red", soft_wrap=True)
    return len(refused) + sum([await _tell_job(cluster, job, documents) for job in jobs])


def _documents(text: str) -> list[Json]:
    try:
        found = [each for each in yaml.safe_load_all(text) if each]
    except yaml.YAMLError as error:
        raise Told(f"this is no YAML: {error}", USAGE) from None
    return [each for each in found if isinstance(each, dict) and each.get("kind") in KINDS]


async def _refusals(cluster: Cluster, documents: list[Json]) -> AsyncIterator[str]:
    """Send each manifest as a dry run: schemas, rules, policies and quotas judge it as they would in earnest."""
    for document in documents:
        version, plural = KINDS[document["kind"]]
        meta = document.get("metadata") or {}
        where = path(version, plural, meta.get("namespace") or cluster.namespace, meta.get("name") or "")
        body = {**document, "apiVersion": version}
        try:
            await cluster.kube.patch(where, body, APPLY_PATCH, fieldManager=MANAGER, force=True, dryRun="All")
        except KubeError as error:
            yield f"{document['kind']} {meta.get('name')}: {error.message}"


async def _tell_job(cluster: Cluster, job: Json, documents: list[Json]) -> int:
    name, namespace = job["metadata"]["name"], job["metadata"].get("namespace") or cluster.namespace
    try:
        spec = SpotInstanceJobSpec.model_validate(job.get("spec") or {})
        vm = await _vm(cluster, namespace, spec, documents)
    except (ValidationError, Told) as error:
        console.print(f"✗ {name}: {error}", style="red", soft_wrap=True)
        return 1
    problems = [
        *format_problems(spec),
        *spec_problems(spec, vm, namespace),
        *vm_problems(vm, spec.spot_instance_vm_ref.name),
    ]
    lacking = [line async for line in _secrets(cluster, spec, vm, namespace, documents)]
    console.print(Text.assemble((f"{namespace}/{name}", "bold"), f": {_copies(spec)}"))
    for line in [*(each.message for each in problems), *lacking]:
        console.print(f"✗ {line}", style="red", soft_wrap=True)
    for line in _steps(spec):
        console.print(f"  {line}", soft_wrap=True)
    console.print(_candidates(spec, vm))
    console.print(
        f"Prices are Google's list prices of us-central1, {AS_OF}. Spot prices are read when a VM is bought; they are "
        "often a third of these. Quotas and capacity show only then.",
        style="dim",
        soft_wrap=True,
    )
    return len(problems) + len(lacking)


def _copies(spec: SpotInstanceJobSpec) -> str:
    machines = spec.replicas * spec.members
    of = f" of {spec.members} members" if spec.members > 1 else ""
    return f"{spec.replicas} replica{'s' if spec.replicas > 1 else ''}{of}, {machines} machines at most at once"


def _steps(spec: SpotInstanceJobSpec) -> Iterator[str]:
    config = spec.checkpoint_config
    yield "1. takes free GPUs of the cluster; what finds none is bought as below"
    yield "2. checks cloud, registry, bucket and SSH before anything is bought"
    if config.mode == "Application":
        yield "3. the training saves itself into checkpointStorage; it is told to by SIGTERM"
    else:
        where, often = config.checkpoint_image_repo, config.checkpoint_interval
        yield f"3. checkpoints the furthest replica every {often} into {where}"
    tolerated = f"{spec.restarts_allowed} failures of the training itself are tolerated"
    yield f"4. continues elsewhere when a machine is lost; {tolerated}"
    yield "5. releases all machines when the training has ended"


def _candidates(spec: SpotInstanceJobSpec, vm: SpotInstanceVMSpec) -> Table:
    fallback = vm.on_demand_fallback
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("CANDIDATE", "ZONE", "MARKET", "GPUS", "ON-DEMAND $/H", "ALL MACHINES $/H"):
        shown.add_column(title, justify="right" if "$" in title or title == "GPUS" else "left")
    for candidate in candidates_of(vm, on_demand=fallback is not None):
        price = on_demand_price(candidate, fallback)
        all_of_them = price * spec.replicas * spec.members if price is not None else None
        shown.add_row(
            _shape(candidate), candidate.zone, candidate.provisioning, str(gpus_of(candidate)), _usd(price),
            _usd(all_of_them),
        )  # fmt: skip
    return shown


def _usd(amount: float | None) -> str:
    return "?" if amount is None else f"{amount:.2f}"


def _shape(candidate: Candidate) -> str:
    gpu = f" + {candidate.gpu.count} x {candidate.gpu.type}" if candidate.gpu else ""
    return f"{candidate.machine_type}{gpu}"


async def _vm(cluster: Cluster, namespace: str, spec: SpotInstanceJobSpec, documents: list[Json]) -> SpotInstanceVMSpec:
    """Find the SpotInstanceVM of a job, first among the manifests."""
    name = spec.spot_instance_vm_ref.name
    for document in documents:
        if document["kind"] in ("SpotInstanceVM", "InstanceTemplate") and document["metadata"]["name"] == name:
            return SpotInstanceVMSpec.model_validate(document.get("spec") or {})
    found = await cluster.kube.find(path(names.API_VERSION, names.VM_PLURAL, namespace, name))
    if found is None:
        raise Told(f"spotInstanceVMRef names {name}, which is neither in this file nor in {namespace}: create it")
    return SpotInstanceVMSpec.model_validate(found["spec"])


async def _secrets(
    cluster: Cluster, spec: SpotInstanceJobSpec, vm: SpotInstanceVMSpec, namespace: str, documents: list[Json]
) -> AsyncIterator[str]:
    """Say which Secrets are missing, as far as whoever asks may know."""
    given = {each["metadata"]["name"] for each in documents if each["kind"] == "Secret"}
    for use in secrets_in_use(spec, vm, namespace):
        if use.optional or use.name in given:
            continue
        try:
            found = await cluster.kube.find(path("v1", "secrets", use.namespace, use.name))
        except KubeError as error:
            if error.status == 403:
                continue
            raise
        lacking = [key for key in use.keys if key not in ((found or {}).get("data") or {})]
        if found is None:
            yield f"{use.field}: there is no Secret {use.namespace}/{use.name}: create it"
        elif lacking:
            yield f"{use.field}: Secret {use.namespace}/{use.name} lacks {', '.join(lacking)}: add it"

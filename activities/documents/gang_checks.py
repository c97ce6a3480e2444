"""What a job whose pods train together needs of its spec and of the cluster, and what its template may get wrong.

The CRD refuses most of it at apply. Here it is checked again: Kubernetes before 1.25 knows no such rules.
"""

import re
from collections.abc import Iterator

from activities.documents.findings import Findings
from activities.replicas.pods import all_containers
from api import gang, reasons
from api.common import Condition, not_accepted
from api.gang import MASTER_PORT
from api.spot_instance_job import SpotInstanceJobSpec
from clients.kube import Json, Kube

OLDEST = (1, 29)
"""The first Kubernetes that lets the other pods of an Indexed Job run on when one has failed."""

_CLUSTER_DNS = {"ClusterFirst", "ClusterFirstWithHostNet"}


async def check_gang(kube: Kube, spec: SpotInstanceJobSpec) -> Findings:
    """Check a spec whose replica is a gang; nothing is found for another."""
    if not spec.is_gang:
        return Findings()
    problems = [not_accepted(reasons.INVALID_SPEC, message) for message in _messages(spec)]
    return Findings([*problems, *await _version_problems(kube)], list(_warnings(spec)))


def _messages(spec: SpotInstanceJobSpec) -> Iterator[str]:
    job, wanted = spec.job_spec, spec.gang
    if wanted is not None and wanted.min_size > wanted.max_size:
        yield f"gang: {gang.MIN_ABOVE_MAX}"
    if spec.replicas != 1:
        yield gang.ONE_REPLICA
    if spec.checkpoint_config.mode != "Application":
        yield gang.SAVES_ITSELF
    if spec.members > gang.LARGEST:
        yield gang.TOO_MANY
    if wanted is not None and job.get("parallelism", wanted.max_size) != wanted.max_size:
        yield gang.ANOTHER_PARALLELISM
    if job.get("completions", spec.members) != spec.members:
        yield gang.ANOTHER_COMPLETIONS


async def _version_problems(kube: Kube) -> list[Condition]:
    version = await kube.get("/version")
    numbers = tuple(int(found) for part in ("major", "minor") for found in re.findall(r"^\d+", str(version.get(part))))
    if len(numbers) < 2 or numbers >= OLDEST:
        return []
    oldest = ".".join(map(str, OLDEST))
    message = (
        f"the cluster runs Kubernetes {'.'.join(map(str, numbers))}, and pods that train together need {oldest}: "
        "before that, the end of one would delete the others. Upgrade the cluster, or train with one pod"
    )
    return [not_accepted(reasons.KUBERNETES_TOO_OLD, message)]


def _warnings(spec: SpotInstanceJobSpec) -> Iterator[str]:
    pod = spec.pod
    try:
        containers = all_containers(pod)
        meet_elsewhere = all("MASTER_PORT" in _variables(each) for each in containers)
        ports = {port.get("containerPort") for each in containers for port in each.get("ports") or []}
    except (AttributeError, TypeError):  # the API server reports it in the dry run
        return
    if MASTER_PORT in ports and not meet_elsewhere:
        yield (
            f"jobTemplate names containerPort {MASTER_PORT}, at which the pods that train together meet. If something "
            "else listens there, set MASTER_PORT (for torchrun PET_MASTER_PORT) in env of the training to a free port"
        )
    usual = "Default" if pod.get("hostNetwork") else "ClusterFirst"  # with hostNetwork, ClusterFirst means that
    policy = pod.get("dnsPolicy") or usual
    if policy not in _CLUSTER_DNS or (pod.get("hostNetwork") and policy == "ClusterFirst"):
        yield (
            "jobTemplate: the pods that train together find each other by the cluster's DNS, which they do not ask: "
            f"set dnsPolicy to {'ClusterFirstWithHostNet' if pod.get('hostNetwork') else 'ClusterFirst'}"
        )
    named = [field for field in ("hostname", "subdomain") if pod.get(field)]
    if named:
        yield (
            f"jobTemplate.spec.template.spec.{' and '.join(named)} has no effect: the pods that train together find "
            "each other by names that Outlast gives them; leave it out"
        )


def _variables(container: Json) -> set[str | None]:
    return {each.get("name") for each in container.get("env") or []}

"""The preflight: each check becomes a condition with its remedy."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Hashable

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.compute import Cloud, MachineType
from activities.compute.preflight import check_cloud
from activities.kubernetes.refusals import kind_of
from activities.network.gate import Gate
from activities.preflight.answers import Answers, Look, all_true
from activities.preflight.machines import check_machines
from activities.registry.client import Registry
from activities.registry.credentials import repository_credentials
from activities.registry.repository import parse_repository
from activities.signatures import CHECK_MACHINES, PREFLIGHT, Preflight, PreflightRequest
from activities.storage import Buckets
from activities.storage.bucket import secret_of
from activities.storage.preflight import check_storage
from api import conditions, errors, names, reasons
from api.common import Condition, SecretReference
from api.market import Candidate
from clients.kube import Json, Kube, KubeError, path

CRD = f"{names.CHECKPOINT_PLURAL}.{names.CHECKPOINT_GROUP}"
NEEDED_FIELDS = (("spec", "stopPod"), ("spec", "containers"), ("status", "builtImages"))
"""Fields of a CheckpointBackup that an older schema lacks, so that the API server drops them silently."""


class PreflightActivities:
    """Checks, and changes nothing. ``kube`` may read CustomResourceDefinitions and Secrets.

    Args:
        kube: the cluster.
        cloud: the cloud in which VMs are bought.
        buckets: the buckets of jobs.
        gate: the gate through which registries are reached.
        shared_for: seconds for which a good answer is shared with jobs that repeat a check.
    """

    def __init__(self, kube: Kube, cloud: Cloud, buckets: Buckets, gate: Gate, shared_for: float = 600) -> None:
        self._kube = kube
        self._gate = gate
        self._cloud = cloud
        self._buckets = buckets
        self._answers = Answers[list[Condition]](shared_for, all_true)
        self._machine_types = Answers[MachineType | None](shared_for, lambda found: found is not None)

    @activity.defn(name=PREFLIGHT.name)
    async def preflight(self, request: PreflightRequest) -> Preflight:
        """Check the checkpoint operator, registry, credentials, cloud, bucket and machines, all at once."""
        questions = await self._questions(request)
        machines, found = await asyncio.gather(
            self.check_machines(request), asyncio.gather(*(self._ask(request, question) for question in questions))
        )
        told = [condition for conditions in found for condition in conditions]
        return Preflight(conditions=[*told, *machines.conditions], unfit=machines.unfit)

    @activity.defn(name=CHECK_MACHINES.name)
    async def check_machines(self, request: PreflightRequest) -> Preflight:
        """Check the template against the machines that may be bought, and nothing else."""
        secret, namespace, project = (
            request.spec.gcp_credentials_secret_ref,
            request.job.namespace,
            request.vm_spec.gcp.project,
        )
        key = await self._identity(secret, namespace)

        async def machine_type(candidate: Candidate) -> MachineType | None:
            where = (project, candidate.zone, candidate.machine_type)

            async def look() -> MachineType | None:
                return await (await self._cloud.open(secret, namespace)).machine_type(*where)

            return await self._machine_types.ask((key, *where), look, known=request.again)

        return await check_machines(self._kube, request, machine_type)

    async def _ask(self, request: PreflightRequest, question: tuple[Hashable, Look]) -> list[Condition]:
        key, look = question
        return await self._answers.ask(key, look, known=request.again)

    async def _questions(self, request: PreflightRequest) -> list[tuple[Hashable, Look]]:
        """List the questions, each with a key that contains everything on which its answer depends."""
        spec, config, namespace = request.spec, request.spec.checkpoint_config, request.job.namespace
        storage, cloud = config.checkpoint_storage, spec.gcp_credentials_secret_ref
        key, login, bucket_key = await asyncio.gather(
            self._identity(cloud, namespace),
            self._identity(config.checkpoint_repo_credential_ref, namespace),
            self._identity(secret_of(storage, cloud) if storage else None, namespace),
        )
        vm, mode = request.vm_spec, config.mode
        offers = (
            vm.gcp.project,
            vm.vm_image,
            vm.gcp.zone,
            vm.gcp.disk_type,
            *(each.model_dump_json() for each in request.candidates),
        )
        rights = (bool(vm.gcp.service_account), bool(vm.gcp.network_tags), vm.gcp.external_ip)
        place = storage.model_dump_json() if storage else ""
        return [
            (("operator", mode), lambda: _one(self._check_operator(request))),
            (("registry", mode, config.checkpoint_image_repo, login, key), lambda: _one(self._check_registry(request))),
            (("cloud", key, *offers, *rights), lambda: check_cloud(self._cloud, request)),
            (
                ("storage", mode, bool(spec.outputs), place, bucket_key),
                lambda: check_storage(self._buckets, request),
            ),
        ]

    async def _identity(self, secret: SecretReference | None, namespace: str) -> Hashable:
        """Identify the credentials: a Secret's by its content, which our finalizers do not change.

        Without a Secret it is the worker's own identity, which not every namespace may use for everything.
        """
        if secret is None:
            return ("own", namespace)
        where = secret.namespace or namespace
        try:
            found = await self._kube.shared(path("v1", "secrets", where, secret.name))
        except KubeError as error:
            if error.status != 403:
                raise
            found = None
        content = json.dumps((found or {}).get("data"), sort_keys=True)
        return (where, secret.name, hashlib.sha256(content.encode()).hexdigest())

    async def _check_operator(self, request: PreflightRequest) -> Condition:
        if request.spec.checkpoint_config.mode == "Application":
            return Condition(
                type=conditions.OPERATOR_READY,
                status="True",
                reason=reasons.NOT_NEEDED,
                message="the training checkpoints itself",
            )
        crd = await self._kube.find(path("apiextensions.k8s.io/v1", "customresourcedefinitions", name=CRD))
        if crd is None:
            message = (
                f"the cluster has no CustomResourceDefinition {CRD}: install the checkpoint operator, or set "
                "checkpointConfig.mode to Application"
            )
            return Condition(
                type=conditions.OPERATOR_READY, status="False", reason=reasons.NOT_INSTALLED, message=message
            )
        lacking = _lacking_fields(crd)
        if lacking:
            message = (
                f"the CustomResourceDefinition {CRD} lacks {', '.join(lacking)}: it is a stub or too old; install the "
                "one that comes with the checkpoint operator"
            )
            return Condition(
                type=conditions.OPERATOR_READY, status="False", reason=reasons.SCHEMA_TOO_OLD, message=message
            )
        return Condition(
            type=conditions.OPERATOR_READY,
            status="True",
            reason=reasons.INSTALLED,
            message=f"{CRD} {names.CHECKPOINT_VERSION}",
        )

    async def _check_registry(self, request: PreflightRequest) -> Condition:
        config = request.spec.checkpoint_config
        if config.mode == "Application" or config.checkpoint_image_repo is None:
            return Condition(
                type=conditions.REGISTRY_READY,
                status="True",
                reason=reasons.NOT_NEEDED,
                message="no checkpoint image is pushed",
            )
        try:
            repository = parse_repository(config.checkpoint_image_repo)
            reference = config.checkpoint_repo_credential_ref
            credentials = await repository_credentials(
                self._kube,
                config.checkpoint_image_repo,
                reference,
                request.spec.gcp_credentials_secret_ref,
                request.job.namespace,
            )
            async with Registry(repository, credentials, self._gate) as registry:
                await registry.tags()
                await registry.try_push()
        except ApplicationError as error:
            return _unmet(error.type or errors.INVALID, error.message)
        except KubeError as error:
            return _unmet(kind_of(error), str(error))
        except ValueError as error:
            return _unmet(errors.INVALID, str(error))
        except ConnectionError as error:
            message = f"{error}: is checkpointConfig.checkpointImageRepo right, and the registry up?"
            return Condition(
                type=conditions.REGISTRY_READY, status="Unknown", reason=reasons.UNREACHABLE, message=message
            )
        return Condition(
            type=conditions.REGISTRY_READY, status="True", reason=reasons.PUSH_AND_PULL, message=repository.name
        )


async def _one(look: Awaitable[Condition]) -> list[Condition]:
    return [await look]


def _unmet(reason: str, message: str) -> Condition:
    return Condition(type=conditions.REGISTRY_READY, status="False", reason=reason, message=message)


def _lacking_fields(crd: Json) -> list[str]:
    """List the fields of NEEDED_FIELDS that the schema of the served version drops."""
    served: Json = next((v for v in crd["spec"]["versions"] if v["name"] == names.CHECKPOINT_VERSION), {})
    if not served.get("served"):
        return [f"version {names.CHECKPOINT_VERSION}"]
    schema: Json = served.get("schema", {}).get("openAPIV3Schema", {})
    return [".".join(field) for field in NEEDED_FIELDS if not _keeps(schema, field)]


def _keeps(schema: Json, field: tuple[str, ...]) -> bool:
    for name in field:
        if schema.get("x-kubernetes-preserve-unknown-fields"):
            return True
        schema = schema.get("properties", {}).get(name)
        if schema is None:
            return False
    return True

"""What has to be right before money is spent: each thing looked at becomes a condition with its remedy."""

import asyncio

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.compute import Cloud
from activities.compute.preflight import check_cloud
from activities.gate import Gate
from activities.refusals import kind_of
from activities.registry import Registry
from activities.registry_credentials import repository_credentials
from activities.repository import parse_repository
from activities.signatures import PREFLIGHT, Preflight, PreflightRequest
from activities.storage import Buckets
from activities.storage.preflight import check_storage
from api import names
from api.common import Condition
from clients.kube import Json, Kube, KubeError, path

OPERATOR = "CheckpointOperatorReady"
REGISTRY = "RegistryReady"

CRD = f"{names.CHECKPOINT_PLURAL}.{names.CHECKPOINT_GROUP}"
NEEDED_FIELDS = (("spec", "stopPod"), ("spec", "containers"), ("status", "builtImages"))
"""Fields of a CheckpointBackup that an older schema lacks, so that the API server drops them in silence."""


class PreflightActivities:
    """Looks, and changes nothing. ``kube`` may read CustomResourceDefinitions and Secrets."""

    def __init__(self, kube: Kube, cloud: Cloud, buckets: Buckets, gate: Gate) -> None:
        self._kube = kube
        self._gate = gate
        self._cloud = cloud
        self._buckets = buckets

    @activity.defn(name=PREFLIGHT.name)
    async def preflight(self, request: PreflightRequest) -> Preflight:
        """Look at the checkpoint operator, the registry, the credentials, the cloud and the bucket, all at once."""
        operator, registry, cloud, storage = await asyncio.gather(
            self._check_operator(request),
            self._check_registry(request),
            check_cloud(self._cloud, request),
            check_storage(self._buckets, request),
        )
        return Preflight(conditions=[operator, registry, *cloud, *storage])

    async def _check_operator(self, request: PreflightRequest) -> Condition:
        if request.spec.checkpoint_config.mode == "Application":
            return Condition(
                type=OPERATOR, status="True", reason="NotNeeded", message="the training checkpoints itself"
            )
        crd = await self._kube.find(path("apiextensions.k8s.io/v1", "customresourcedefinitions", name=CRD))
        if crd is None:
            message = (
                f"the cluster has no CustomResourceDefinition {CRD}: install the checkpoint operator, or set "
                "checkpointConfig.mode to Application"
            )
            return Condition(type=OPERATOR, status="False", reason="NotInstalled", message=message)
        lacking = _lacking_fields(crd)
        if lacking:
            message = (
                f"the CustomResourceDefinition {CRD} lacks {', '.join(lacking)}: it is a stub or too old, install the "
                "one that comes with the checkpoint operator"
            )
            return Condition(type=OPERATOR, status="False", reason="SchemaTooOld", message=message)
        return Condition(type=OPERATOR, status="True", reason="Installed", message=f"{CRD} {names.CHECKPOINT_VERSION}")

    async def _check_registry(self, request: PreflightRequest) -> Condition:
        config = request.spec.checkpoint_config
        if config.mode == "Application" or config.checkpoint_image_repo is None:
            return Condition(type=REGISTRY, status="True", reason="NotNeeded", message="no checkpoint image is pushed")
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
            return _unmet(error.type or "Invalid", error.message)
        except KubeError as error:
            return _unmet(kind_of(error), str(error))
        except ValueError as error:
            return _unmet("Invalid", str(error))
        except ConnectionError as error:
            message = f"{error}: is checkpointConfig.checkpointImageRepo right, and the registry up?"
            return Condition(type=REGISTRY, status="Unknown", reason="Unreachable", message=message)
        return Condition(type=REGISTRY, status="True", reason="PushAndPull", message=repository.name)


def _unmet(reason: str, message: str) -> Condition:
    return Condition(type=REGISTRY, status="False", reason=reason, message=message)


def _lacking_fields(crd: Json) -> list[str]:
    """Fields of NEEDED_FIELDS that the schema of the served version drops."""
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

"""Checks of a spec that need no outside system: what is wrong with it, and which Secrets it uses. Pure."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from activities.join.kubeadm import NO_HASH, is_ca_cert_hash
from activities.registry.repository import parse_image, parse_repository
from activities.replicas.pods import compile_pattern
from api import names, reasons
from api.common import Condition, not_accepted
from api.duration import AUTO, parse_duration
from api.formats import misshapen
from api.identity import owns_account
from api.model import Model
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from clients.kube import Json

LATEST_TAG = "LatestTag"

LARGEST_SPEC = 512 * 1024
"""Bytes of a spec as JSON. Temporal allows 2 MiB for a payload, and the state of a job contains two specs."""


@dataclass(frozen=True)
class SecretUse:
    """A Secret that a job needs: the keys that it must have, and the field that names it."""

    namespace: str
    name: str
    keys: tuple[str, ...]
    field: str
    optional: bool = False
    warning: str = ""  # what a person should know if the Secret exists


def secrets_in_use(spec: SpotInstanceJobSpec, vm: SpotInstanceVMSpec | None, namespace: str) -> list[SecretUse]:
    """List the Secrets that a job's work and teardown need; ``namespace`` is the job's."""
    uses = []
    if cloud := spec.gcp_credentials_secret_ref:
        where = cloud.namespace or namespace
        uses.append(SecretUse(where, cloud.name, ("credentials.json",), "gcpCredentialsSecretRef"))
    if registry := spec.checkpoint_config.checkpoint_repo_credential_ref:
        where, keys = registry.namespace or namespace, ("username", "password")
        uses.append(SecretUse(where, registry.name, keys, "checkpointConfig.checkpointRepoCredentialRef"))
    uses += _storage_secret(spec, namespace)
    if vm is None:
        return uses
    if ssh := vm.ssh_key_secret_ref:
        uses.append(SecretUse(namespace, ssh.name, ("ssh-privatekey",), "SpotInstanceVM's sshKeySecretRef"))
    token = vm.kubeadm_join_config.token_secret_ref if vm.kubeadm_join_config else None
    field = "SpotInstanceVM's kubeadmJoinConfig.tokenSecretRef"
    name = token.name if token else names.JOIN_SECRET
    uses.append(
        SecretUse(namespace, name, ("token",), field, optional=token is None, warning=_own_token(namespace, name))
    )
    return uses


def _own_token(namespace: str, name: str) -> str:
    return (
        f"VMs join by the token in Secret {namespace}/{name}: whoever is root on one of them or reads that Secret can "
        "join as any Node of the cluster while the token lasts. Without the Secret, Outlast makes a token for each VM, "
        "which makes that VM's Node and nothing else"
    )


def _storage_secret(spec: SpotInstanceJobSpec, namespace: str) -> list[SecretUse]:
    storage = spec.checkpoint_config.checkpoint_storage
    if storage is None or storage.credentials_secret_ref is None:
        return []
    # Its keys are checked when the bucket is opened, because they depend on the type of storage.
    field = "checkpointConfig.checkpointStorage.credentialsSecretRef"
    return [SecretUse(namespace, storage.credentials_secret_ref.name, (), field)]


def format_problems(model: Model, what: str = "") -> list[Condition]:
    """List the fields that lack the format of the CRD, since an object may have been stored before the CRD had it.

    ``what`` is written before the first field.
    """
    told = "; ".join(map(str, misshapen(model)))
    return [not_accepted(reasons.INVALID_SPEC, f"{what}{told}")] if told else []


def spec_problems(
    spec: SpotInstanceJobSpec, vm: SpotInstanceVMSpec | None = None, namespace: str = ""
) -> list[Condition]:
    """List what the CRD's schema cannot refuse; ``namespace`` is that of the job and its SpotInstanceVM."""
    messages = [*_messages(spec), *(_login_messages(spec, vm, namespace) if vm is not None else [])]
    return [not_accepted(reasons.INVALID_SPEC, message) for message in messages]


def vm_problems(vm: SpotInstanceVMSpec, where: str) -> list[Condition]:
    """List what the CRD accepts, as the original operator does, though it cannot work; ``where`` names the object."""
    digest = vm.kubeadm_join_config.ca_cert_hash if vm.kubeadm_join_config else None
    if digest is None or is_ca_cert_hash(digest):
        return []
    return [not_accepted(reasons.INVALID_SPEC, f"{where}: kubeadmJoinConfig.caCertHash {NO_HASH}")]


FOREIGN_PROFILE = (
    "sshKeySecretRef: gcp.sshAccess: OSLogin would let this key into every VM that the service account of the "
    "credentials may enter, and their Secret is not of this namespace: leave sshKeySecretRef out, so that Outlast "
    "enters by its own key, or name a Secret of this namespace in gcpCredentialsSecretRef"
)


def _login_messages(spec: SpotInstanceJobSpec, vm: SpotInstanceVMSpec, namespace: str) -> Iterator[str]:
    """Refuse a tenant's SSH key in the OS Login profile of an account that is only lent to it or shared with it."""
    named = vm.gcp.ssh_access == "OSLogin" and vm.ssh_key_secret_ref is not None
    if named and not owns_account(spec.gcp_credentials_secret_ref, namespace):
        yield f"SpotInstanceVM's {FOREIGN_PROFILE}"


def _messages(spec: SpotInstanceJobSpec) -> Iterator[str]:
    config = spec.checkpoint_config
    if config.checkpoint_interval != AUTO and parse_duration(config.checkpoint_interval).total_seconds() <= 0:
        yield 'checkpointConfig.checkpointInterval is zero: write for example "30m"'
    if config.checkpoint_image_repo is not None:
        yield from _told(parse_repository, config.checkpoint_image_repo, "checkpointConfig.checkpointImageRepo")
    elif config.mode == "Image":
        yield (
            "checkpointConfig.checkpointImageRepo is not set: name a repository to push checkpoint images to, or set "
            "checkpointConfig.mode to Application"
        )
    if config.progress is not None:
        yield from _told(compile_pattern, config.progress.log_pattern, "checkpointConfig.progress")
    elif spec.stall_timeout is not None and parse_duration(spec.stall_timeout).total_seconds() > 0:
        yield (
            "stallTimeout needs to know how far the training is: set checkpointConfig.progress.logPattern to an "
            "expression that matches what it logs, or leave stallTimeout out"
        )
    if config.mode == "Image" and config.checkpoint_storage and config.checkpoint_storage.layout != "Outlast":
        yield (
            "checkpointConfig.checkpointStorage.layout says how a training saves itself, which is mode Application: "
            "leave layout out, or set that mode"
        )
    if config.mode == "Application" and config.restore_from == LATEST_TAG:
        yield (
            "checkpointConfig.restoreFrom: LatestTag names an image; in mode Application name a prefix in the bucket "
            "of checkpointStorage"
        )
    elif config.mode == "Image" and config.restore_from is not None and config.restore_from != LATEST_TAG:
        yield from _told(parse_image, config.restore_from, "checkpointConfig.restoreFrom")


def _told(parse: Callable[[str], object], text: str, field: str) -> Iterator[str]:
    try:
        parse(text)
    except ValueError as error:
        yield f"{field}: {error}"


def too_large(kind: str, spec: Json) -> list[Condition]:
    """Refuse a spec that would not fit into Temporal's payloads together with its job's state."""
    size = len(json.dumps(spec))
    if size <= LARGEST_SPEC:
        return []
    message = (
        f"{kind} takes {size // 1024} KiB, and the limit is {LARGEST_SPEC // 1024} KiB: move what is long "
        "into a ConfigMap, an image or a bucket, and refer to that"
    )
    return [not_accepted(reasons.TOO_LARGE, message)]


def not_shared(uses: list[SecretUse], namespace: str) -> list[Condition]:
    """Make the conditions for Secrets that jobs of ``namespace`` may not name, one for each other namespace.

    The Secrets need not exist. The command in the message shares all Secrets of one namespace at once.
    """
    return [
        _not_shared([use for use in uses if use.namespace == other], other, namespace)
        for other in dict.fromkeys(use.namespace for use in uses)
    ]


def _not_shared(uses: list[SecretUse], other: str, namespace: str) -> Condition:
    secrets = list(dict.fromkeys(use.name for use in uses))
    message = (
        f"{' and '.join(use.field for use in uses)}: {', '.join(f'{other}/{name}' for name in secrets)} of another "
        f"namespace is not shared with {namespace}. Use a Secret of your own namespace, or ask whoever owns it to run: "
        f"kubectl annotate secret {' '.join(secrets)} -n {other} {names.ANNOTATION_SHARED}={namespace} (several "
        f"namespaces are separated by commas). Whoever runs Outlast can share all Secrets of {other} by "
        "OUTLAST_SHARED_SECRET_NAMESPACES"
    )
    return not_accepted(reasons.SECRET_NOT_SHARED, message)


def unreadable(kind: str, error: ValidationError) -> Condition:
    """Make the condition of an unreadable spec. It names each field and shows no value."""
    said = (f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors())
    return not_accepted(reasons.INVALID_SPEC, f"{kind}: {'; '.join(said)}")

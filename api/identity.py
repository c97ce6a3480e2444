"""What a job borrows of the worker's own cloud identity: everything for which it names no Secret. Pure."""

from api.common import SecretReference
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec

SCHEMES = {"gcs": "gs", "s3": "s3", "azure": "azure"}
"""The URL scheme of a bucket, by the type of its storage."""


def owns_account(credentials: SecretReference | None, namespace: str) -> bool:
    """True if the cloud account is the namespace's own: its key is in a Secret there, and nothing is lent or shared."""
    return credentials is not None and credentials.namespace in (None, namespace)


def borrowed(spec: SpotInstanceJobSpec, vm: SpotInstanceVMSpec | None) -> list[str]:
    """List what the job would reach as the worker, in the form of ``OUTLAST_IDENTITY_GRANTS``.

    >>> borrowed(spec, vm)
    ['gcp://my-project', 'gs://my-bucket']
    """
    storage, keyless = spec.checkpoint_config.checkpoint_storage, spec.gcp_credentials_secret_ref is None
    found = [f"gcp://{vm.gcp.project}"] if vm is not None and keyless else []
    if storage is None or storage.type not in SCHEMES or storage.endpoint or storage.credentials_secret_ref:
        return found
    if storage.type == "gcs" and not keyless:
        return found
    return [*found, f"{SCHEMES[storage.type]}://{storage.bucket}"]

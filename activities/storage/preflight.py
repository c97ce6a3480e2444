"""Is the bucket there and may we read it: asked before money is spent."""

from activities.cloud_errors import CloudError, Transient
from activities.signatures import PreflightRequest
from activities.storage import Buckets
from api.common import Condition
from api.storage import job_prefix

STORAGE = "StorageReady"


async def check_storage(buckets: Buckets, request: PreflightRequest) -> list[Condition]:
    """The condition StorageReady, where the job cannot do without its bucket."""
    config = request.spec.checkpoint_config
    storage = config.checkpoint_storage
    if storage is None or (config.mode != "Application" and not request.spec.outputs):
        return []
    try:
        bucket = await buckets.open(storage, request.spec.gcp_credentials_secret_ref, request.job.namespace)
        await bucket.list(job_prefix(storage, request.job.job_id))
    except CloudError as error:
        status, reason = ("Unknown", "Unreachable") if isinstance(error, Transient) else ("False", error.type)
        return [Condition(type=STORAGE, status=status, reason=reason, message=str(error))]
    return [Condition(type=STORAGE, status="True", reason="Readable", message=f"{storage.type} {storage.bucket}")]

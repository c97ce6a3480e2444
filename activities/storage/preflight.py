"""The check of the bucket before money is spent: whether it exists and may be read."""

from activities.cloud_errors import CloudError, Transient
from activities.signatures import PreflightRequest
from activities.storage import Buckets
from api import conditions, reasons
from api.common import Condition
from api.storage import job_prefix


async def check_storage(buckets: Buckets, request: PreflightRequest) -> list[Condition]:
    """Check the condition StorageReady; there is none if the job does not need its bucket."""
    config = request.spec.checkpoint_config
    storage = config.checkpoint_storage
    if storage is None or (config.mode != "Application" and not request.spec.outputs):
        return []
    try:
        bucket = await buckets.open(storage, request.spec.gcp_credentials_secret_ref, request.job.namespace)
        await bucket.list(job_prefix(storage, request.job.job_id))
    except CloudError as error:
        status, reason = ("Unknown", reasons.UNREACHABLE) if isinstance(error, Transient) else ("False", error.type)
        return [Condition(type=conditions.STORAGE_READY, status=status, reason=reason, message=str(error))]
    return [
        Condition(
            type=conditions.STORAGE_READY,
            status="True",
            reason=reasons.READABLE,
            message=f"{storage.type} {storage.bucket}",
        )
    ]

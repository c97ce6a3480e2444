"""The report that stays in the bucket when a job's object is deleted."""

import asyncio

from temporalio import activity

from activities.cloud_errors import CloudError, Transient, to_application_error
from activities.signatures import WRITE_REPORT, WriteReport, WrittenReport
from activities.storage import Buckets, named, whole
from api.storage import report_key, url

BUCKET_SECONDS = 15.0


class ReportActivities:
    """Writes reports.

    Args:
        buckets: the buckets for the reports.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    @activity.defn(name=WRITE_REPORT.name)
    async def write_report(self, request: WriteReport) -> WrittenReport:
        """Write ``report.json``, and replace one that an earlier attempt wrote."""
        storage, report = request.storage, request.report
        key = report_key(storage, report.job_id)
        try:
            async with asyncio.timeout(BUCKET_SECONDS):
                bucket = await self._buckets.open(storage, request.cloud, report.namespace)
                await bucket.put(
                    key, whole(report.model_dump_json(by_alias=True, exclude_none=True, indent=1).encode())
                )
        except CloudError as error:
            raise to_application_error(error) from error
        except TimeoutError as error:
            late = Transient(f"{named(storage)} did not take the report in time")
            raise to_application_error(late) from error
        return WrittenReport(location=url(storage, key))

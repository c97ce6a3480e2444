"""The report of a job in a bucket, over a real HTTP server."""

import json
from datetime import UTC, datetime

import pytest
from temporalio.exceptions import ApplicationError

from activities.signatures import WriteReport
from activities.storage.bucket import SecretBuckets
from activities.storage.reports import ReportActivities
from api.report import JobReport, VmRecord
from api.spot_instance_job import CheckpointStorage
from sandbox.object_store import ObjectStore
from tests.activities.world import loopback_gate, run

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def request(store: ObjectStore) -> WriteReport:
    storage = CheckpointStorage(type="gcs", bucket="checkpoints", path_prefix="team", endpoint=store.url)
    report = JobReport(
        namespace="team",
        name="bert",
        uid="u-1",
        job_id="0a1b2c3d",
        cluster_id="c",
        spec_sha256="00",
        spot_instance_vm="t4",
        ended="Completed",
        written_at=NOW,
        vms=[VmRecord(name="vm-1", replica=0, price_per_hour=0.35, created_at=NOW)],
    )
    return WriteReport(report=report, storage=storage)


async def test_it_is_written_and_written_again(store: ObjectStore) -> None:
    reports = ReportActivities(SecretBuckets(None, loopback_gate()))  # type: ignore[arg-type]
    for _ in range(2):
        written = await run(reports.write_report, request(store))
        assert written.location == "gs://checkpoints/team/0a1b2c3d/report.json"
    (found,) = store.buckets["checkpoints"].values()
    document = json.loads(found.body)
    assert (document["version"], document["jobID"], document["ended"]) == (1, "0a1b2c3d", "Completed")
    assert document["vms"][0]["pricePerHour"] == 0.35
    assert JobReport.model_validate(document) == request(store).report


async def test_a_refusal_reaches_the_workflow_by_its_type(store: ObjectStore) -> None:
    store.refused.add("checkpoints")
    reports = ReportActivities(SecretBuckets(None, loopback_gate()))  # type: ignore[arg-type]
    with pytest.raises(ApplicationError) as refused:
        await run(reports.write_report, request(store))
    assert (refused.value.type, refused.value.non_retryable) == ("PermissionDenied", True)

"""All the ways in which GCE refuses something."""

import json
from typing import Any

import pytest
import requests
from google.api_core import exceptions as google_errors
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError
from google.cloud import compute_v1

from activities.cloud_errors import (
    CloudError,
    Conflict,
    Invalid,
    Missing,
    NoCapacity,
    Permission,
    Quota,
    Transient,
    Unsupported,
)
from activities.compute.errors import classify, classify_operation


def answer(status: int, reason: str, message: str = "no", info: dict[str, Any] | None = None) -> Exception:
    """Make the error that Google's client raises for this HTTP answer."""
    error: dict[str, Any] = {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}
    if info:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "x", **info}]
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps({"error": error}).encode()
    response.request = requests.Request("POST", "http://gce/instances").prepare()
    made: Exception = google_errors.from_http_response(response)
    return made


def failed_operation(code: str, message: str = "no", *details: dict[str, Any], status: int = 0) -> compute_v1.Operation:
    error = {"errors": [{"code": code, "message": message, "errorDetails": list(details)}]} if code else {}
    body = {"status": "DONE", "error": error, "httpErrorStatusCode": status, "httpErrorMessage": "NO"}
    return compute_v1.Operation.from_json(json.dumps(body), ignore_unknown_fields=False)


@pytest.mark.parametrize(
    ("status", "reason", "message", "kind"),
    [
        (403, "quotaExceeded", "Quota 'NVIDIA_T4_GPUS' exceeded.", Quota),
        (403, "rateLimitExceeded", "Rate Limit Exceeded", Transient),
        (403, "forbidden", "Required 'compute.instances.create' permission for 'projects/p'", Permission),
        (403, "accessNotConfigured", "Compute Engine API has not been used", Permission),
        (401, "authError", "Invalid Credentials", Permission),
        (404, "notFound", "The resource 'projects/p/global/images/i' was not found", Missing),
        (404, "notFound", "The resource 'projects/p/zones/z/machineTypes/n9' was not found", Unsupported),
        (404, "notFound", "The resource 'projects/p/zones/z/acceleratorTypes/x' was not found", Unsupported),
        (409, "alreadyExists", "The resource 'i' already exists", Conflict),
        (409, "resourceInUse", "busy", Transient),
        (400, "invalid", "Invalid value for field", Invalid),
        (
            400,
            "badRequest",
            "[n1-standard-4, nvidia-l4] features are not compatible for creating instance.",
            Unsupported,
        ),
        (400, "resourceNotReady", "The resource 'i' is not ready", Transient),
        (412, "conditionNotMet", "Constraint constraints/compute.vmExternalIpAccess violated", Invalid),
        (429, "somethingNew", "slow down", Transient),
        (500, "backendError", "try again", Transient),
        (503, "ZONE_RESOURCE_POOL_EXHAUSTED", "no room", NoCapacity),
        (503, "", "down", Transient),
        (418, "somethingNew", "?", Transient),
    ],
)
def test_answers(status: int, reason: str, message: str, kind: type[CloudError]) -> None:
    assert type(classify(answer(status, reason, message))) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (requests.exceptions.ConnectionError("refused"), Transient),
        (requests.exceptions.ReadTimeout("slow"), Transient),
        (TransportError("no token"), Transient),
        (RefreshError("invalid_grant"), Permission),
        (RefreshError("503", retryable=True), Transient),
        (DefaultCredentialsError("none"), Missing),
        (ValueError("?"), Transient),
        (Quota("as it is"), Quota),
    ],
)
def test_what_is_no_answer(error: Exception, kind: type[CloudError]) -> None:
    assert type(classify(error)) is kind


QUOTA = {"quotaInfo": {"limitName": "GPUS-ALL-REGIONS-per-project", "metricName": "m"}}
IAM_DENIAL = {"reason": "IAM_PERMISSION_DENIED", "metadata": {"permission": "compute.disks.create"}}
STOCKOUT = {"errorInfo": {"reason": "resource_availability", "metadatas": {"zone": "z", "vmType": "n1-standard-4"}}}


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        (failed_operation("ZONE_RESOURCE_POOL_EXHAUSTED"), NoCapacity),
        (failed_operation("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"), NoCapacity),
        (failed_operation("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "no", STOCKOUT), NoCapacity),
        (
            failed_operation(
                "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "no", {"errorInfo": {"reason": "unsupported_vm"}}
            ),
            Unsupported,
        ),
        (failed_operation("QUOTA_EXCEEDED"), Quota),
        (failed_operation("UNSUPPORTED_OPERATION"), Unsupported),
        (
            failed_operation(
                "UNSUPPORTED_OPERATION", "Instance 'i' creation failed: Instance failed to start due to preemption."
            ),
            NoCapacity,
        ),
        (failed_operation("PERMISSIONS_ERROR"), Permission),
        (failed_operation("RESOURCE_NOT_FOUND"), Missing),
        (failed_operation("RESOURCE_OPERATION_RATE_EXCEEDED"), Transient),
        (failed_operation("IP_SPACE_EXHAUSTED_WITH_DETAILS"), Transient),
        (failed_operation("INTERNAL_ERROR"), Transient),
        (failed_operation("", status=403), Permission),
    ],
)
def test_operations(operation: compute_v1.Operation, kind: type[CloudError]) -> None:
    assert type(classify_operation(operation).error) is kind


def test_an_operation_that_did_not_fail() -> None:
    assert classify_operation(compute_v1.Operation(status="DONE")).error is None


def test_an_operation_under_way() -> None:
    assert not classify_operation(compute_v1.Operation(status="RUNNING")).done


@pytest.mark.parametrize(
    ("said", "known"),
    [
        (
            failed_operation("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "no", STOCKOUT),
            NoCapacity("", zone="z", machine_type="n1-standard-4"),
        ),
        (
            answer(403, "quotaExceeded", "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally."),
            Quota("", scope="GPUS_ALL_REGIONS"),
        ),
        (
            failed_operation("QUOTA_EXCEEDED", "no", QUOTA),
            Quota("", scope="GPUS-ALL-REGIONS-per-project"),
        ),
        (
            answer(403, "forbidden", "Required 'compute.instances.create' permission for 'projects/p'"),
            Permission("", permission="compute.instances.create"),
        ),
        (
            answer(400, "badRequest", "The user does not have access to service account 'a'. User: 'b'."),
            Permission("", permission="iam.serviceAccounts.actAs"),
        ),
        (
            failed_operation("SERVICE_ACCOUNT_ACCESS_DENIED", "The user does not have access to service account 'a'."),
            Permission("", permission="iam.serviceAccounts.actAs"),
        ),
        (
            answer(403, "forbidden", "no", IAM_DENIAL),
            Permission("", permission="compute.disks.create"),
        ),
    ],
)
def test_what_is_said_of_the_thing_is_kept(said: Exception | compute_v1.Operation, known: CloudError) -> None:
    error = classify(said) if isinstance(said, Exception) else classify_operation(said).error
    assert (type(error), vars(error)) == (type(known), vars(known))

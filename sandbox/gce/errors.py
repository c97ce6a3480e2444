"""Errors in Compute Engine's words: those of a call (an HTTP answer) and those of an operation (inside its resource).

Clients decide by ``reason`` and ``code``, so these are the real service's. So are the messages, as far as they are
documented.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

DOMAIN = "compute.googleapis.com"


class ApiError(Exception):
    """A call that is refused. ``status`` is the HTTP status, ``reason`` the word that clients look for."""

    def __init__(
        self, status: int, reason: str, message: str, *, details: list[dict[str, Any]] | None = None, **fields: str
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details
        self.fields = fields

    def body(self) -> dict[str, Any]:
        """Return the JSON error body: code, message, errors[], and details if the service sends any."""
        error: dict[str, Any] = {
            "code": self.status,
            "message": self.message,
            "errors": [{"message": self.message, "domain": "global", "reason": self.reason, **self.fields}],
        }
        if self.details:
            error["details"] = self.details
        if canonical := _CANONICAL.get(self.reason):
            error["status"] = canonical
        return {"error": error}


_CANONICAL = {
    "authError": "UNAUTHENTICATED",
    "badRequest": "INVALID_ARGUMENT",
    "forbidden": "PERMISSION_DENIED",
}
"""The google.rpc.Code for each reason with which the service sends one as ``error.status``."""


def invalid_field(field: str, value: object, why: str) -> ApiError:
    """Refuse a field whose value the service cannot take: 400."""
    return ApiError(400, "invalid", f"Invalid value for field '{field}': '{value}'. {why}")


def required_field(field: str) -> ApiError:
    """Refuse a request because a field is missing: 400."""
    return ApiError(400, "required", f"Invalid value for field '{field}': ''. Required field not specified.")


def bad_payload(why: str) -> ApiError:
    """Refuse a body that is not the expected message (unknown field, wrong type, no JSON): 400."""
    message = f"Invalid JSON payload received. {why}"
    violation = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"description": message}]}
    return ApiError(400, "badRequest", message, details=[violation])


def not_compatible(*features: str) -> ApiError:
    """Refuse things that do not go together, such as a machine type and an accelerator: 400."""
    return ApiError(400, "badRequest", f"[{', '.join(features)}] features are not compatible for creating instance.")


def not_found(path: str) -> ApiError:
    """Report that a resource does not exist, by its path from ``projects/`` on: 404."""
    return ApiError(404, "notFound", f"The resource '{path}' was not found")


def already_exists(path: str) -> ApiError:
    """Refuse a name that is taken: 409."""
    return ApiError(409, "alreadyExists", f"The resource '{path}' already exists")


def not_ready(path: str) -> ApiError:
    """Refuse a request because the resource is busy with something else: 400."""
    return ApiError(400, "resourceNotReady", f"The resource '{path}' is not ready")


def policy_violated(constraint: str, project: str) -> ApiError:
    """Refuse what a policy of the organisation forbids: 412."""
    return ApiError(412, "conditionNotMet", f"Constraint constraints/{constraint} violated for project {project}.")


def fingerprint_mismatch(what: str) -> ApiError:
    """Refuse an update that is not based on the current version: 412."""
    return ApiError(
        412,
        "conditionNotMet",
        f"{what} fingerprint either invalid or resource {what.lower()} have changed",
        locationType="header",
        location="If-Match",
    )


def permission_denied(permission: str, path: str) -> ApiError:
    """Refuse a call that the caller's roles do not allow: 403."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": DOMAIN,
        "metadatas": {"permission": permission, "resource": path},
    }
    return ApiError(403, "forbidden", f"Required '{permission}' permission for '{path}'", details=[info])


def unauthenticated() -> ApiError:
    """Refuse credentials that are expired or revoked: 401."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ACCESS_TOKEN_EXPIRED",
        "domain": "googleapis.com",
        "metadatas": {"service": DOMAIN},
    }
    message = (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    return ApiError(401, "authError", message, details=[info], location="Authorization", locationType="header")


def rate_limited() -> ApiError:
    """Refuse the calls of a project that calls too often: 429."""
    return ApiError(429, "rateLimitExceeded", "Rate Limit Exceeded")


def backend_error() -> ApiError:
    """Fail a call without saying whether it was carried out: 503."""
    return ApiError(503, "backendError", "Internal error. Please try again or contact Google Support.")


class OperationError(Exception):
    """A failure of an operation, which shows at once as an HTTP answer or later in ``operation.error``."""

    def __init__(self, code: str, message: str, status: int, *, reason: str, details: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.reason = reason
        self.details = details

    def resource_fields(self) -> dict[str, Any]:
        """Return the fields that the failure adds to its operation."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details:
            error["errorDetails"] = self.details
        return {
            "error": {"errors": [error]},
            "httpErrorStatusCode": self.status,
            "httpErrorMessage": HTTPStatus(self.status).phrase.upper(),
        }

    def as_api_error(self) -> ApiError:
        """Return the same failure as the answer to a call, before there is an operation."""
        details = [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", **info}
            for detail in self.details
            if (info := detail.get("errorInfo"))
        ]
        return ApiError(self.status, self.reason, self.message, details=details)


def stockout(zone_path: str, machine_type: str, accelerators: str) -> OperationError:
    """Report that the zone has no capacity for such a VM now: the most frequent failure of spot GPUs."""
    zone = zone_path.rsplit("/", 1)[-1]
    what = f"{machine_type} VM instance" + (f" with {accelerators} accelerator(s)" if accelerators else "")
    info = {
        "reason": "resource_availability",
        "domain": DOMAIN,
        "metadatas": {"vmType": machine_type, "attachment": accelerators, "zone": zone, "zonesAvailable": ""},
    }
    localized = f"A {what} is currently unavailable in the {zone} zone. Consider trying your request in other zones."
    link = {
        "description": "Additional troubleshooting documentation",
        "url": "https://cloud.google.com/compute/docs/resource-error",
    }
    return OperationError(
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS" if accelerators else "ZONE_RESOURCE_POOL_EXHAUSTED",
        f"The zone '{zone_path}' does not have enough resources available to fulfill the request.  "
        "Try a different zone, or try again later.",
        503,
        reason="ZONE_RESOURCE_POOL_EXHAUSTED",
        details=[
            {"errorInfo": info},
            {"help": {"links": [link]}},
            {"localizedMessage": {"locale": "en-US", "message": localized}},
        ],
    )


def quota_exceeded(metric: str, limit: float, *, region: str | None) -> OperationError:
    """Report that the project may not have more of ``metric``, in ``region`` or (None) anywhere."""
    where = f"in region {region}" if region else "globally"
    per = "per-project-region" if region else "per-project"
    quota_info = {
        "metricName": f"{DOMAIN}/{metric.lower()}",
        "limitName": f"{metric.replace('_', '-')}-{per}",
        "dimensions": {"region": region} if region else {},
        "limit": limit,
    }
    return OperationError(
        "QUOTA_EXCEEDED",
        f"Quota '{metric}' exceeded.  Limit: {limit:.1f} {where}.",
        403,
        reason="quotaExceeded",
        details=[{"quotaInfo": quota_info}],
    )


def preempted_while_starting(name: str) -> OperationError:
    """Report that a spot VM was preempted before it ran."""
    return OperationError(
        "UNSUPPORTED_OPERATION",
        f"Instance '{name}' creation failed: Instance failed to start due to preemption.",
        409,
        reason="unsupportedOperation",
        details=[],
    )

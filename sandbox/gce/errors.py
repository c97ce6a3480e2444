"""Errors as Compute Engine words them: of a call (an HTTP answer) and of an operation (inside its resource).

Clients decide by `reason` and by `code`, so these follow the real service; the messages do too, as far as they are
documented.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

DOMAIN = "compute.googleapis.com"


class ApiError(Exception):
    """A call that is refused: `status` is the HTTP status, `reason` the word that clients look for."""

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
        """The JSON error body: code, message, errors[], and details where the service sends them."""
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


#: google.rpc.Code by reason, where the service adds it as `error.status`.
_CANONICAL = {
    "authError": "UNAUTHENTICATED",
    "badRequest": "INVALID_ARGUMENT",
    "forbidden": "PERMISSION_DENIED",
}


def invalid_field(field: str, value: object, why: str) -> ApiError:
    """400 for a field whose value the service cannot take."""
    return ApiError(400, "invalid", f"Invalid value for field '{field}': '{value}'. {why}")


def required_field(field: str) -> ApiError:
    """400 for a field that is missing."""
    return ApiError(400, "required", f"Invalid value for field '{field}': ''. Required field not specified.")


def bad_payload(why: str) -> ApiError:
    """400 for a body that is not the message it should be (unknown field, wrong type, no JSON)."""
    message = f"Invalid JSON payload received. {why}"
    violation = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"description": message}]}
    return ApiError(400, "badRequest", message, details=[violation])


def not_compatible(*features: str) -> ApiError:
    """400 for things that do not go together, such as a machine type and an accelerator."""
    return ApiError(400, "badRequest", f"[{', '.join(features)}] features are not compatible for creating instance.")


def not_found(path: str) -> ApiError:
    """404 for a resource, by its path from `projects/` on."""
    return ApiError(404, "notFound", f"The resource '{path}' was not found")


def already_exists(path: str) -> ApiError:
    """409 for a name that is taken."""
    return ApiError(409, "alreadyExists", f"The resource '{path}' already exists")


def not_ready(path: str) -> ApiError:
    """400 for a resource that is in the middle of something else."""
    return ApiError(400, "resourceNotReady", f"The resource '{path}' is not ready")


def policy_violated(constraint: str, project: str) -> ApiError:
    """412 for what a policy of the organisation forbids."""
    return ApiError(412, "conditionNotMet", f"Constraint constraints/{constraint} violated for project {project}.")


def fingerprint_mismatch(what: str) -> ApiError:
    """412 for an update over a version that is not the current one."""
    return ApiError(
        412,
        "conditionNotMet",
        f"{what} fingerprint either invalid or resource {what.lower()} have changed",
        locationType="header",
        location="If-Match",
    )


def permission_denied(permission: str, path: str) -> ApiError:
    """403 for a call that the caller's roles do not allow."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": DOMAIN,
        "metadatas": {"permission": permission, "resource": path},
    }
    return ApiError(403, "forbidden", f"Required '{permission}' permission for '{path}'", details=[info])


def unauthenticated() -> ApiError:
    """401 for credentials that are expired or revoked."""
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
    """429 for a project that calls too often."""
    return ApiError(429, "rateLimitExceeded", "Rate Limit Exceeded")


def backend_error() -> ApiError:
    """503 for a call whose outcome the caller cannot know."""
    return ApiError(503, "backendError", "Internal error. Please try again or contact Google Support.")


class OperationError(Exception):
    """A failure that an operation reports, at once as an HTTP answer or later in `operation.error`."""

    def __init__(self, code: str, message: str, status: int, *, reason: str, details: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.reason = reason
        self.details = details

    def resource_fields(self) -> dict[str, Any]:
        """The fields that the failure adds to its operation."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details:
            error["errorDetails"] = self.details
        return {
            "error": {"errors": [error]},
            "httpErrorStatusCode": self.status,
            "httpErrorMessage": HTTPStatus(self.status).phrase.upper(),
        }

    def as_api_error(self) -> ApiError:
        """The same failure answered at once, before there is an operation."""
        details = [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", **info}
            for detail in self.details
            if (info := detail.get("errorInfo"))
        ]
        return ApiError(self.status, self.reason, self.message, details=details)


def stockout(zone_path: str, machine_type: str, accelerators: str) -> OperationError:
    """The zone has no room for such a VM now: the commonest failure of spot GPUs."""
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
    """The project may not have more of `metric`, in `region` or (None) anywhere."""
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
    """A spot VM that was taken back before it ran."""
    return OperationError(
        "UNSUPPORTED_OPERATION",
        f"Instance '{name}' creation failed: Instance failed to start due to preemption.",
        409,
        reason="unsupportedOperation",
        details=[],
    )

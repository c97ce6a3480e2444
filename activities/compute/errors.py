"""Convert what GCE, its transport and its authentication raise into typed errors, by tables, most specific first.

GCE says the same thing in several dialects: the ``reason`` of an HTTP error (``quotaExceeded``), the ``code`` of a
failed operation (``QUOTA_EXCEEDED``), an ErrorInfo (``IAM_PERMISSION_DENIED``), or only a status and a sentence.

Reasons: https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation and .../resource-error
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError
from requests.exceptions import RequestException

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
from activities.compute import Operation

_NOT_COMPACT = re.compile(r"[Pp]lacement policy is not applicable|can be created with this policy")
"""GCE's refusals to place a machine type compactly (dstack's issues 2586 and 2591 have them from Google's cloud)."""

# Sentences that say more than the reason that comes with them.
_BY_MESSAGE: list[tuple[re.Pattern[str], type[CloudError]]] = [
    (re.compile(r"failed to start due to preemption"), NoCapacity),  # preempted before it ran
    (re.compile(r"features are not compatible"), Unsupported),  # machine type and accelerator
    (re.compile(r"does not have access to service account"), Permission),  # a 400 that names no permission
    (re.compile(r"/(machineTypes|acceleratorTypes|diskTypes)/\S+' was not found"), Unsupported),
    (re.compile(r"[Mm]achine type .* does not exist in zone"), Unsupported),
    (re.compile(r"/resourcePolicies/\S+' was not found"), Transient),  # the last machine before this one deleted it
    (_NOT_COMPACT, Unsupported),
]

# Reasons and codes in lower case without separators, as every dialect then spells them alike.
_BY_REASON: dict[str, type[CloudError]] = {
    "stockout": NoCapacity,
    "resourceavailability": NoCapacity,
    "insufficientcapacity": NoCapacity,
    "zoneresourcepoolexhausted": NoCapacity,
    "zoneresourcepoolexhaustedwithdetails": NoCapacity,
    "resourcepoolexhausted": NoCapacity,
    "quotaexceeded": Quota,
    "limitexceeded": Quota,
    "ratelimitexceeded": Transient,  # also a 403, but not a quota that a person could raise
    "userratelimitexceeded": Transient,
    "resourceoperationrateexceeded": Transient,
    "resourcenotready": Transient,
    "resourceinuse": Transient,
    "resourceinusebyanotherresource": Transient,
    "ipspaceexhausted": Transient,  # until another VM of the subnetwork has gone
    "ipspaceexhaustedwithdetails": Transient,
    "backenderror": Transient,
    "internalerror": Transient,
    "unsupportedoperation": Unsupported,
    "unsupportedconfiguration": Unsupported,
    "alreadyexists": Conflict,
    "resourcealreadyexists": Conflict,
    "notfound": Missing,
    "resourcenotfound": Missing,
    "permissionserror": Permission,
    "iampermissiondenied": Permission,
    "autherror": Permission,
    "servicedisabled": Permission,  # the Compute Engine API is switched off in this project
    "accessnotconfigured": Permission,
    "billingdisabled": Permission,
    "forbidden": Permission,
    "conditionnotmet": Invalid,  # also sent for an organisation's policy
    "badrequest": Invalid,
    "invalid": Invalid,
    "required": Invalid,
    "invalidusage": Invalid,
}

_BY_STATUS: dict[int, type[CloudError]] = {
    400: Invalid,
    401: Permission,
    403: Permission,
    404: Missing,
    409: Conflict,
    412: Invalid,
}

_PERMISSION = re.compile(r"[Rr]equired '([\w.]+)' permission")
_ACT_AS = re.compile(r"does not have access to service account|[Ss]ervice account user")
_OS_LOGIN = re.compile(r"compute\.requireOsLogin")
_QUOTA = re.compile(r"Quota '(\w+)' exceeded")


@dataclass(frozen=True)
class _Complaint:
    """One failure in GCE's words: ``reasons`` from the most to the least specific."""

    message: str
    reasons: list[str] = field(default_factory=list)
    status: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)  # from its ErrorInfo and quota information


def classify(error: Exception) -> CloudError:
    """Find the typed error for whatever a call to GCE raised; an unknown one is transient."""
    match error:
        case CloudError():
            return error
        case GoogleAPICallError():
            return _typed(_of_call(error))
        case DefaultCredentialsError():
            return Missing(f"no Google credentials: name a Secret in gcpCredentialsSecretRef ({error})")
        case RefreshError() if not error.retryable:
            return Permission(f"Google does not accept the credentials: {error.args[0] if error.args else error}")
        case RequestException() | GoogleAuthError() | RetryError():
            return Transient(f"GCE does not answer: {error}")
    return Transient(f"{type(error).__name__}: {error}")


def _of_call(error: GoogleAPICallError) -> _Complaint:
    entries = [entry for entry in error.errors if isinstance(entry, Mapping)]
    return _Complaint(
        message=str(entries[0]["message"]) if entries and entries[0].get("message") else str(error.message),
        reasons=[*filter(None, [error.reason]), *(str(entry["reason"]) for entry in entries if "reason" in entry)],
        status=error.code,
        facts=dict(error.metadata or {}),
    )


def classify_operation(operation: Any) -> Operation:
    """Read a ``compute_v1.Operation``: whether it is done, and why it failed."""
    if str(getattr(operation.status, "name", operation.status)) != "DONE":
        return Operation(done=False)
    complaints = [_of_operation(entry, operation.http_error_status_code) for entry in operation.error.errors]
    if complaints:
        return Operation(done=True, error=_typed(complaints[0]))
    if operation.http_error_status_code >= 400:
        return Operation(
            done=True, error=_typed(_Complaint(operation.http_error_message, [], operation.http_error_status_code))
        )
    return Operation(done=True)


def _of_operation(entry: Any, status: int) -> _Complaint:
    infos = [detail.error_info for detail in entry.error_details if detail.error_info.reason]
    quotas = [detail.quota_info for detail in entry.error_details if detail.quota_info.limit_name]
    localized = [detail.localized_message.message for detail in entry.error_details if detail.localized_message.message]
    facts = {key: value for info in infos for key, value in info.metadatas.items()}
    return _Complaint(
        message=" ".join([entry.message, *localized]),
        reasons=[*(info.reason for info in infos), entry.code],
        status=status or None,
        facts=facts | ({"limit": quotas[0].limit_name} if quotas else {}),
    )


def _typed(complaint: _Complaint) -> CloudError:
    kind = _kind_of(complaint)
    if kind is NoCapacity:
        return NoCapacity(complaint.message, complaint.facts.get("zone", ""), complaint.facts.get("vmType", ""))
    if kind is Quota:
        found = _QUOTA.search(complaint.message)
        scope = found.group(1) if found else complaint.facts.get("limit", "")
        return Quota(f"{complaint.message} Ask Google for more (IAM & Admin, Quotas) or use another region.", scope)
    if kind is Permission:
        found = _PERMISSION.search(complaint.message)
        permission = found.group(1) if found else complaint.facts.get("permission", "")
        if not permission and _ACT_AS.search(complaint.message):
            permission = "iam.serviceAccounts.actAs"  # on the service account that the spec names
        return Permission(f"{complaint.message}. Grant it to the service account of the credentials.", permission)
    return kind(f"{complaint.message}{_remedy(complaint.message)}")


def _remedy(message: str) -> str:
    """Say what to do about a refusal that does not say so itself; appended to the refusal."""
    if _OS_LOGIN.search(message):
        return ": the organisation's policy demands OS Login; set gcp.sshAccess: OSLogin in the SpotInstanceVM"
    if _NOT_COMPACT.search(message):
        return ": write another gcp.machineType into the SpotInstanceVM, or gang.placement: Zone into the job"
    return ""


def _kind_of(complaint: _Complaint) -> type[CloudError]:
    for sentence, kind in _BY_MESSAGE:
        if sentence.search(complaint.message):
            return kind
    for reason in complaint.reasons:
        spelled = re.sub(r"[^a-z0-9]", "", reason.lower())
        if spelled in _BY_REASON:
            return _BY_REASON[spelled]
        if "unsupported" in spelled or "notsupported" in spelled:
            return Unsupported
        if spelled.startswith("zone"):  # all of GCE's ZONE_… codes mean that this zone cannot serve now
            return NoCapacity
    return _BY_STATUS.get(complaint.status or 0, Transient)

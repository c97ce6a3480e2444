"""Why a pod does not run yet: whether to wait, or whether its image is bad."""

from typing import Literal

from api.views import PodView
from api.waiting import CONFIG, PULLS, UNSCHEDULABLE

Startup = Literal["Waiting", "Running", "Ended", "NeverRan", "InitFailed", "BadImage", "MissingImage"]

_DID_NOT_START = {
    "CreateContainerError",
    "RunContainerError",
    "StartError",
    "ContainerCannotRun",
    "CrashLoopBackOff",
}
_REFUSED = ("denied", "unauthorized", "authorization", "authentication", "forbidden")
_ABSENT = ("not found", "manifest unknown", "name unknown", "blob unknown", "blob_unknown", "does not exist")
# The words of containerd, CRI-O and docker if content does not match its digest.
_DAMAGED = ("unexpected commit digest", "digest did not match", "failed size validation", "invalid tar header")


def startup(pod: PodView | None, *, restored: bool) -> Startup:
    """Judge a pod that was just made. ``restored`` means that it starts from a checkpoint image.

    Errors of authentication, configuration, network and scheduling count as waiting: another image would not help.
    """
    if pod is None:
        return "Waiting"
    if pod.phase in {"Succeeded", "Failed"}:
        if pod.started_at is not None and pod.waiting_reason not in _DID_NOT_START:
            return "Ended"
        if pod.started_at is None and not pod.disrupted and any(end.init for end in pod.ends):
            return "InitFailed"
        return "BadImage" if restored and not pod.disrupted else "NeverRan"
    if pod.phase == "Running" and pod.started_at is not None:
        return "Running"
    if restored and (pod.waiting_reason in _DID_NOT_START or _would_run_as_root(pod)):
        return "BadImage"
    if restored and pod.waiting_reason in {"ErrImagePull", "ImagePullBackOff"}:
        return _pull(pod.message or "")
    return "Waiting"


def init_failure(pod: PodView | None) -> str:
    """Say which init container failed, and how."""
    end = next((end for end in pod.ends if end.init), None) if pod else None
    if end is None:
        return "an init container failed"
    return f"init container {end.name}: exit code {end.exit_code}" + (f": {end.message}" if end.message else "")


def _would_run_as_root(pod: PodView) -> bool:
    """True if ``runAsNonRoot`` without ``runAsUser`` forbids the image: a checkpoint image names no user."""
    return pod.waiting_reason == CONFIG and "runasnonroot" in (pod.message or "").lower()


def _pull(message: str) -> Startup:
    text = message.lower()
    if any(word in text for word in _REFUSED):
        return "Waiting"  # "does not exist or may require authorization" says nothing about the image
    if any(word in text for word in _ABSENT):
        return "MissingImage"
    return "BadImage" if any(word in text for word in _DAMAGED) else "Waiting"


def does_not_start(pod: PodView) -> bool:
    """True if the container runtime has tried to start a container and failed."""
    return pod.waiting_reason in _DID_NOT_START


def did_not_start(pod: PodView) -> bool:
    """True if the pod has ended because a container could not be started, or an init container failed."""
    return pod.phase == "Failed" and not pod.disrupted and bool(pod.exit_code)


def waits_for_others(pod: PodView) -> bool:
    """True if a pod waits for a registry, for room or for a missing ConfigMap, so that no other machine would help."""
    return pod.waiting_reason in PULLS | {CONFIG, UNSCHEDULABLE}


def remedy(reason: str, *, restored: bool) -> str:
    """Say what helps against a blocker that the kubelet reports; empty if its own words have to do.

    Args:
        reason: The kubelet's reason.
        restored: Whether the pod starts from a checkpoint image, which no person can push.
    """
    if reason in PULLS and not restored:
        return "Push the image, or correct its name or the imagePullSecrets in jobTemplate"
    if reason in {CONFIG, "FailedMount"}:
        return "Create what it names, or correct jobTemplate"
    return ""

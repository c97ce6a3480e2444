"""Why a pod does not run yet: wait, or is it what it starts from that is bad?"""

from typing import Literal

from api.views import PodView

Startup = Literal["Waiting", "Running", "Ended", "BadImage", "MissingImage"]

_DID_NOT_START = {
    "CreateContainerError",
    "RunContainerError",
    "StartError",
    "ContainerCannotRun",
    "CreateContainerConfigError",
    "CrashLoopBackOff",
}
_ABSENT = ("not found", "manifest unknown", "name unknown", "does not exist")


def startup(pod: PodView | None, *, restored: bool) -> Startup:
    """Read a pod that was just made.

    Authentication, network and scheduling errors wait: they are nobody's fault that another image would mend.
    """
    if pod is None:
        return "Waiting"
    if pod.phase in {"Succeeded", "Failed"}:
        never_ran = pod.started_at is None or pod.waiting_reason in _DID_NOT_START
        return "BadImage" if restored and never_ran and not pod.disrupted else "Ended"
    if pod.phase == "Running" and pod.started_at is not None:
        return "Running"
    if restored and pod.waiting_reason in _DID_NOT_START:
        return "BadImage"
    if restored and pod.waiting_reason in {"ErrImagePull", "ImagePullBackOff"}:
        message = (pod.message or "").lower()
        return "MissingImage" if any(word in message for word in _ABSENT) else "Waiting"
    return "Waiting"

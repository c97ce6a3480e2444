"""What the end of a replica's pod means: the training's own end, or a preemption's?"""

from typing import Literal

from api.views import PodView

Verdict = Literal["Succeeded", "Failed", "Preempted"]


def verdict(pod: PodView | None, *, noticed: bool, machine_lives: bool) -> tuple[Verdict, str]:
    """Judge an end, a minute after it.

    Exit 0 is success only where nothing was taking the pod away: trainings exit 0 on SIGTERM. By the same reading a
    non-zero exit on a machine that was going says nothing of the training.
    """
    if pod is None:
        return "Preempted", "its pod is gone"
    if noticed:
        return "Preempted", "its node had a preemption notice"
    if pod.disrupted or pod.deleting:
        return "Preempted", "its pod was being taken away" + (f": {pod.disruption}" if pod.disruption else "")
    if not machine_lives:
        return "Preempted", "its machine is gone"
    if pod.phase == "Succeeded":
        return "Succeeded", "exit code 0"
    return "Failed", f"exit code {pod.exit_code}" + (f": {pod.message}" if pod.message else "")

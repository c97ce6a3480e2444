"""What the end of a replica's pod means: the training's own end, or a preemption's?"""

from typing import Literal

from api.views import ContainerEnd, PodView

Verdict = Literal["Succeeded", "Failed", "Preempted"]


def has_ended(pod: PodView, main: str | None) -> bool:
    """True if the training has come to an end, though other containers of its pod may run on."""
    return pod.phase in {"Succeeded", "Failed"} or deciding_end(pod, main) is not None


def deciding_end(pod: PodView, main: str | None) -> ContainerEnd | None:
    """Find the container whose end is the training's: ``main``, or the first that failed if none is named."""
    if main is not None:
        return next((end for end in pod.ends if end.name == main), None)
    if pod.ends or not pod.exit_code:
        return next((end for end in pod.ends if end.exit_code), None)
    return ContainerEnd(name="", exit_code=pod.exit_code, finished_at=pod.finished_at, message=pod.message)


def verdict(pod: PodView | None, *, noticed: bool, machine_lives: bool, main: str | None = None) -> tuple[Verdict, str]:
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
    end = deciding_end(pod, main)
    if pod.phase == "Succeeded" or (end is not None and end.exit_code == 0):
        return "Succeeded", "exit code 0"
    if end is not None and (main or pod.phase == "Running"):
        return "Failed", _words(f"container {end.name}: exit code {end.exit_code}", end.message)
    return "Failed", _words(f"exit code {pod.exit_code}", pod.message)


def _words(what: str, said: str | None) -> str:
    return f"{what}: {said}" if said else what

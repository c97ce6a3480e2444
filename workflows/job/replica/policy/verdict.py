"""The verdict: whether a training ended by itself, or because its pod or machine was taken away."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Literal

from api.views import ContainerEnd, PodView

Verdict = Literal["Succeeded", "Failed", "Preempted"]


def has_ended(pod: PodView, main: str | None) -> bool:
    """True if the training has ended, even if other containers of its pod run on."""
    return pod.ended or deciding_end(pod, main) is not None


def decisive_pod(pods: Mapping[int, PodView], members: Collection[int], main: str | None) -> PodView | None:
    """Find the pod by whose end an incarnation is judged; None if a member has no pod.

    That is the pod that failed first. If none has, it is one that is being taken away, or else one that still runs,
    because success needs every member.
    """
    failures = {member: end for member, pod in pods.items() if (end := _failure(pod, main)) is not None}
    if failures:
        return pods[min(failures, key=lambda member: (failures[member], member))]
    if any(member not in pods for member in members):
        return None
    return min(pods.values(), key=lambda pod: (not (pod.deleting or pod.disrupted), has_ended(pod, main)), default=None)


def _failure(pod: PodView, main: str | None) -> datetime | None:
    """Return when a training failed; None if it has not."""
    end = deciding_end(pod, main)
    if pod.phase != "Failed" and (end is None or not end.exit_code):
        return None
    return (end.finished_at if end else None) or pod.finished_at or datetime.max.replace(tzinfo=UTC)


def deciding_end(pod: PodView, main: str | None) -> ContainerEnd | None:
    """Find the end of the container that decides: of ``main``, or of the first that failed if none is named."""
    if main is not None:
        return next((end for end in pod.ends if end.name == main), None)
    if pod.ends or not pod.exit_code:
        return next((end for end in pod.ends if end.exit_code), None)
    return ContainerEnd(name="", exit_code=pod.exit_code, finished_at=pod.finished_at, message=pod.message)


def verdict(pod: PodView | None, *, noticed: bool, machine_lives: bool, main: str | None = None) -> tuple[Verdict, str]:
    """Judge the end of a pod, and say why.

    Exit 0 is a success only if nothing was taking the pod away, because trainings exit 0 on SIGTERM. For the same
    reason a non-zero exit on a machine that was going says nothing about the training.

    Args:
        pod: The pod, as it was last seen.
        noticed: Whether its machine has had a notice.
        machine_lives: Whether its machine still runs.
        main: The container that decides; None if any failure does.
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

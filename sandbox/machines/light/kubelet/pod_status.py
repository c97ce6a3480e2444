"""A Pod's status, computed from its containers: phase, conditions, container statuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.machines.light.kubelet.container import Container
from sandbox.machines.light.kubelet.process import Json
from sandbox.machines.light.kubelet.runtime import PodContext, now

TERMINAL = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Verdict:
    """Why the kubelet itself ended a pod: the pod fails, whatever its containers' exit codes are."""

    reason: str
    message: str
    is_disruption: bool


NODE_SHUTDOWN = Verdict("Terminated", "Pod was terminated in response to imminent node shutdown.", is_disruption=True)
NODE_SHUTTING_DOWN = Verdict("NodeShutdown", "Pod was rejected as the node is shutting down.", is_disruption=False)


def gates(pod: Json) -> bool:
    """True if the pod has passed its readiness gates, which are conditions that others set."""
    met = {each["type"] for each in pod.get("status", {}).get("conditions") or () if each["status"] == "True"}
    return met.issuperset(gate["conditionType"] for gate in pod["spec"].get("readinessGates", ()))


class PodStatus:
    """The status of one pod, over time."""

    def __init__(
        self, context: PodContext, containers: Sequence[Container], init_containers: Sequence[Container] = ()
    ) -> None:
        self._context = context
        self._containers = containers
        self._inits = init_containers
        self._started = now()
        self._conditions: dict[str, Json] = {}

    def build(self, *, ended: bool, verdict: Verdict | None) -> Json:
        """Return the current status; ``ended`` if no container runs or will run again."""
        phase = self._phase(ended, verdict)
        status: Json = {
            "phase": phase,
            "startTime": self._started,
            "hostIP": self._context.node.address,
            "hostIPs": [{"ip": self._context.node.address}],
            # Light machines have no pod network: a pod has its node's address.
            "podIP": self._context.node.address,
            "podIPs": [{"ip": self._context.node.address}],
            "containerStatuses": [container.status for container in self._containers],
            "initContainerStatuses": self._init_statuses(),
        }
        if ended and verdict:
            status |= {"reason": verdict.reason, "message": verdict.message}
        status["conditions"] = self._current_conditions(phase, verdict if ended else None)
        return status

    def _phase(self, ended: bool, verdict: Verdict | None) -> str:
        if ended:
            well = all(container.exit_code == 0 for container in (*self._inits, *self._containers))
            return "Succeeded" if well and not verdict else "Failed"
        return "Running" if all(container.has_started for container in self._containers) else "Pending"

    def _current_conditions(self, phase: str, verdict: Verdict | None) -> list[Json]:
        terminal = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase)
        running = all(container.running for container in self._containers)
        reason = "" if running else terminal or "ContainersNotReady"
        self._condition("PodReadyToStartContainers", terminal is None)
        self._condition("Initialized", all(container.exit_code == 0 for container in self._inits))
        self._condition("ContainersReady", running, reason)
        passed = gates(self._context.pod)
        self._condition("Ready", running and passed, reason or ("" if passed else "ReadinessGatesNotReady"))
        if verdict and verdict.is_disruption:
            self._condition("DisruptionTarget", True, "TerminationByKubelet", verdict.message)
        return list(self._conditions.values())

    def _condition(self, kind: str, is_true: bool, reason: str = "", message: str = "") -> None:
        status = "True" if is_true else "False"
        old = self._conditions.get(kind)
        since = old["lastTransitionTime"] if old and old["status"] == status else now()
        # Patched by strategic merge with the key ``type``: empty fields overwrite those of the old condition.
        self._conditions[kind] = {
            "type": kind,
            "status": status,
            "lastTransitionTime": since,
            "reason": reason or None,
            "message": message or None,
        }

    def _init_statuses(self) -> list[Json]:
        """Count sidecars as completed: on a light machine they have nothing to do."""
        run = {container.name: container.status for container in self._inits}
        done = {"exitCode": 0, "reason": "Completed", "startedAt": self._started, "finishedAt": self._started}
        sidecar = {"state": {"terminated": done}, "ready": True, "restartCount": 0}
        return [
            run.get(spec["name"]) or {"name": spec["name"], "image": spec["image"], "imageID": spec["image"], **sidecar}
            for spec in self._context.pod["spec"].get("initContainers", ())
        ]

"""Whether anything that a training writes outlives its pod."""

from typing import Any

from api.spot_instance_job import SpotInstanceJobSpec

GOES_WITH_THE_POD = {"name", "emptyDir", "configMap", "secret", "downwardAPI", "projected", "ephemeral"}
"""The keys of volumes whose content ends with the pod, or that cannot be written."""


def lost_outputs(spec: SpotInstanceJobSpec) -> list[str]:
    """Warn of each path in ``outputs`` that lies on a volume: only a container's own files are uploaded."""
    return [warning for path in spec.outputs if (warning := _warning(path, spec.pod))]


def _warning(path: str, pod: dict[str, Any]) -> str | None:
    name = next((found for each in pod.get("containers") or [] if (found := _volume_at(path, each))), None)
    volume = next((each for each in pod.get("volumes") or [] if each.get("name") == name), None)
    if name is None or volume is None:
        return None
    remedy = "let the training write to a directory that is not on a volume, or upload its files itself"
    if set(volume) - GOES_WITH_THE_POD:
        return f"outputs: {path} is on the volume {name} and stays there, but is not uploaded: for that, {remedy}"
    kind = next(iter(set(volume) - {"name"}), "emptyDir")
    return f"outputs: {path} is on the {kind} {name}, which goes with the pod, and is not uploaded: {remedy}"


def _volume_at(path: str, container: dict[str, Any]) -> str | None:
    """Return the name of the volume that a path is on; None if it is among the container's own files."""
    mounts = {each.get("mountPath", "").rstrip("/"): each.get("name") for each in container.get("volumeMounts") or []}
    over = [at for at in mounts if at and f"{path.rstrip('/')}/".startswith(f"{at}/")]
    return mounts[max(over, key=len)] if over else None


def outputs_warning(spec: SpotInstanceJobSpec) -> str | None:
    """Warn if all files of a training are lost with its machine; None if there is no need.

    A training in mode Application saves itself, and its checkpoints may contain what it makes.
    """
    if lost := lost_outputs(spec):
        return "; ".join(lost)
    if spec.outputs or spec.checkpoint_config.mode == "Application":
        return None
    if any(set(volume) - GOES_WITH_THE_POD for volume in spec.pod.get("volumes") or []):
        return None
    return (
        "the training's files are only on emptyDir or in its containers, and go with its VM when it is done: name "
        "them in spec.outputs, mount a PersistentVolumeClaim, or let the training upload them itself"
    )

"""Does anything that a training writes outlive its pod?"""

from api.spot_instance_job import SpotInstanceJobSpec

GOES_WITH_THE_POD = {"name", "emptyDir", "configMap", "secret", "downwardAPI", "projected", "ephemeral"}
"""Keys of a volume whose content ends with its pod, or that cannot be written."""


def outputs_warning(spec: SpotInstanceJobSpec) -> str | None:
    """What to tell whoever writes a training whose files are all lost with its machine; None where there is no need.

    A training in mode Application saves itself, and may have what it makes among that.
    """
    if spec.outputs or spec.checkpoint_config.mode == "Application":
        return None
    if any(set(volume) - GOES_WITH_THE_POD for volume in spec.pod.get("volumes") or []):
        return None
    return (
        "the training's files are on emptyDir or in its containers alone, and go with its VM when it is done: name "
        "them in spec.outputs, mount a PersistentVolumeClaim, or let the training upload them itself"
    )

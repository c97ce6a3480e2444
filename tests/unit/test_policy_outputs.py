"""When a person is warned that the files of a training will be lost."""

from typing import Any

import pytest

from api.spot_instance_job import SpotInstanceJobSpec
from workflows.job.policy.outputs import lost_outputs, outputs_warning

EMPTY_DIR = {"name": "out", "emptyDir": {}}


def warning(volumes: list[Any] | None, mode: str = "Image", **more: Any) -> str | None:
    template = {"spec": {"template": {"spec": {"volumes": volumes} if volumes is not None else {}}}}
    spec = {"jobTemplate": template, "checkpointConfig": {"mode": mode}, "spotInstanceVMRef": {"name": "vm"}, **more}
    return outputs_warning(SpotInstanceJobSpec.model_validate(spec))


@pytest.mark.parametrize("volumes", [None, [], [EMPTY_DIR], [{"name": "c", "configMap": {"name": "c"}}]])
def test_what_goes_with_the_pod_is_warned_of(volumes: list[Any] | None) -> None:
    assert "spec.outputs" in (warning(volumes) or "")


@pytest.mark.parametrize(
    "volume",
    [
        {"persistentVolumeClaim": {"claimName": "c"}},
        {"nfs": {"server": "s", "path": "/"}},
        {"hostPath": {"path": "/d"}},
    ],
)
def test_a_volume_that_stays_needs_no_warning(volume: dict[str, Any]) -> None:
    assert warning([EMPTY_DIR, {"name": "data", **volume}]) is None


def test_neither_do_outputs_nor_mode_application() -> None:
    assert warning([EMPTY_DIR], outputs=["/out"]) is None
    assert warning([EMPTY_DIR], mode="Application") is None


def lost(path: str, *mounts: dict[str, Any], volume: dict[str, Any] | None = None) -> list[str]:
    volumes = [volume or EMPTY_DIR]
    template = {"spec": {"template": {"spec": {"containers": [{"volumeMounts": list(mounts)}], "volumes": volumes}}}}
    spec = {"jobTemplate": template, "checkpointConfig": {}, "spotInstanceVMRef": {"name": "vm"}, "outputs": [path]}
    return lost_outputs(SpotInstanceJobSpec.model_validate(spec))


@pytest.mark.parametrize("path", ["/results", "/results/", "/results/run/1"])
def test_outputs_on_an_empty_dir_are_told(path: str) -> None:
    [told] = lost(path, {"name": "out", "mountPath": "/results"})
    assert f"{path} is on the emptyDir out, which goes with the pod" in told
    assert "a directory that is not on a volume" in told


def test_outputs_on_a_volume_that_stays_are_told_to_stay_there() -> None:
    claim = {"name": "out", "persistentVolumeClaim": {"claimName": "c"}}
    [told] = lost("/results", {"name": "out", "mountPath": "/results"}, volume=claim)
    assert "stays there, but is not uploaded" in told


@pytest.mark.parametrize("mount", ["/result", "/results/tmp", "/data"])
def test_outputs_beside_a_volume_need_no_warning(mount: str) -> None:
    assert lost("/results", {"name": "out", "mountPath": mount}) == []

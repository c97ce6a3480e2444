"""``outlast convert``: manifests as people have them become SpotInstanceJobs that pass all checks."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from activities.documents.checks import spec_problems
from api.spot_instance_job import SpotInstanceJobSpec
from cli.app import app
from cli.convert import Converted, convert
from cli.session import Told

MASTER_AND_WORKERS = """
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: bert, namespace: team, labels: {team: nlp}}
spec:
  nprocPerNode: "2"
  runPolicy: {backoffLimit: 4, activeDeadlineSeconds: 86400, ttlSecondsAfterFinished: 600, cleanPodPolicy: None}
  pytorchReplicaSpecs:
    Master: &role
      replicas: 1
      restartPolicy: OnFailure
      template:
        metadata: {annotations: {sidecar.istio.io/inject: "false"}}
        spec:
          restartPolicy: Never
          containers:
            - name: pytorch
              image: bert:1
              command: [torchrun, train.py]
              ports: [{name: pytorchjob-port, containerPort: 23456}]
              resources: {limits: {nvidia.com/gpu: 1}}
    Worker:
      <<: *role
      replicas: 3
"""
ELASTIC = """
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: imagenet}
spec:
  elasticPolicy: {minReplicas: 2, maxReplicas: 6, rdzvBackend: c10d, maxRestarts: 100}
  pytorchReplicaSpecs:
    Worker:
      replicas: 4
      template:
        spec:
          containers:
            - name: pytorch
              image: imagenet:1
              command: [sh, -c, "torchrun --nnodes=2:6 --rdzv-backend=c10d train.py"]
              env: [{name: MASTER_PORT, value: "23456"}]
"""
TRAIN_JOB = """
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainJob
metadata: {name: llama, namespace: team}
spec:
  runtimeRef: {name: torch-distributed}
  initializer: {dataset: {storageUri: "hf://tatsu-lab/alpaca"}}
  trainer:
    image: llama:2
    command: [torchrun, tune.py]
    numNodes: 4
    numProcPerNode: 8
    resourcesPerNode: {limits: {nvidia.com/gpu: 8}}
"""


def converted(text: str) -> tuple[SpotInstanceJobSpec, Converted]:
    [found] = convert(text, vm="h100", bucket="my-training")
    spec = SpotInstanceJobSpec.model_validate(found.manifest["spec"])
    assert spec_problems(spec) == []
    return spec, found


def notes(found: Converted) -> str:
    return "\n".join(found.notes)


def test_master_and_workers_are_the_members_of_a_gang() -> None:
    spec, found = converted(MASTER_AND_WORKERS)
    assert spec.gang is not None
    assert (spec.replicas, spec.gang.min_size, spec.gang.max_size) == (1, 4, 4)
    assert (spec.max_restarts, spec.ttl_seconds_after_finished) == (4, 600)
    assert spec.job_template["spec"]["activeDeadlineSeconds"] == 86400
    assert found.manifest["metadata"] == {"name": "bert", "namespace": "team", "labels": {"team": "nlp"}}
    template = spec.job_template["spec"]["template"]
    assert template["metadata"]["annotations"] == {"sidecar.istio.io/inject": "false"}
    [container] = template["spec"]["containers"]
    assert "restartPolicy" not in template["spec"]
    assert "ports" not in container
    assert container["env"] == [{"name": "PET_NPROC_PER_NODE", "value": "2"}], "two processes for one GPU"


def test_a_range_of_sizes_stays_one_and_options_that_win_are_told() -> None:
    spec, found = converted(ELASTIC)
    assert spec.gang is not None
    assert (spec.gang.min_size, spec.gang.max_size) == (2, 6)
    assert "maxRestarts, rdzvBackend left out" in notes(found)
    assert "remove --nnodes, --rdzv-backend" in notes(found)
    assert "remove MASTER_PORT from env" in notes(found)


def test_a_train_job_tells_what_its_runtime_has() -> None:
    spec, found = converted(TRAIN_JOB)
    assert spec.gang is not None
    assert spec.gang.max_size == 4
    [container] = spec.job_template["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["command"]) == ("llama:2", ["torchrun", "tune.py"])
    assert "env" not in container, "eight processes for eight GPUs are what Outlast sets"
    assert "runtimeRef torch-distributed" in notes(found)
    assert "initializer left out" in notes(found)


def test_different_templates_are_told() -> None:
    [found] = convert(
        MASTER_AND_WORKERS.replace("replicas: 3", "replicas: 3\n      template: {spec: {containers: []}}")
    )
    assert "templates of Master and Worker differ" in notes(found)


@pytest.mark.parametrize(
    "text",
    ["a: [", "kind: Job", "kind: PyTorchJob\nspec: {}", "kind: TrainJob\nspec: {trainer: {numNodes: many}}", "[]"],
)
def test_what_is_neither_is_told(text: str) -> None:
    with pytest.raises(Told):
        convert(text)


def test_the_command_writes_manifests_alone_to_stdout(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(f"{MASTER_AND_WORKERS}\n---\n{TRAIN_JOB}")
    result = CliRunner().invoke(app, ["convert", "-f", str(file)])
    assert result.exit_code == 0
    assert result.stdout.count("kind: SpotInstanceJob") == 2
    assert "replace CHANGE-ME" in result.stderr
    assert "replace CHANGE-ME" not in result.stdout

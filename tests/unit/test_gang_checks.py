"""What a job whose pods train together cannot be accepted with, and what it is warned of."""

from typing import Any

import pytest

from activities.documents.gang_checks import check_gang
from api.gang import LARGEST
from clients.kube import Kube
from tests.workflows.documents import job_spec

Json = dict[str, Any]


class Cluster(Kube):
    """A cluster of some version."""

    def __init__(self, minor: str = "36") -> None:
        self._minor = minor

    async def get(self, path: str, **query: Any) -> Json:
        assert path == "/version"
        return {"major": "1", "minor": self._minor}


def gang(pod: Json | None = None, *, env: list[Json] | None = None, port: int = 0, **more: Any) -> Json:
    container: Json = {"name": "train", "image": "i", "env": env or []}
    if port:
        container["ports"] = [{"containerPort": port}]
    template = {"spec": {"template": {"spec": {"containers": [container], **(pod or {})}}, **more.pop("job", {})}}
    config = {"mode": "Application", "checkpointStorage": {"type": "gcs", "bucket": "b"}}
    return {
        "jobTemplate": template,
        "replicas": 1,
        "checkpointConfig": config,
        "gang": {"minSize": 4, "maxSize": 4},
        **more,
    }


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gang": {"minSize": 3, "maxSize": 2}}, "gang: minSize is greater than maxSize"),
        ({"replicas": 2}, "write replicas: 1"),
        ({"checkpointConfig": {"checkpointImageRepo": "gcr.io/p/r"}}, "write mode: Application"),
        ({"job": {"parallelism": 2}}, "parallelism differs from gang.maxSize"),
        ({"job": {"completions": 2}}, "completions differs from the number of pods"),
        ({"gang": None, "job": {"parallelism": LARGEST + 1}}, "parallelism is above 256"),
        ({"gang": None, "job": {"parallelism": 2, "completions": 3}}, "completions differs"),
    ],
)
async def test_a_problem_names_the_field_and_the_remedy(changes: Json, says: str) -> None:
    found = await check_gang(Cluster(), job_spec(**gang(**changes)))
    [problem] = found.problems
    assert (problem.type, problem.status, problem.reason) == ("Accepted", "False", "InvalidSpec")
    assert says in problem.message


@pytest.mark.parametrize(("minor", "old"), [("28", True), ("28+", True), ("29", False), ("36+", False), ("?", False)])
async def test_an_old_kubernetes_is_told(minor: str, old: bool) -> None:
    found = await check_gang(Cluster(minor), job_spec(**gang()))
    assert [problem.reason for problem in found.problems] == (["KubernetesTooOld"] if old else [])
    assert not old or "runs Kubernetes 1.28, and pods that train together need 1.29" in found.problems[0].message


async def test_a_job_of_one_pod_asks_nobody() -> None:
    found = await check_gang(Cluster("20"), job_spec())
    assert (found.problems, found.warnings) == ([], [])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (gang(port=29500), "containerPort 29500, at which the pods that train together meet"),
        (gang({"dnsPolicy": "Default"}), "set dnsPolicy to ClusterFirst"),
        (gang({"hostNetwork": True}), "set dnsPolicy to ClusterFirstWithHostNet"),
        (gang({"hostNetwork": True, "dnsPolicy": "ClusterFirst"}), "set dnsPolicy to ClusterFirstWithHostNet"),
        (gang({"subdomain": "mine"}), "subdomain has no effect"),
    ],
)
async def test_what_may_keep_the_pods_apart_is_a_warning(changes: Json, says: str) -> None:
    found = await check_gang(Cluster(), job_spec(**changes))
    assert found.problems == []
    [warning] = found.warnings
    assert says in warning


@pytest.mark.parametrize(
    "changes",
    [
        gang(),
        gang(port=8080),
        gang(port=29500, env=[{"name": "MASTER_PORT", "value": "6000"}]),
        gang({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}),
        gang({"dnsPolicy": "ClusterFirst"}),
        gang({"containers": [{"name": "a", "ports": 7}]}),
    ],
)
async def test_what_is_right_is_no_warning(changes: Json) -> None:
    found = await check_gang(Cluster(), job_spec(**changes))
    assert (found.problems, found.warnings) == ([], [])

"""A wave of jobs that look for room: each node is looked at once a second, as long as there is plenty."""

from typing import Any

import pytest

from activities.placement import activities
from activities.placement.activities import HOSTS, MANY, PLACED, CapacityActivities
from activities.signatures import FindCapacity, JobRef
from clients.informer import Kind, Store
from tests.unit.test_capacity import GPU, make_node, make_pod

JOB = JobRef(namespace="team", name="job", uid="u", job_id="0badcafe")


class Remembered:
    """A memory of these objects."""

    def __init__(self, kind: Kind[Any], *objects: Any) -> None:
        self.store = Store(kind)
        for number, each in enumerate(objects):
            self.store.see(each["metadata"].get("name", str(number)), each)

    async def read(self) -> Store[Any]:
        return self.store


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the clusters that were looked at."""
    found: list[int] = []
    survey = activities.survey

    def counted(hosts: Any, *more: Any) -> Any:
        found.append(len(hosts))
        return survey(hosts, *more)

    monkeypatch.setattr(activities, "survey", counted)
    return found


def wish(gpus: int = 1, **spec: Any) -> FindCapacity:
    return FindCapacity(job=JOB, job_template={"spec": {"template": make_pod({GPU: gpus}, node=None, **spec)}})


def capacity(nodes: int) -> tuple[CapacityActivities, Remembered]:
    hosts: Any = Remembered(HOSTS, *(make_node(f"n{number}") for number in range(nodes)))
    pods: Any = Remembered(PLACED)
    return CapacityActivities(hosts, pods), pods


async def test_where_many_have_room_a_wave_looks_once(looks: list[int]) -> None:
    there, _ = capacity(MANY + 1)
    for _ in range(20):
        assert (await there.find_capacity(wish())).nodes
    assert looks == [MANY + 1]
    assert (await there.find_capacity(wish(2))).nodes == [], "another wish is looked for"
    assert (await there.find_capacity(wish(nodeSelector={"pool": "none"}))).nodes == []
    assert len(looks) == 3


async def test_where_few_have_room_each_looks(looks: list[int]) -> None:
    there, pods = capacity(2)
    assert (await there.find_capacity(wish())).nodes == ["n0", "n1"]
    pods.store.see("team/a", make_pod({GPU: 1}, node="n0"))
    assert (await there.find_capacity(wish())).nodes == ["n1"]
    pods.store.see("team/b", make_pod({GPU: 1}, node="n1"))
    assert (await there.find_capacity(wish())).nodes == []
    pods.store.put("team/a", None)
    assert (await there.find_capacity(wish())).nodes == ["n0"]
    assert len(looks) == 4


async def test_an_object_that_cannot_be_understood_is_forgotten() -> None:
    there, _ = capacity(1)
    hosts = (await there._hosts.read()).items
    broken = make_node("n0") | {"status": {"allocatable": {"cpu": "many"}}}
    (await there._hosts.read()).see("n0", broken)
    assert hosts == {}

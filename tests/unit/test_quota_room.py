"""Room in quotas for several pods at a time."""

from typing import Any

import pytest

from activities.preflight.quota_room import lacks_room

Json = dict[str, Any]


def quota(hard: Json, used: Json | None = None, name: str = "gpus", **spec: Any) -> Json:
    return {
        "metadata": {"name": name},
        "spec": spec,
        "status": {"hard": hard, "used": used or dict.fromkeys(hard, "0")},
    }


POD = {
    "spec": {
        "containers": [
            {
                "name": "a",
                "resources": {"limits": {"nvidia.com/gpu": "2", "memory": "8Gi"}, "requests": {"cpu": "500m"}},
            },
            {"name": "b", "resources": {"limits": {"memory": "1Gi"}, "requests": {"memory": "512Mi"}}},
        ]
    }
}


@pytest.mark.parametrize(
    ("hard", "fits"),
    [
        ({"pods": "3"}, 3),
        ({"count/pods": "1"}, 1),
        ({"requests.nvidia.com/gpu": "4"}, 2),
        ({"requests.nvidia.com/gpu": "5"}, 2),
        ({"cpu": "1"}, 2),
        ({"requests.cpu": "1500m"}, 3),
        ({"requests.memory": "17Gi"}, 2),
        ({"limits.memory": "18Gi"}, 2),
    ],
)
def test_as_many_pods_fit_as_the_quota_has_room_for(hard: Json, fits: int) -> None:
    assert lacks_room([quota(hard)], POD, fits) == ""
    assert lacks_room([quota(hard)], POD, fits + 1).startswith("gpus, requested: ")


def test_what_is_used_leaves_less() -> None:
    assert lacks_room([quota({"pods": "4"}, {"pods": "2"})], POD, 2) == ""
    assert lacks_room([quota({"pods": "4"}, {"pods": "2"})], POD, 3) == "gpus, requested: pods=3, used: 2, limited: 4"


def test_what_has_nothing_to_do_with_pods_is_not_looked_at() -> None:
    assert lacks_room([quota({"services": "0", "count/jobs.batch": "0", "requests.storage": "1Gi"})], POD, 9) == ""


def test_a_quota_with_scopes_is_left_to_the_api_server() -> None:
    assert lacks_room([quota({"pods": "0"}, scopes=["BestEffort"])], POD, 2) == ""


def test_a_quota_that_nobody_has_counted_yet_says_nothing() -> None:
    assert lacks_room([{"metadata": {"name": "new"}, "spec": {"hard": {"pods": "0"}}}], POD, 2) == ""

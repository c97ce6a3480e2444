"""The Job, the pods and the Service of a gang."""

from typing import Any

import pytest

from activities.replicas.gang import service
from activities.replicas.job_builder import IDENTITY_VOLUME, build_job
from activities.signatures import CreateReplica, JobRef
from api.gang import INDEX_ANNOTATION
from api.spot_instance_job import SpotInstanceJobSpec

Json = dict[str, Any]

JOB = JobRef(namespace="team", name="llm", uid="u-1", job_id="0a1b2c3d")
FIRST = "llm-0a1b2c3d-r0-i2-0.llm-0a1b2c3d-r0.team.svc"
RANK = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX_ANNOTATION}']"}}


def template(pod: Json | None = None, **container: Any) -> Json:
    main = {"name": "main", "image": "train:v1", **container}
    return {"spec": {"template": {"spec": {"containers": [main], **(pod or {})}}}}


def request(job_template: Json | None = None, members: int = 3, **more: Any) -> CreateReplica:
    asked = {"replica": 0, "incarnation": 2, "nodes": ["n1", "n2", "n3"], "bought": True, "members": members} | more
    return CreateReplica(job=JOB, job_template=job_template or template(), **asked)


def pod_of(job: Json) -> Json:
    found: Json = job["spec"]["template"]["spec"]
    return found


def env_of(container: Json) -> Json:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_one_indexed_job_makes_all_members_and_none_anew() -> None:
    spec = build_job(request())["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert spec["backoffLimitPerIndex"] == 0
    assert "backoffLimit" not in spec, "with a limit for all, the first failure would end the others"
    assert spec["podReplacementPolicy"] == "Failed"


def test_what_the_template_says_of_its_own_pods_gives_way() -> None:
    given = template()
    given["spec"] |= {"completions": 3, "parallelism": 3, "backoffLimit": 6, "maxFailedIndexes": 1}
    spec = build_job(request(given))["spec"]
    assert not {"backoffLimit", "maxFailedIndexes"} & set(spec)


def test_a_replica_of_one_pod_is_what_it_was() -> None:
    job = build_job(request(members=1))
    assert job["spec"]["completions"] == 1
    assert not {"completionMode", "backoffLimitPerIndex"} & set(job["spec"])
    assert not {"subdomain"} & set(pod_of(job))
    assert "env" not in pod_of(job)["containers"][0]


def test_a_gang_of_one_member_is_told_so() -> None:
    job = build_job(request(members=1, indexed=True))
    assert (job["spec"]["completionMode"], job["spec"]["completions"]) == ("Indexed", 1)
    assert env_of(pod_of(job)["containers"][0])["WORLD_SIZE"] == "1"


def test_the_members_find_each_other() -> None:
    pod = pod_of(build_job(request(template({"initContainers": [{"name": "first", "image": "i"}]}))))
    assert pod["subdomain"] == "llm-0a1b2c3d-r0"
    for container in (*pod["initContainers"], *pod["containers"]):
        assert env_of(container) == {
            "RANK": RANK,
            "PET_NODE_RANK": RANK,
            "MASTER_ADDR": FIRST,
            "MASTER_PORT": "29500",
            "WORLD_SIZE": "3",
            "PET_MASTER_ADDR": FIRST,
            "PET_MASTER_PORT": "29500",
            "PET_NNODES": "3",
            "PET_SHUTDOWN_TIMEOUT": "25",
            "JAX_COORDINATOR_ADDRESS": f"{FIRST}:29500",
        }


def test_what_the_template_sets_itself_stays_and_may_refer_to_ours() -> None:
    own = [{"name": "MASTER_PORT", "value": "6000"}, {"name": "ID", "value": "$(RANK)"}]
    (container,) = pod_of(build_job(request(template(env=own))))["containers"]
    assert [each for each in container["env"] if each["name"] in ("MASTER_PORT", "ID")] == own
    assert container["env"][-2:] == own, "behind RANK, or $(RANK) would not be replaced"


def test_torchrun_starts_a_process_for_each_gpu() -> None:
    pod = {"terminationGracePeriodSeconds": 120}
    given = template(pod, resources={"requests": {"nvidia.com/gpu": 8}})
    env = env_of(pod_of(build_job(request(given)))["containers"][0])
    assert (env["PET_NPROC_PER_NODE"], env["PET_SHUTDOWN_TIMEOUT"]) == ("8", "115")


def test_identity_says_which_member_it_is() -> None:
    job = build_job(request())
    (volume,) = [each for each in pod_of(job)["volumes"] if each["name"] == IDENTITY_VOLUME]
    files = {item["path"]: item["fieldRef"]["fieldPath"] for item in volume["downwardAPI"]["items"]}
    annotations = job["spec"]["template"]["metadata"]["annotations"]
    assert files["member"] == RANK["fieldRef"]["fieldPath"]
    assert files["size"] == "metadata.annotations['training.dcnlab.com/gang-size']"
    assert annotations["training.dcnlab.com/gang-size"] == "3"
    assert files["coordinator"] == "metadata.annotations['training.dcnlab.com/coordinator']"
    assert annotations["training.dcnlab.com/coordinator"] == f"{FIRST}:29500"


def test_the_service_gives_names_and_no_address_and_goes_with_the_job() -> None:
    made = service(request())
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == ("llm-0a1b2c3d-r0", "team")
    assert [owner["uid"] for owner in made["metadata"]["ownerReferences"]] == ["u-1"]
    assert made["spec"] == {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {"training.dcnlab.com/job": "0a1b2c3d", "training.dcnlab.com/replica": "0"},
    }


@pytest.mark.parametrize("index", [0, 31])
def test_host_names_of_the_longest_job_fit(index: int) -> None:
    job = JobRef(namespace="team", name="a" * 40, uid="u", job_id="0a1b2c3d")
    made = build_job(request(incarnation=9999).model_copy(update={"job": job}))
    assert len(f"{made['metadata']['name']}-{index}") <= 63


def spec(**more: Any) -> SpotInstanceJobSpec:
    return SpotInstanceJobSpec.model_validate(
        {"jobTemplate": template(), "checkpointConfig": {}, "spotInstanceVMRef": {"name": "gpu"}, **more}
    )


@pytest.mark.parametrize(
    ("given", "members", "gang"),
    [
        ({}, 1, False),
        ({"gang": {"minSize": 4, "maxSize": 4}}, 4, True),
        ({"gang": {"minSize": 1, "maxSize": 1}}, 1, True),
        ({"jobTemplate": {"spec": {"parallelism": 2}}}, 2, True),
        ({"jobTemplate": {"spec": {"parallelism": 1}}}, 1, False),
        ({"jobTemplate": {"spec": {"parallelism": 0}}}, 1, False),
        ({"jobTemplate": {"spec": {"completionMode": "Indexed"}}}, 1, True),
    ],
)
def test_a_spec_says_how_many_members_a_replica_has(given: Json, members: int, gang: bool) -> None:
    made = spec(**given)
    asked = CreateReplica.of(JOB, made, replica=0, incarnation=0, nodes=["n"], bought=True)
    assert (made.members, made.is_gang) == (members, gang)
    assert (asked.members, asked.indexed) == (members, gang)


def test_the_stored_form_of_what_is_no_gang_is_as_before() -> None:
    asked = CreateReplica.of(JOB, spec(), replica=0, incarnation=0, nodes=["n"], bought=True)
    assert not {"members", "indexed", "gang"} & set(asked.model_dump())
    assert "gang" not in spec().model_dump()

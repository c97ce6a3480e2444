"""The script that lists outputs on a machine, in a real shell, with what runtimes answer."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from activities.replicas.outputs import LIST, containers_on_machine
from activities.signatures import JobRef, ReplicaRef, SaveOutputs, VmRef
from api.spot_instance_job import CheckpointStorage
from api.storage import key_below

# As containerd 2.1 prints it; workdir and lowerdir are not read.
CTR = """#!/bin/sh
[ "$*" = "-n k8s.io snapshots mounts /upper c1" ] || exit 1
echo "mount -t overlay overlay /upper -o workdir=/w/2/work,upperdir={upper},lowerdir=/w/1/fs,index=off"
"""
CRICTL = """#!/bin/sh
[ "$1" = inspect ] && [ "$5" = '{{{{.info.runtimeSpec.root.path}}}}' ] || exit 1
echo {root}/merged
"""


async def listed(programs: Path, *paths: str) -> tuple[int, list[str]]:
    """Run the script, and return its exit status and what it prints between NULs."""
    environment = {"PATH": f"{programs}:{os.defpath}"}
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", LIST, "sh", "c1", *paths, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode().removesuffix("\0").split("\0")


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    """Make a container's writable layer with two files, one of which has a space in its name."""
    made = tmp_path / "layers" / "2" / "diff"
    (made / "out" / "deep").mkdir(parents=True)
    (made / "out" / "model").write_text("weights")
    (made / "out" / "deep" / "a b").write_text("xy")
    (made / "other").write_text("not asked for")
    return made


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    made = tmp_path / "bin"
    made.mkdir()
    return made


def install(programs: Path, name: str, text: str) -> None:
    (programs / name).write_text(text)
    (programs / name).chmod(0o755)


@pytest.mark.parametrize("runtime", ["containerd", "cri-o"])
async def test_files_at_the_paths_are_listed_with_their_sizes(upper: Path, programs: Path, runtime: str) -> None:
    if runtime == "containerd":
        install(programs, "ctr", CTR.format(upper=upper))
    else:
        install(programs, "crictl", CRICTL.format(root=upper.parent))
    status, (first, *files) = await listed(programs, "/out/", "/none", "/other/none")
    assert (status, first) == (0, str(upper))
    assert sorted(files) == [f"2 {upper}/out/deep/a b", f"7 {upper}/out/model"]


async def test_one_file_may_be_named(upper: Path, programs: Path) -> None:
    install(programs, "ctr", CTR.format(upper=upper))
    assert (await listed(programs, "/other"))[1] == [str(upper), f"13 {upper}/other"]


async def test_no_link_and_no_dots_lead_out_of_the_container(upper: Path, programs: Path, tmp_path: Path) -> None:
    install(programs, "ctr", CTR.format(upper=upper))
    outside = tmp_path / "etc"
    outside.mkdir()
    (outside / "secret").write_text("of the machine")
    (upper / "link").symlink_to(outside)
    (upper / "out" / "link").symlink_to(outside)
    (upper / "out" / "file").symlink_to(outside / "secret")
    _, (_, *files) = await listed(programs, "/link", "/link/secret", "/../../../etc", "/out/link", "/out")
    assert sorted(files) == [f"2 {upper}/out/deep/a b", f"7 {upper}/out/model"]


async def test_a_runtime_that_is_neither_is_told(programs: Path) -> None:
    assert (await listed(programs, "/out"))[0] == 3


async def test_a_line_break_in_a_name_names_no_other_file(upper: Path, programs: Path) -> None:
    """Otherwise, whoever writes files in a container could have any file of its machine uploaded: its kubelet's key."""
    install(programs, "ctr", CTR.format(upper=upper))
    name = "log\n5 /var/lib/kubelet/pki"
    (upper / "out" / name).parent.mkdir(parents=True)
    (upper / "out" / name).write_text("xyz")
    _, (_, *files) = await listed(programs, "/out")
    assert sorted(files) == [f"2 {upper}/out/deep/a b", f"3 {upper}/out/{name}", f"7 {upper}/out/model"]


def test_a_key_is_below_its_prefix() -> None:
    assert key_below("p/outputs/r0", "/out/a b") == "p/outputs/r0/out/a b"
    assert key_below("p/outputs/r0", "/out/a\n5 x") == "p/outputs/r0/out/a%0A5 x"
    for path in ("/out/../../r1/x", "/..", "out", "", "/", "-other/x", "/./x"):
        with pytest.raises(ValueError, match="is not a path below p/outputs/r0"):
            key_below("p/outputs/r0", path)


def on(node: str, container: str) -> dict[str, Any]:
    status = {"containerStatuses": [{"name": "train", "containerID": f"containerd://{container}"}]}
    return {"metadata": {}, "spec": {"nodeName": node}, "status": status}


def test_of_a_gang_only_what_ran_on_the_machine_is_looked_for_there() -> None:
    job = JobRef(namespace="team", name="llm", uid="u", job_id="0a1b2c3d")
    vm = VmRef(project="p", zone="us-central1-a", name="outlast-0a1b2c3d-r0-v1-t1", namespace="team")
    ref = ReplicaRef(job=job, replica=0, incarnation=1)
    storage = CheckpointStorage(type="gcs", bucket="b")
    request = SaveOutputs(ref=ref, paths=["/out"], storage=storage, vm=vm, ssh_user="u")
    pods = [on("outlast-0a1b2c3d-r0-v2-t1", "other"), on(vm.name, "here")]
    assert containers_on_machine(pods, request) == ["here"]

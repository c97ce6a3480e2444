"""Which container runtime of a machine is used."""

import pytest
from temporalio.exceptions import ApplicationError

from activities.join.runtimes import SOCKETS, choose

CONTAINERD = "unix:///var/run/containerd/containerd.sock"
CRIO = "unix:///var/run/crio/crio.sock"


@pytest.mark.parametrize("found", [[], ["containerd"], ["CRI-O"]])
def test_kubeadm_finds_the_only_one_itself(found: list[str]) -> None:
    runtime = choose(None, found)
    assert (runtime.socket, runtime.note) == (None, "")


def test_of_several_containerd_is_used_and_people_are_told() -> None:
    runtime = choose(None, ["CRI-O", "containerd"])
    assert runtime.socket == CONTAINERD
    assert runtime.note == (
        "the machine has containerd and CRI-O, and containerd is used: set kubeadmJoinConfig.criSocket of the "
        "SpotInstanceVM to use another"
    )


@pytest.mark.parametrize("wanted", [CRIO, CRIO.removeprefix("unix://")])
def test_the_spec_decides_whatever_there_is(wanted: str) -> None:
    for found in ([], list(SOCKETS)):
        runtime = choose(wanted, found)
        assert (runtime.socket, runtime.note) == (CRIO, "")


@pytest.mark.parametrize("wanted", ["/a --flag", "tcp://10.0.0.1", "/a/../b", "unix://a"])
def test_what_is_no_socket_is_refused(wanted: str) -> None:
    with pytest.raises(ApplicationError, match=r"kubeadmJoinConfig\.criSocket: .* is not the socket of a container"):
        choose(wanted, [])

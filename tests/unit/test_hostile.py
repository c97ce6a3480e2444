"""What people and machines write reaches shells and configurations only as the value that it is."""

import random
import re
import shlex
import subprocess
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from activities.compute.instance import instance_body
from activities.join import kubeadm
from activities.join.kubeadm import Discovery, join_configuration
from api.market import Candidate
from api.spot_instance_vm import SpotInstanceVMSpec

PIECES = [
    "'", '"', "`", "$(", ")", "${IFS}", ";", "&&", "|", ">", "<", "\n", "\r\n", "\t", " ", "\\", "#", "!", "*", "?",
    "~", "{{", "}}", "--", "-o", "ProxyCommand=", "touch pwned", "../", "/", "%s", ":", "---\n", "- a", "&x", "*x",
    "!!python/object", "\x1b[2J", "é", "\u2028", "\u202e", "\x85", "a", "0", "=", "@", ",",
]  # fmt: skip
SEED = 20_260_101
RUNS = 400


def hostile(number: int) -> str:
    """Make a string on which some program may trip; the same for the same number."""
    choose = random.Random(SEED + number)
    return "".join(choose.choice(PIECES) for _ in range(choose.randint(1, 12)))


@pytest.mark.parametrize("version", ["v1.36.3", "v1.28.0"])
def test_a_join_configuration_holds_each_value_as_it_is(version: str) -> None:
    for number in range(RUNS):
        endpoint, token, digest, node, provider, job, home = (hostile(7 * number + part) for part in range(7))
        text = join_configuration(
            Discovery(endpoint, token, digest),
            node=node,
            job_id=job,
            provider_id=provider,
            directory=home,
            version=version,
        )
        (found,) = yaml.safe_load_all(text)
        assert found["discovery"]["bootstrapToken"] == {
            "apiServerEndpoint": endpoint, "token": token, "caCertHashes": [digest],
        }  # fmt: skip
        assert (found["nodeRegistration"]["name"], found["nodeRegistration"]["taints"][0]["value"]) == (node, job)
        arguments = found["nodeRegistration"]["kubeletExtraArgs"]
        assert arguments in ({"provider-id": provider}, [{"name": "provider-id", "value": provider}])
        assert found["patches"] == {"directory": f"{home}/patches"}


def test_a_quoted_argument_is_one_argument_to_a_real_shell() -> None:
    """It is sent as :func:`activities.join.ssh.run` sends it."""
    words = [hostile(number) for number in range(RUNS)]
    command = " ".join(map(shlex.quote, ["printf", "%s\\0", *words]))
    said = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True, timeout=30).stdout
    assert said.decode().split("\0")[:-1] == words


def test_no_script_that_runs_on_a_machine_is_made_of_anything_but_constants() -> None:
    """They are the module's own text from the moment it is loaded, so nothing of a job can be in them."""
    scripts = [kubeadm.PREPARE, kubeadm.STATE, kubeadm.START, kubeadm.JOIN_SCRIPT, kubeadm.LOG]
    for script in [*scripts, kubeadm.STARTUP_SCRIPT, kubeadm.FINGERPRINT]:
        assert not re.search(r"\{[a-z_]+\}", script)  # no place left to format something into
        assert subprocess.run(["/bin/sh", "-n", "-c", script], check=False, timeout=10).returncode == 0


def test_a_startup_script_is_the_value_of_the_machines_metadata() -> None:
    for number in range(RUNS):
        script = hostile(number)
        body = instance_body(
            vm(startupScript=script), name="vm", candidate=CANDIDATE, labels={}, ssh_public_key="ssh-ed25519 A"
        )
        (item,) = [each for each in body["metadata"]["items"] if each["key"] == "startup-script"]
        assert item["value"] == script


CANDIDATE = Candidate(zone="us-central1-a", machine_type="n1-standard-4", gpu=None)


def vm(**fields: Any) -> SpotInstanceVMSpec:
    gcp = {"project": "p", "zone": "us-central1-a", "machineType": "n1-standard-4"}
    return SpotInstanceVMSpec.model_validate({"vmImage": "ubuntu-2404-lts-amd64", "gcp": gcp, **fields})


@pytest.mark.parametrize("user", ["root;id", "-oProxyCommand=id", "a b", "$(id)", "", "A", "a\nb", "a" * 33])
def test_a_name_to_log_in_by_is_a_name(user: str) -> None:
    """An instance's key is written as ``user:key``, so a user with a line break would add another user's key."""
    with pytest.raises(ValidationError):
        vm(sshUser=user)

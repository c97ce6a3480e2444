"""Hostile values on their whole way, from the spec by real SSH to a real shell on a machine: nothing runs."""

import random
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError

from activities.join import activities as join_module
from activities.signatures import JoinProgress, StartJoin
from tests.activities.test_join import Setting, setting

__all__ = ["setting"]

ATTACKS = [
    "; touch pwned;",
    "$(touch pwned)",
    "`touch pwned`",
    "' ; touch pwned ; '",
    '" ; touch pwned ; "',
    "\ntouch pwned\n",
]


FUZZED = 8
SEED = 20_261_126
PIECES = [
    "'",
    '"',
    "`",
    "$(",
    ")",
    "${IFS}",
    ";",
    "&&",
    "|",
    ">",
    "\n",
    " ",
    "\\",
    "#",
    "--",
    "{{",
    "---\n",
    "- a: &x",
    "é",
]


def fuzzed(number: int) -> str:
    """Wrap an attack into text on which some program may trip; the same for the same number."""
    choose = random.Random(SEED + number)
    around = ["".join(choose.choices(PIECES, k=choose.randint(0, 6))) for _ in range(2)]
    return choose.choice(ATTACKS).join(around)


async def tried(setting: Setting, join: StartJoin) -> JoinProgress | ApplicationError:
    try:
        return await setting.joined(join)
    except ApplicationError as error:
        return error


def pwned(setting: Setting, join: StartJoin) -> list[Path]:
    """List the traces of an attack on the machine, and where the worker runs."""
    return [*setting.machine(join).root.rglob("pwned"), *Path.cwd().glob("pwned")]


async def test_hostile_endpoints_and_names_run_nothing(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_module, "WATCH_SECONDS", 20)
    plain = await setting.vm()
    for attack in [*ATTACKS, *map(fuzzed, range(FUZZED))]:
        endpoint = {"controlPlaneEndpoint": f"127.0.0.1:1{attack}", "caCertHash": "sha256:" + "0" * 64}
        spec = plain.spec.model_validate({**plain.spec.model_dump(by_alias=True), "kubeadmJoinConfig": endpoint})
        hostile = plain.model_copy(update={"spec": spec, "provider_id": f"gce://p/z/{attack}"})
        outcome = await tried(setting, hostile)
        assert isinstance(outcome, ApplicationError) or outcome.state == "Failed", outcome
        assert pwned(setting, plain) == []
    # The machine still works.
    assert (await setting.joined(plain)).state == "Joined"


async def test_a_hostile_secret_runs_nothing(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes the Secret of a namespace's tokens writes what is sent to each of its machines."""
    monkeypatch.setattr(join_module, "WATCH_SECONDS", 20)
    join = await setting.vm()
    secrets = f"/api/v1/namespaces/{setting.namespace}/secrets"
    await setting.kube.create(secrets, {"metadata": {"name": "kubeadm-join-token"}})
    for attack in map(fuzzed, range(FUZZED, 2 * FUZZED)):
        entries = {"token": attack, "ca-cert-hash": attack, "control-plane-endpoint": f"127.0.0.1{attack}"}
        await setting.kube.patch(f"{secrets}/kubeadm-join-token", {"stringData": entries})
        outcome = await tried(setting, join)
        assert isinstance(outcome, ApplicationError) or outcome.state == "Failed", outcome
        assert pwned(setting, join) == []


async def test_a_startup_script_arrives_as_it_was_written(setting: Setting) -> None:
    written = 'it\'s "quoted" $(not run) `nor this` \\ end'
    script = f"#!/bin/sh\ncat >said <<'EOF'\n{written}\nEOF\n"
    join = await setting.vm(startupScript=script)
    assert (await setting.joined(join)).state == "Joined"
    (said,) = setting.machine(join).root.rglob("said")
    assert said.read_text() == f"{written}\n"

"""A light machine's sshd, checked with the real asyncssh client."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
import pytest_asyncio

from tests.sandbox.light_machines import World
from tests.sandbox.light_machines import world as running
from tests.sandbox.light_nodes import eventually


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


async def test_a_command_runs_in_the_home_of_the_machine(world: World) -> None:
    machine = await world.boot("vm-1")
    done = await world.run(machine, "pwd; echo $HOME; whoami >/dev/null; echo $USER; exit 7")
    assert done.stdout.split() == [str(machine.root), str(machine.root), "trainer"]
    assert done.exit_status == 7


async def test_every_byte_arrives_and_both_streams_stay_apart(world: World) -> None:
    machine = await world.boot("vm-1")
    async with world.ssh(machine) as connection:
        for _ in range(20):
            done = await connection.run("head -c 300000 /dev/zero; echo end; echo oops >&2", encoding=None)
            assert done.stdout == b"\0" * 300000 + b"end\n"
            assert done.stderr == b"oops\n"


async def test_stdin_reaches_the_command(world: World) -> None:
    machine = await world.boot("vm-1")
    assert (await world.run(machine, "wc -c", input="x" * 100_000)).stdout.strip() == "100000"


async def test_a_command_killed_by_a_signal_says_so(world: World) -> None:
    machine = await world.boot("vm-1")
    done = await world.run(machine, "kill -KILL $$")
    assert done.exit_signal[0] == "KILL"


async def test_strangers_and_strange_keys_are_refused(world: World) -> None:
    machine = await world.boot("vm-1")
    with pytest.raises(asyncssh.PermissionDenied):
        async with world.ssh(machine, user="stranger"):
            pass
    world.key = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(asyncssh.PermissionDenied):
        async with world.ssh(machine):
            pass


async def test_an_expired_key_is_refused(world: World) -> None:
    public = world.key.export_public_key().decode().strip()
    options = json.dumps({"userName": "trainer", "expireOn": "2020-01-01T00:00:00+0000"})
    machine = await world.boot("vm-1", ssh_keys=f"trainer:{public} google-ssh {options}")
    with pytest.raises(asyncssh.PermissionDenied):
        async with world.ssh(machine):
            pass


async def test_each_machine_has_a_host_key_of_its_own(world: World) -> None:
    first, second = await world.boot("vm-1"), await world.boot("vm-2")
    assert first.guest_attributes["hostkeys/ssh-ed25519"] != second.guest_attributes["hostkeys/ssh-ed25519"]


async def test_a_file_put_by_sftp_is_where_commands_find_it(world: World) -> None:
    machine = await world.boot("vm-1")
    async with world.ssh(machine) as connection:
        await connection.run("mkdir -m 700 .outlast", check=True)
        async with connection.start_sftp_client() as sftp:
            attributes = asyncssh.SFTPAttrs(permissions=0o600)
            async with sftp.open(".outlast/join.yaml", "w", attributes) as file:
                await file.write("secret")
            assert await sftp.realpath("/") == "/"
        done = await connection.run("stat -c %a .outlast/join.yaml; cat .outlast/join.yaml")
    assert done.stdout.split() == ["600", "secret"]


async def test_sudo_drops_itself(world: World) -> None:
    machine = await world.boot("vm-1")
    assert (await world.run(machine, "sudo -n A=b sh -c 'echo $A $0' zero")).stdout == "b zero\n"


async def test_programs_that_would_change_the_host_do_nothing(world: World) -> None:
    machine = await world.boot("vm-1")
    done = await world.run(machine, "sudo apt-get install -y nothing-of-that-name")
    assert done.exit_status == 0
    assert "not run in the sandbox" in done.stderr


async def test_a_detached_command_outlives_its_connection(world: World) -> None:
    machine = await world.boot("vm-1")
    await world.run(machine, "setsid --fork sh -c 'sleep 0.3; echo done >result' </dev/null >/dev/null 2>&1")

    async def finished() -> bool:
        return (await world.run(machine, "cat result")).stdout == "done\n"

    await eventually("result of the detached command", finished)


async def test_when_the_power_goes_connections_break_and_nothing_is_left(world: World) -> None:
    machine = await world.boot("vm-1")
    async with world.ssh(machine) as connection:
        await connection.run("setsid --fork sleep 300 </dev/null >/dev/null 2>&1")
        pid = int((await connection.run("sh -c 'echo $$; exec sleep 301 >/dev/null 2>&1 &'")).stdout)
        waiting = asyncio.create_task(connection.run("sh -c 'touch sleeps; exec sleep 302'"))
        await exists(machine.root / "sleeps")
        await machine.power_off(0)
        done = await asyncio.wait_for(waiting, 120)
        assert done.exit_status is None
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncssh.connect(machine.spec.address, world.settings.ssh_port, known_hosts=None)
    assert not _alive(pid)
    assert not [pid for pid in os.listdir("/proc") if pid.isdecimal() and _belongs(pid, str(machine.root))]


async def test_the_disk_and_the_host_key_outlive_a_power_cycle(world: World) -> None:
    machine = await world.boot("vm-1")
    key = machine.guest_attributes["hostkeys/ssh-ed25519"]
    await world.run(machine, "echo kept >file")
    await machine.power_off(0)
    assert not machine.guest_attributes
    await machine.boot()

    async def published() -> str | None:
        return machine.guest_attributes.get("hostkeys/ssh-ed25519")

    assert await eventually("host key", published) == key
    assert (await world.run(machine, "cat file")).stdout == "kept\n"


async def test_a_new_machine_of_the_same_name_has_an_empty_disk(world: World) -> None:
    machine = await world.boot("vm-1")
    await world.run(machine, "echo old >file")
    await machine.power_off(0)
    assert (await world.run(await world.boot("vm-1"), "cat file")).exit_status == 1


async def test_a_soft_off_lets_processes_end_within_the_grace(world: World) -> None:
    machine = await world.boot("vm-1")
    saving = 'trap "sleep 0.3; echo saved >state; exit" TERM; touch listens; while :; do sleep 0.05; done'
    await world.run(machine, f"setsid --fork sh -c '{saving}' </dev/null >/dev/null 2>&1")
    await exists(machine.root / "listens")
    await machine.power_off(60)
    assert (machine.root / "state").read_text() == "saved\n"


async def test_a_soft_off_ends_at_its_grace_even_if_a_process_does_not(world: World) -> None:
    machine = await world.boot("vm-1")
    deaf = "trap : TERM; touch deaf; while :; do sleep 0.05; done"
    await world.run(machine, f"setsid --fork sh -c '{deaf}' </dev/null >/dev/null 2>&1")
    await exists(machine.root / "deaf")
    started = asyncio.get_running_loop().time()
    await machine.power_off(0.5)
    assert asyncio.get_running_loop().time() - started > 0.4
    assert not machine.powered


async def test_a_second_power_off_cuts_a_soft_off_short(world: World) -> None:
    machine = await world.boot("vm-1")
    deaf = "trap : TERM; touch deaf; while :; do sleep 0.05; done"
    await world.run(machine, f"setsid --fork sh -c '{deaf}' </dev/null >/dev/null 2>&1")
    await exists(machine.root / "deaf")
    soft = asyncio.create_task(machine.power_off(300))
    await asyncio.sleep(0.2)
    await asyncio.wait_for(machine.power_off(0), 120)
    await asyncio.wait_for(soft, 120)


async def exists(file: Path) -> None:
    """Wait for a file."""
    await eventually(f"{file} exists", lambda: asyncio.to_thread(file.exists))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def _belongs(pid: str, root: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == root
    except OSError:
        return False

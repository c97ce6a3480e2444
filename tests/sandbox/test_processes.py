import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.processes import Process, kill, kill_leftovers, leftovers


def python(tmp_path: Path, code: str) -> Process:
    return Process("child", [sys.executable, "-c", code], tmp_path)


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


async def test_runs_until_it_is_stopped(tmp_path: Path) -> None:
    child = python(tmp_path, "import time; time.sleep(60)")
    await child.start()
    await child.ready(yes)
    assert leftovers(tmp_path) == [child.pid]
    await child.stop()
    assert child.pid is None
    assert leftovers(tmp_path) == []


async def test_can_be_started_again(tmp_path: Path) -> None:
    child = python(tmp_path, "import time; time.sleep(60)")
    await child.start()
    first = child.pid
    await child.kill()
    assert child.exit_code == -9
    await child.start()
    assert child.pid not in {None, first}
    await child.kill()


async def test_an_early_end_is_told_with_the_last_words(tmp_path: Path) -> None:
    child = python(tmp_path, "import sys; sys.exit('the disk is full')")
    await child.start()
    with pytest.raises(SandboxError, match="ended with code 1:\nthe disk is full"):
        await child.ready(no)


async def test_a_deadline_is_told_by_name(tmp_path: Path) -> None:
    child = python(tmp_path, "import time; time.sleep(60)")
    await child.start()
    with pytest.raises(SandboxError, match="child is not ready after 0 s"):
        await child.ready(no, deadline=0.2)
    await child.kill()


async def test_one_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    child = python(
        tmp_path, "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    await child.start()

    async def deaf() -> bool:
        return "deaf" in child.log_tail()

    await child.ready(deaf)
    await child.stop(grace=0.2)
    assert child.exit_code == -9


async def test_an_end_that_nobody_asked_for_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    child = python(tmp_path, "raise SystemExit(3)")
    with caplog.at_level(logging.WARNING, "sandbox"):
        await child.start()
        await child.wait()
        await asyncio.sleep(0.1)  # let the watch run
    assert "child ended by itself with code 3" in caplog.text


async def test_grandchildren_that_outlive_their_parent_are_found_and_ended(tmp_path: Path) -> None:
    child = python(tmp_path, "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True)")
    await child.start()
    await child.wait()
    assert len(leftovers(tmp_path)) == 1
    assert await kill_leftovers(tmp_path) == 1
    assert leftovers(tmp_path) == []


async def test_what_runs_in_a_vm_is_found_by_its_home(tmp_path: Path) -> None:
    home = tmp_path / "vms" / "vm-1" / "home"
    child = await asyncio.create_subprocess_exec("sleep", "60", env={"PATH": os.defpath, "HOME": str(home)})
    assert leftovers(tmp_path) == [child.pid]
    await kill_leftovers(tmp_path)
    await child.wait()


async def test_processes_of_another_sandbox_are_left_alone(tmp_path: Path) -> None:
    other = python(tmp_path / "other", "import time; time.sleep(60)")
    await other.start()
    assert await kill_leftovers(tmp_path) == 0
    assert other.pid
    await other.kill()


async def test_a_child_that_has_just_ended_is_not_killed() -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    with contextlib.suppress(ChildProcessError):  # asyncio has a thread that may collect it first
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
    kill(child)
    assert await child.wait() == 0

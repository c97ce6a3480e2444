"""How a program of ours ends."""

import subprocess
import sys

PROGRAM = "from programs import frame; print('said', end=''); frame.end(3)"


def test_it_ends_with_its_code_and_all_that_it_has_said() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "said", "")

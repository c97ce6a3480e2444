"""The frame of every program of ours: a log, one line on stderr if it cannot run, an exit code.

Imports are few, because the node agent runs on every spot node.
"""

import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from programs import logs


def run(name: str, work: Callable[[], None], errors: tuple[type[Exception], ...]) -> int:
    """Run a program to its end.

    Args:
        name: what its line on stderr begins with.
        work: all that it does, reading the environment included.
        errors: those that say that it cannot run. Any other is a bug, and keeps its traceback.

    Returns:
        The exit code: 0 at its end, 1 if it cannot run.
    """
    try:
        made = logs.handler(os.environ)
    except ValueError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    logging.basicConfig(level=logging.INFO, handlers=[made])
    try:
        work()
    except errors as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


def end(code: int) -> NoReturn:
    """End this process with an exit code, but without the finalization of Python.

    A thread of the Temporal SDK may still come back to Python then. Now and then that aborts the process, with signal 6
    instead of the exit code: "PyGILState_Release: thread state must be current when releasing".
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

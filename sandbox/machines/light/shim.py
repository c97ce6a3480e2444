"""A program in a VM that the sandbox plays: it tells the machine what was called, and prints the answer.

It is installed as ``bin/<name>`` of every VM, and a bare Python runs it, so that it starts in milliseconds.
"""

import json
import os
import socket
import sys

SOCKET = "@SOCKET@"


def main() -> int:
    """Pass the call on, and return the exit code."""
    call = {"program": os.path.basename(sys.argv[0]), "argv": sys.argv[1:], "cwd": os.getcwd()}
    with socket.socket(socket.AF_UNIX) as machine:
        machine.connect(SOCKET)
        machine.sendall(json.dumps(call).encode() + b"\n")
        for line in machine.makefile("rb"):
            answer = json.loads(line)
            if "exit" in answer:
                return int(answer["exit"])
            stream = sys.stdout if "out" in answer else sys.stderr
            print(answer.get("out", answer.get("err")), file=stream, flush=True)
    return 255  # the power went


if __name__ == "__main__":
    sys.exit(main())

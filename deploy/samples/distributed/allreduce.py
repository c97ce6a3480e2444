"""A training on several machines that needs nothing but NumPy: an all-reduce over TCP, and a save of all at one step.

Its loss is the same in every digit, however many members it has and whatever becomes of them. Each step has the same
micro-batches, and their gradients are added up in the same order. So it also shows how to keep the global batch
constant in an elastic gang. numpy.yaml beside it runs it.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
import outlast_checkpoint as outlast  # deploy/training/outlast_checkpoint.py

RANK = int(os.environ.get("RANK", "0"))
SIZE = int(os.environ.get("WORLD_SIZE", "1"))
STEPS = int(os.environ.get("STEPS", "1000"))
SAVE_EVERY = int(os.environ.get("SAVE_EVERY", "100"))
STATE = Path(os.environ.get("STATE", "/tmp/state"))

SEED = 42
MICRO_BATCHES = 12
"""How many there are in each step. Each member takes its share of them."""
ROWS, INPUTS, HIDDEN = 16, 16, 32
LEARNING_RATE = 0.05

LENGTH = struct.Struct("!Q")

Arrays = dict[int, np.ndarray]


class Peers:
    """Connections with the other members: all have one with the first of them."""

    def __init__(self) -> None:
        port = int(os.environ.get("MASTER_PORT", "29500"))
        if SIZE == 1:
            self._others: list[BinaryIO] = []
        elif RANK == 0:
            with socket.create_server(("", port), backlog=SIZE) as door:
                self._others = [_stream(door.accept()[0]) for _ in range(SIZE - 1)]
        else:
            self._others = [_stream(_connect(os.environ["MASTER_ADDR"], port))]

    def gather(self, own: Arrays) -> list[np.ndarray]:
        """Return the arrays of all members, in the order of their numbers. All members have to call it together."""
        if RANK:
            [first] = self._others
            _send(first, own)
            found = _receive(first)
        else:
            found = dict(own)
            for each in self._others:
                found.update(_receive(each))
            for each in self._others:
                _send(each, found)
        return [found[number] for number in sorted(found)]


def _connect(host: str, port: int) -> socket.socket:
    """Wait for the first member: its name is unknown until its pod has an address, and then it may not listen yet."""
    while True:
        try:
            return socket.create_connection((host, port))
        except OSError:
            time.sleep(0.5)


def _stream(peer: socket.socket) -> BinaryIO:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each message may wait 40 ms to be acknowledged
    return peer.makefile("rwb")


def _send(stream: BinaryIO, arrays: Arrays) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **{str(number): array for number, array in arrays.items()})
    data = buffer.getvalue()
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def _receive(stream: BinaryIO) -> Arrays:
    [length] = LENGTH.unpack(_exactly(stream, LENGTH.size))
    with np.load(io.BytesIO(_exactly(stream, length)), allow_pickle=False) as found:
        return {int(number): found[number] for number in found.files}


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ConnectionError("another member has ended")
    return data


class Model:
    """Two layers that learn a function of their inputs. All of their weights are one vector."""

    def __init__(self) -> None:
        random = np.random.default_rng(SEED)
        self.target = random.normal(0, 1, (INPUTS, 1))
        self.weights = random.normal(0, 0.3, INPUTS * HIDDEN + HIDDEN)

    def gradient(self, step: int, number: int) -> np.ndarray:
        """Return the gradient of one micro-batch, and its loss as the last element."""
        random = np.random.default_rng((SEED, step, number))
        inputs = random.normal(0, 1, (ROWS, INPUTS))
        wanted = np.tanh(inputs @ self.target)
        first, second = self.weights[:-HIDDEN].reshape(INPUTS, HIDDEN), self.weights[-HIDDEN:].reshape(HIDDEN, 1)
        hidden = np.tanh(inputs @ first)
        error = hidden @ second - wanted
        back = inputs.T @ ((error @ second.T) * (1 - hidden**2))
        return np.concatenate([back.ravel(), (hidden.T @ error).ravel(), [(error**2).sum()]])

    def learn(self, gradients: list[np.ndarray]) -> float:
        """Take one step, and return the loss before it."""
        total = np.zeros_like(gradients[0])
        for each in gradients:  # not by np.sum, which may add them up in another order
            total += each
        total /= ROWS * MICRO_BATCHES
        self.weights = self.weights - LEARNING_RATE * total[:-1]
        return float(total[-1])


def save(model: Model, step: int) -> None:
    """Save this member's part of the weights."""
    part = np.array_split(model.weights, SIZE)[RANK]
    np.save(STATE / f"part-{RANK}-of-{SIZE}.npy", part)
    outlast.publish_shard(STATE, step)


def restore(model: Model, peers: Peers) -> int:
    """Load the weights that were saved last, by as many members as there were then, and return their step."""
    step = outlast.restore_shard(STATE)
    if step is None:
        return 0
    # Of a save by as many members as now there is only this member's part here, and otherwise there are all parts.
    parts = {int(file.name.split("-")[1]): np.load(file) for file in STATE.glob("part-*.npy")}
    model.weights = np.concatenate(peers.gather(parts))
    return int(step)


def main() -> int:
    """Train, and return the exit code."""
    # Nothing is to be saved before all have met. The first process of a container ignores SIGTERM by default.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    peers, model = Peers(), Model()
    stop = outlast.sigterm()
    first = restore(model, peers)
    print(f"training from step {first} of {STEPS} on host {socket.gethostname()}", flush=True)
    for step in range(first + 1, STEPS + 1):
        own = {number: model.gradient(step, number) for number in range(RANK, MICRO_BATCHES, SIZE)}
        loss = model.learn(peers.gather(own))
        print(f"step={step}/{STEPS} loss={loss!r}", flush=True)
        leaving = outlast.agreed(stop.is_set())
        if leaving or step % SAVE_EVERY == 0:
            save(model, step)
        if leaving:
            return 143
    print(f"training done after {STEPS} steps", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

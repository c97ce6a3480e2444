"""A training with JAX on several machines, a process each: all processes hold all weights, and each has its own data.

jax.yaml beside it runs it. Any model can take the place of this one: what matters is how the processes meet, how they
agree to leave, and what each of them saves.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import outlast_checkpoint as outlast  # deploy/training/outlast_checkpoint.py
from jax.sharding import NamedSharding, PartitionSpec

STEPS = int(os.environ.get("STEPS", "1000"))
SAVE_EVERY = int(os.environ.get("SAVE_EVERY", "100"))
STATE = Path(os.environ.get("STATE", "/tmp/state"))

ROWS, INPUTS, HIDDEN = 240, 16, 32  # rows of a step in all processes: the global batch stays what it is
LEARNING_RATE = 0.05

Weights = dict[str, jax.Array]


def initial() -> Weights:
    """Return the weights with which the training begins."""
    first, second = jax.random.split(jax.random.key(42))
    return {
        "first": 0.3 * jax.random.normal(first, (INPUTS, HIDDEN)),
        "second": 0.3 * jax.random.normal(second, (HIDDEN, 1)),
    }


def batch(step: int, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return some rows of the data of a step."""
    inputs = np.random.default_rng((42, step)).normal(0, 1, (ROWS, INPUTS)).astype(np.float32)
    return inputs[rows], np.tanh(inputs[rows].sum(1, keepdims=True) / 4)


def loss_of(weights: Weights, inputs: jax.Array, wanted: jax.Array) -> jax.Array:
    """Return the mean loss over all rows, those of the other processes among them."""
    return jnp.mean((jnp.tanh(inputs @ weights["first"]) @ weights["second"] - wanted) ** 2)


@partial(jax.jit, donate_argnums=0)
def learn(weights: Weights, inputs: jax.Array, wanted: jax.Array) -> tuple[Weights, jax.Array]:
    """Take one step, and return the loss before it."""
    loss, gradients = jax.value_and_grad(loss_of)(weights, inputs, wanted)
    return jax.tree.map(lambda weight, gradient: weight - LEARNING_RATE * gradient, weights, gradients), loss


def restore() -> tuple[Weights, int]:
    """Load what the first process has saved last, and return its step."""
    step = outlast.restore_shard(STATE, 0, 1)
    if step is None:
        return initial(), 0
    with np.load(STATE / "weights.npz") as saved:
        return {name: jnp.asarray(saved[name]) for name in saved.files}, int(step)


def save(weights: Weights, step: int) -> None:
    """Save the weights by the first process, which has them all. The others say that they have come to this step."""
    if jax.process_index() == 0:
        np.savez(STATE / "weights.npz", **jax.tree.map(np.asarray, weights))
    outlast.publish_shard(STATE, step, files=["weights.npz"] if jax.process_index() == 0 else [])


def main() -> int:
    """Train, and return the exit code."""
    # The address is in the variable JAX_COORDINATOR_ADDRESS.
    jax.distributed.initialize(num_processes=int(os.environ["WORLD_SIZE"]), process_id=int(os.environ["RANK"]))
    stop = outlast.sigterm()
    mesh = jax.make_mesh((jax.device_count(),), ("rows",))
    by_rows, everywhere = NamedSharding(mesh, PartitionSpec("rows")), NamedSharding(mesh, PartitionSpec())
    size, rank = jax.process_count(), jax.process_index()
    mine = slice(rank * ROWS // size, (rank + 1) * ROWS // size)
    weights, first = restore()
    weights = jax.device_put(weights, everywhere)
    print(f"training from step {first} of {STEPS} with {size} processes", flush=True)
    for step in range(first + 1, STEPS + 1):
        inputs, wanted = (jax.make_array_from_process_local_data(by_rows, part) for part in batch(step, mine))
        weights, loss = learn(weights, inputs, wanted)
        print(f"step={step}/{STEPS} loss={float(loss):.6f}", flush=True)
        leaving = outlast.agreed(stop.is_set())
        if leaving or step % SAVE_EVERY == 0:
            save(weights, step)
        if leaving:
            return 143
    print(f"training done after {STEPS} steps", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

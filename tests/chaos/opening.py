"""A world for each story, opened outside of pytest, too."""

from random import Random

from temporalio.contrib.pydantic import pydantic_data_converter

from tests.simulation.simulation import LATENCY, Simulation
from tests.workflows.world import World


def opened(course: int = 0) -> World:
    """Open a world in which nothing has happened yet, without a worker.

    Each ``course`` but 0 lets the service hear of effects earlier or later, so that the same events come in another
    order.
    """
    simulation = Simulation(pydantic_data_converter, course)
    if course:
        rng = Random(f"course {course}")
        simulation.latency = lambda: rng.choice([LATENCY, LATENCY, rng.uniform(0.001, 0.1), rng.uniform(0.1, 1.5)])
    return World(simulation)

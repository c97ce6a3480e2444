"""A cluster of 20,000 pods and 5,000 nodes stays within the memory limits of deploy/base, with room for jobs.

A fifth of it here; ``python -m tests.activities.large_cluster`` measures the whole.
"""

import pytest

from tests.activities.large_cluster import NODES, PODS, measured, served

FIFTH = 5


@pytest.mark.parametrize("program", ["worker", "bridge"])
async def test_a_large_cluster_fits(program: str) -> None:
    """The limits are 1 GiB and 512 MiB: of a cluster five times as large, a quarter and a half of them."""
    async with served(FIFTH) as address:
        found = await measured(address, program)
    assert found["peak"] - found["before"] < 50 + 200 / FIFTH, found
    if program == "worker":
        assert (found["hosts"], found["pods"]) == (NODES // FIFTH, PODS // FIFTH)

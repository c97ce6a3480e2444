"""Only one of several bridges acts, by a Lease on a real API server, whatever happens to its holder.

The candidates' clock stands still until a test lets time pass: no holder is late because the machine is busy.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from api.names import BRIDGE_LEASE
from clients import kube
from crd_bridge.election import LEASES, Durations, Election
from crd_bridge.reported import NOTHING, Reported
from tests.bridge.proxy import Proxy, proxied
from tests.bridge.recorder import eventually
from tests.bridge.test_main import write_kubeconfig
from tests.bridge.test_watch import kubeconfig_by

SHORT = Durations(lease=10, renew=6, retry=0.2)
QUIET = 1.0  # seconds in which something that must not happen would have happened


class Clock:
    """The time that has passed for all candidates, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("crd_bridge.election.time", made)
    return made


class Candidate:
    """One bridge: when its work was begun and ended, and whether it may act."""

    def __init__(
        self, client: kube.Kube, namespace: str, name: str, clock: Clock, durations: Durations = SHORT
    ) -> None:
        self._clock = clock
        self.election = Election(client, namespace, name, durations=durations)
        self.begun = self.ended = 0
        self.said: Reported | None = None
        self._task: asyncio.Task[None] | None = None

    async def _work(self) -> None:
        self.begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.ended += 1

    def stand(self) -> None:
        self._task = asyncio.create_task(self.election.lead(self._work, lambda: self.said))

    async def stop(self) -> None:
        """Stop it, as SIGTERM does."""
        assert self._task
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def acts(self) -> None:
        """Wait until it may act."""
        async with asyncio.timeout(150):
            await self.election.permission()

    async def renews(self) -> None:
        """Wait until it has renewed the Lease at this very time."""
        await self._until(lambda: self.election._renewed == self._clock.now, "the holder renews the Lease")

    async def hears(self) -> None:
        """Wait until it has heard of a renewal at this very time."""
        await self._until(lambda: self.election._since == self._clock.now, "it hears of the renewal")

    async def stands_by(self) -> None:
        """Wait until it knows that another one acts."""
        await self._until(lambda: "standing by: nobody" not in "".join(self.election.notes), "it stands by")

    async def misses_the_lease(self) -> None:
        """Wait until it says that it cannot renew or take the Lease."""
        await self._until(lambda: bool(self.election.missing), "it misses the Lease")

    async def misses_nothing(self) -> None:
        """Wait until it says that it can."""
        await self._until(lambda: not self.election.missing, "it reads the Lease")

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        async def true() -> bool:
            return condition()

        await eventually(true, what)


Stands = Callable[..., Awaitable[Candidate]]


@pytest.fixture
async def proxy(control_plane: Any) -> AsyncIterator[Proxy]:
    """Put a proxy before the API server; candidates that stand ``through`` it can be cut off."""
    async with proxied(control_plane.endpoint) as made:
        yield made


@pytest.fixture
async def stands(
    control_plane: Any, namespace: str, proxy: Proxy, tmp_path: Path, clock: Clock
) -> AsyncIterator[Stands]:
    """Let candidates stand, each with a connection of its own."""
    async with contextlib.AsyncExitStack() as stack:

        async def stand(name: str, through: str = "", durations: Durations = SHORT) -> Candidate:
            config = kubeconfig_by(control_plane, through or control_plane.endpoint, tmp_path)
            client = await stack.enter_async_context(await kube.connect(str(config)))
            candidate = Candidate(client, namespace, name, clock, durations)
            candidate.stand()
            stack.push_async_callback(candidate.stop)
            return candidate

        yield stand


class Lease:
    """The Lease as a person sees and writes it."""

    def __init__(self, cluster: kube.Kube, namespace: str) -> None:
        self._cluster = cluster
        self._collection = kube.path(LEASES, "leases", namespace)
        self._path = kube.path(LEASES, "leases", namespace, BRIDGE_LEASE)

    async def spec(self) -> dict[str, Any]:
        return dict((await self._cluster.get(self._path))["spec"])

    async def is_anothers(self, renewed: str, lasts: int) -> None:
        spec = {"holderIdentity": "another", "leaseDurationSeconds": lasts, "renewTime": renewed}
        body = {"apiVersion": LEASES, "kind": "Lease", "metadata": {"name": BRIDGE_LEASE}, "spec": spec}
        await self._cluster.create(self._collection, body)

    async def touch(self) -> None:
        """Let those who stand by look at it again, which they would do once it lapses."""
        await self._cluster.patch(self._path, {"metadata": {"labels": {"touched": secrets.token_hex(4)}}})

    async def delete(self) -> None:
        await self._cluster.delete(self._path)


@pytest.fixture
def lease(cluster: kube.Kube, namespace: str) -> Lease:
    return Lease(cluster, namespace)


async def test_one_acts_and_the_other_one_stands_by(stands: Stands, lease: Lease, namespace: str, clock: Clock) -> None:
    first = await stands("a")
    await first.acts()
    second = await stands("b")
    await second.stands_by()
    for _ in range(4):  # the Lease's duration, twice
        clock.now += SHORT.lease / 2
        await first.renews()
        await second.hears()
    assert (first.begun, first.ended, second.begun) == (1, 0, 0)
    assert first.election.notes == []
    assert second.election.notes == [f"standing by: a holds the Lease {namespace}/outlast-bridge"]
    assert second.election.missing == []
    spec = await lease.spec()
    assert (spec["holderIdentity"], spec["leaseTransitions"], spec["leaseDurationSeconds"]) == ("a", 0, 10)


async def test_one_that_is_stopped_hands_over_at_once(stands: Stands, lease: Lease) -> None:
    """Nobody waits for the next poll."""
    rare = Durations(lease=3600, renew=2400, retry=1200)
    first = await stands("a", durations=rare)
    await first.acts()
    second = await stands("b", durations=rare)
    await second.stands_by()
    await first.stop()
    assert first.ended == 1
    await second.acts()
    assert (await lease.spec())["leaseTransitions"] == 1


async def test_what_one_has_reported_the_next_one_knows(stands: Stands) -> None:
    first = await stands("a")
    await first.acts()
    first.said = Reported({"nodes": 7})

    async def kept() -> bool:
        return first.election.reported == first.said

    await eventually(kept, "a renewal keeps it in the Lease")
    first.said = Reported({"nodes": 9})
    await first.stop()  # and so does the release
    second = await stands("b")
    await second.acts()
    assert second.election.reported == Reported({"nodes": 9})
    await asyncio.sleep(2 * SHORT.retry)
    assert second.election.reported == Reported({"nodes": 9}), "until it says something itself"


async def test_the_first_one_knows_of_no_other(stands: Stands) -> None:
    first = await stands("a")
    await first.acts()
    assert first.election.reported == NOTHING


async def test_one_that_is_cut_off_stops_before_the_other_one_begins(
    stands: Stands, proxy: Proxy, lease: Lease, clock: Clock
) -> None:
    first = await stands("a", through=proxy.address)
    await first.acts()
    second = await stands("b")
    await second.stands_by()
    proxy.stall()  # like the network of a failed node: no byte comes or goes
    clock.now += SHORT.renew - 0.1
    assert first.election.acts
    clock.now += 0.2
    assert not first.election.acts
    clock.now += SHORT.lease - SHORT.renew - 0.2
    await lease.touch()
    await asyncio.sleep(QUIET)
    assert not second.election.acts

    async def acts() -> bool:
        clock.now += 1  # more than once, if a renewal was under way when the network failed
        await lease.touch()
        return second.election.acts

    await eventually(acts, "the other one acts")
    assert not first.election.acts
    assert (first.begun, first.ended) == (1, 0)  # it does not know yet, and waits
    proxy.flow()

    async def ended() -> bool:
        return first.ended == 1

    await eventually(ended, "the first one stands by")
    assert first.election.notes
    assert (first.begun, second.begun, second.ended) == (1, 1, 0)


async def test_an_api_server_that_is_away_costs_nobody_the_term(
    stands: Stands, proxy: Proxy, lease: Lease, clock: Clock
) -> None:
    candidates = [await stands(name, through=proxy.address) for name in "ab"]

    def begun() -> list[int]:
        return [each.begun for each in candidates]

    async def elected() -> bool:
        return sum(begun()) == 1

    await eventually(elected, "one is elected")
    before = begun()
    await proxy.close()
    await asyncio.gather(*(each.misses_the_lease() for each in candidates))
    clock.now += SHORT.lease
    assert not any(each.election.acts for each in candidates)
    await proxy.open()

    async def acts() -> bool:
        return any(each.election.acts for each in candidates)

    await eventually(acts, "one acts again")
    await asyncio.gather(*(each.misses_nothing() for each in candidates))
    # Both were without it for as long, so either may get it now. Whoever had it continues with all it knows, or has
    # ended.
    if (await lease.spec())["leaseTransitions"] == 0:
        assert begun() == before
        assert not any(each.ended for each in candidates)
    assert sum(begun()) - sum(each.ended for each in candidates) == 1


async def test_one_alone_goes_on_after_the_api_server_was_away(stands: Stands, proxy: Proxy, clock: Clock) -> None:
    alone = await stands("a", through=proxy.address)
    await alone.acts()
    await proxy.close()
    await alone.misses_the_lease()
    clock.now += SHORT.lease
    assert not alone.election.acts
    await proxy.open()
    await alone.acts()
    assert (alone.begun, alone.ended) == (1, 0)


@pytest.mark.parametrize("renewed", ["2001-01-01T00:00:00.000000Z", "2101-01-01T00:00:00.000000Z"])
async def test_no_clock_is_compared_with_another_ones(stands: Stands, lease: Lease, renewed: str, clock: Clock) -> None:
    """The holder's clock is decades off; what counts is that nothing was heard of it since we look."""
    await lease.is_anothers(renewed, lasts=20)
    candidate = await stands("a")
    await candidate.hears()
    clock.now += 19.9
    await lease.touch()
    await asyncio.sleep(QUIET)
    assert not candidate.election.acts
    clock.now += 0.2
    await lease.touch()
    await candidate.acts()


async def test_a_process_that_is_started_again_under_its_name_goes_on_at_once(stands: Stands, lease: Lease) -> None:
    await lease.is_anothers("2020-01-01T00:00:00.000000Z", lasts=600)
    candidate = await stands("another")
    await candidate.acts()


async def test_a_lease_that_somebody_deletes_is_made_again(stands: Stands, lease: Lease) -> None:
    candidate = await stands("a")
    await candidate.acts()
    await lease.delete()
    assert (await eventually(lease.spec, "it is there again"))["holderIdentity"] == "a"
    assert candidate.begun - candidate.ended == 1


async def test_of_many_at_once_one_is_elected(stands: Stands, clock: Clock) -> None:
    candidates = [await stands(name) for name in "abcdef"]
    await asyncio.gather(*(each.stands_by() for each in candidates))
    (first,) = (each for each in candidates if each.election.acts)
    for _ in range(4):
        clock.now += SHORT.lease / 2
        await first.renews()
        await asyncio.gather(*(each.hears() for each in candidates if each is not first))
    assert sum(each.election.acts for each in candidates) == 1
    assert sum(each.begun for each in candidates) == 1


async def test_a_missing_right_is_named(
    control_plane: Any, installed: None, namespace: str, stands: Stands, tmp_path: Path, clock: Clock
) -> None:
    """The agent may use no Lease, and a namespace that does not exist has none."""
    token = await control_plane.kubectl("create", "token", "outlast-agent", "-n", "outlast-system")
    config = write_kubeconfig(tmp_path, control_plane.url, control_plane.ca_file, token.strip())
    async with await kube.connect(str(config)) as client:
        candidate = Candidate(client, namespace, "a", clock)
        candidate.stand()

        async def told() -> list[str]:
            return candidate.election.missing

        (said,) = await eventually(told, "it says what is missing")
        await candidate.stop()
    assert said.startswith(f"the Lease {namespace}/outlast-bridge: Kubernetes API: leases.coordination.k8s.io")
    assert said.endswith("deploy/base/bridge-rbac.yaml gives the right")
    assert candidate.begun == 0


async def test_work_that_fails_ends_the_candidate(cluster: kube.Kube, namespace: str, lease: Lease) -> None:
    """A bug of the bridge is not waited out in silence, and the other one may have the Lease."""

    async def fails() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(ExceptionGroup) as raised:
        await Election(cluster, namespace, "a", durations=SHORT).lead(fails)
    assert "a bug" in str(raised.value.exceptions[0])
    assert "holderIdentity" not in json.dumps(await lease.spec())

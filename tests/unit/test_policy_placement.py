"""Which candidate is tried next, as a table over what the market remembers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api import errors
from api.common import SecretReference
from api.market import Candidate, Choice, Choose, HazardQuestion, MarketNews
from api.spot_instance_vm import Gpu
from workflows.market import memory as market
from workflows.market.cooldowns import EVERY_VM_NEEDS
from workflows.market.exposure import Exposure, Observations
from workflows.market.placement import choose, kind_of, quote_key
from workflows.market.state import MarketState, Quote
from workflows.policy.loss_rate import PRIOR_HOURS, PRIOR_PER_HOUR

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIRST_REST = 180.0
TEAM = "team"
A = Candidate(zone="us-central1-a", machine_type="n1-standard-4")
B = Candidate(zone="us-central1-b", machine_type="n1-standard-4")
EAST = Candidate(zone="us-east1-b", machine_type="n1-standard-4")
BIG = Candidate(zone="us-central1-a", machine_type="n1-standard-8")
A_ON_DEMAND = A.model_copy(update={"provisioning": "OnDemand"})


def ask(*candidates: Candidate, state: MarketState | None = None, now: datetime = NOW, **fields: Any) -> Choice:
    question = {"asker": "vm", "replica": 0, "namespace": TEAM, **fields}
    return choose(Choose(candidates=list(candidates), **question), state or MarketState(), now)


def news(kind: str, candidate: Candidate = A, *, vm: str = "vm", at: datetime = NOW, **fields: Any) -> MarketNews:
    told = {"identity": "the worker's own identity", "namespace": TEAM, **fields}
    return MarketNews(vm=vm, kind=kind, candidate=candidate, at=at, **told)


def after(*heard: MarketNews) -> MarketState:
    state = MarketState()
    for each in heard:
        market.learn(state, each, FIRST_REST)
    return state


def seen(*, hours: float, losses: float) -> Observations:
    """Count machines of A's kind in their first hour."""
    return Observations(cells={kind_of(A): [Exposure(hours=hours, losses=losses), *[Exposure()] * 3]})


def priced(**prices: float) -> MarketState:
    by_name = {"A": A, "EAST": EAST, "BIG": BIG}
    quotes = {quote_key(by_name[name]): Quote(usd_per_hour=usd, read_at=NOW) for name, usd in prices.items()}
    return MarketState(quotes=quotes)


# --- order


def test_without_prices_the_order_of_the_spec_decides_between_machine_types() -> None:
    assert ask(A, BIG).candidate == A
    assert ask(BIG, A).candidate == BIG


def test_the_cheapest_comes_first() -> None:
    assert ask(A, BIG, EAST, state=priced(A=0.2, BIG=0.3, EAST=0.15)).candidate == EAST


def test_one_unknown_price_makes_prices_incomparable() -> None:
    assert ask(A, BIG, EAST, state=priced(BIG=0.3, EAST=0.15)).candidate == A


def test_losses_make_an_hour_dearer_than_its_price() -> None:
    state = priced(A=0.20, EAST=0.22)
    state.observations = seen(hours=24, losses=30)
    choice = ask(A, EAST, state=state)
    assert choice.candidate == EAST
    assert "0.004 losses/h" in choice.reason


def test_losses_decide_between_zones_of_equal_price() -> None:
    state = MarketState(observations=seen(hours=24, losses=3))
    assert ask(A, B, state=state).candidate == B


def test_siblings_that_are_bought_at_once_begin_in_different_zones() -> None:
    assert [ask(A, B, replica=index).candidate for index in range(3)] == [A, B, A]


def test_the_zone_of_a_sibling_is_left_for_one_that_costs_little_more() -> None:
    assert ask(A, EAST, state=priced(A=0.20, EAST=0.21), avoid_zones=["us-central1-a"]).candidate == EAST
    assert ask(A, EAST, state=priced(A=0.20, EAST=0.30), avoid_zones=["us-central1-a"]).candidate == A


# --- cooldowns


def test_a_stockout_rests_its_candidate_alone() -> None:
    state = after(news(errors.NO_CAPACITY))
    choice = ask(A, B, state=state)
    assert choice.candidate == B
    assert f"not {A.key}: NoCapacity since 12:00, in cooldown until 12:03:00 UTC" in choice.reason


@pytest.mark.parametrize(("failures", "minutes"), [(1, 3), (2, 6), (3, 12), (4, 24), (5, 30), (9, 30)])
def test_a_rest_doubles_up_to_half_an_hour(failures: int, minutes: int) -> None:
    state = after(*(news(errors.NO_CAPACITY) for _ in range(failures)))
    assert ask(A, state=state).until == NOW + timedelta(minutes=minutes)


def test_a_stockout_is_forgotten_after_three_hours() -> None:
    later = NOW + timedelta(hours=3, minutes=1)
    state = after(news(errors.NO_CAPACITY), news(errors.NO_CAPACITY), news(errors.NO_CAPACITY, at=later))
    assert ask(A, state=state, now=later).until == later + timedelta(minutes=3)


def test_a_quota_rests_its_region_and_spares_the_other() -> None:
    state = after(news(errors.QUOTA, scope="PREEMPTIBLE_NVIDIA_T4_GPUS"))
    assert ask(A, B, EAST, state=state).candidate == EAST


def test_a_spot_quota_spares_on_demand() -> None:
    state = after(news(errors.QUOTA, scope="PREEMPTIBLE_NVIDIA_T4_GPUS"))
    assert ask(A, A_ON_DEMAND, state=state).candidate == A_ON_DEMAND


def test_the_quota_of_all_regions_rests_everything() -> None:
    state = after(news(errors.QUOTA, scope="GPUS_ALL_REGIONS"))
    assert ask(A, EAST, A_ON_DEMAND, state=state).candidate is None


def test_a_missing_permission_stops_all_that_these_credentials_ask_for() -> None:
    state = after(news(errors.PERMISSION, message="Required 'compute.instances.create' permission"))
    choice = ask(A, B, EAST, state=state)
    assert (choice.candidate, choice.blocked_by) == (None, errors.PERMISSION)
    assert "compute.instances.create" in choice.reason
    other = SecretReference(name="other")
    assert ask(A, B, EAST, state=state, credentials=other).candidate == A


def with_gpus(kind: str = "nvidia-tesla-t4", count: int = 1, machine_type: str = "n1-standard-4") -> Candidate:
    return A.model_copy(update={"gpu": Gpu(type=kind, count=count), "machine_type": machine_type})


@pytest.mark.parametrize(
    ("metric", "rests"),
    [
        ("NVIDIA_T4_GPUS", {"T4", "T4 on a larger machine"}),
        ("PREEMPTIBLE-NVIDIA-T4-GPUS-per-project-region", {"T4", "T4 on a larger machine"}),
        ("CPUS", {"T4", "two T4", "CPUs"}),
        ("N1-CPUS-per-project-region", {"T4", "two T4", "CPUs"}),
        ("GPUS_ALL_REGIONS", {"T4", "T4 on a larger machine", "L4", "T4 elsewhere"}),
        ("GPUS-ALL-REGIONS-per-project", {"T4", "T4 on a larger machine", "L4", "T4 elsewhere"}),
        ("CPUS_ALL_REGIONS", {"T4", "two T4", "CPUs", "T4 elsewhere"}),
        ("IN_USE_ADDRESSES", set()),
        ("SSD_TOTAL_GB", set()),
        ("", set()),
    ],
)
def test_a_quota_rests_what_needs_as_much_of_it(metric: str, rests: set[str]) -> None:
    state = after(news(errors.QUOTA, with_gpus(), scope=metric))
    others = {
        "T4": with_gpus(),
        "two T4": with_gpus(count=2),
        "T4 on a larger machine": with_gpus(machine_type="n1-standard-8"),
        "L4": with_gpus("nvidia-l4", machine_type="g2-standard-4"),
        "T4 elsewhere": with_gpus().model_copy(update={"zone": "us-east1-b"}),
        "CPUs": A,
    }
    resting = {name for name, one in others.items() if ask(one, asker="other", state=state).candidate is None}
    assert resting == rests


@pytest.mark.parametrize("permission", ["", *sorted(EVERY_VM_NEEDS)])
def test_a_permission_that_every_vm_needs_rests_all_of_a_key(permission: str) -> None:
    state = after(news(errors.PERMISSION, scope=permission))
    assert ask(A, EAST, asker="other", state=state).blocked_by == errors.PERMISSION
    assert ask(A, asker="other", state=state, credentials=SecretReference(name="other")).candidate == A


OWN = [
    (errors.INVALID, ""),
    (errors.MISSING, ""),
    (errors.UNSUPPORTED, ""),
    (errors.PERMISSION, "iam.serviceAccounts.actAs"),
    (errors.QUOTA, "SSD_TOTAL_GB"),
    ("CreateTimeout", ""),
    ("Transient", ""),
]


@pytest.mark.parametrize(("kind", "scope"), OWN)
def test_what_may_be_the_specs_own_mistake_rests_one_candidate_of_one_vm(kind: str, scope: str) -> None:
    state = after(news(kind, scope=scope, message="no subnetwork secret-net"))
    assert ask(A, asker="other", state=state).candidate == A
    assert ask(A, B, state=state).candidate == B
    choice = ask(A, state=state)
    assert (choice.candidate, choice.blocked_by) == (None, kind)
    assert choice.reason.startswith("no subnetwork secret-net; since")


@pytest.mark.parametrize(("kind", "scope"), OWN)
def test_who_fails_by_a_mistake_of_its_own_gives_the_turn_after_a_rest_back(kind: str, scope: str) -> None:
    state, later = after(news(errors.NO_CAPACITY)), NOW + timedelta(minutes=4)
    request = Choose(asker="vm", replica=0, candidates=[A], namespace=TEAM)
    market.grant_turn(state, request, choose(request, state, later), later, create_seconds=300)
    market.learn(state, news(kind, scope=scope, at=later), FIRST_REST)
    assert ask(A, asker="other", state=state, now=later).candidate == A


SHARED = [
    (errors.NO_CAPACITY, "", f"{A.key} is out of stock"),
    (errors.QUOTA, "CPUS", "the quota CPUS is used up in us-central1: ask Google for more (IAM & Admin, Quotas) or"),
    (errors.QUOTA, "CPUS-ALL-REGIONS-per-project", "the quota CPUS-ALL-REGIONS-per-project is used up in all regions:"),
    (errors.PERMISSION, "compute.disks.create", "the worker's own identity lacks the permission compute.disks.create:"),
    (errors.PERMISSION, "", "Google refuses the worker's own identity: check that its key is valid, that the project"),
]


@pytest.mark.parametrize(("kind", "scope", "told"), SHARED)
def test_only_the_namespace_that_was_told_reads_the_clouds_own_words(kind: str, scope: str, told: str) -> None:
    state = after(news(kind, scope=scope, message="no room for secret-vm"))
    assert ask(A, asker="sibling", state=state).reason.startswith("no room for secret-vm; since")
    assert ask(A, asker="other", namespace="others", state=state).reason.startswith(told)


def test_rests_that_an_earlier_version_remembered_are_read_and_hold_nobody_up() -> None:
    rest = {"reason": errors.INVALID, "message": "no subnetwork secret-net", "since": NOW, "last": NOW}
    rest |= {"until": NOW + timedelta(minutes=30)}
    keys = ["by the worker's own identity", "quota", "quota of us-central1 (Spot)"]
    state = MarketState.model_validate({"rests": dict.fromkeys(keys, rest)})
    assert ask(A, state=state).candidate == A


def test_a_shortage_that_an_earlier_version_remembered_is_told_without_its_words() -> None:
    rest = {"reason": errors.NO_CAPACITY, "message": "no room for secret-vm", "since": NOW, "last": NOW}
    state = MarketState.model_validate({"rests": {A.key: rest | {"until": NOW + timedelta(minutes=30)}}})
    assert ask(A, state=state).reason.startswith(f"{A.key} is out of stock; since")


def test_what_a_vm_has_against_it_alone_is_forgotten_when_it_is_bought() -> None:
    assert after(news(errors.INVALID, B), news(errors.MISSING), news(market.BOUGHT)).own == {}


def test_mistakes_of_one_spec_do_not_push_what_all_need_to_know_out_of_the_memory() -> None:
    zones = [Candidate(zone=f"z{n}-a", machine_type="m") for n in range(600)]
    state = after(news(errors.NO_CAPACITY), *(news(errors.INVALID, zone) for zone in zones))
    market.forget(state, NOW + timedelta(minutes=1))
    assert A.key in state.rests
    assert len(state.own) == market.KEPT


def test_an_unsupported_configuration_rests_for_an_hour() -> None:
    assert ask(A, state=after(news(errors.UNSUPPORTED))).until == NOW + timedelta(hours=1)


def test_where_all_rest_it_says_why_since_when_and_what_is_next() -> None:
    state = after(
        news(errors.NO_CAPACITY, message="none left"), news(errors.NO_CAPACITY, B), news(errors.NO_CAPACITY, B)
    )
    choice = ask(A, B, state=state)
    assert choice.candidate is None
    assert choice.until == NOW + timedelta(minutes=3)
    expected = f"none left; since 2026-01-01 12:00 UTC (2 candidates in cooldown); next: {A.key} at 12:03:00 UTC"
    assert choice.reason == expected


def test_after_a_rest_one_tries_and_the_others_wait_for_what_becomes_of_it() -> None:
    state, later = after(news(errors.NO_CAPACITY)), NOW + timedelta(minutes=4)
    request = Choose(asker="first", replica=0, candidates=[A], namespace="team")
    market.grant_turn(state, request, choose(request, state, later), later, create_seconds=300)
    assert ask(A, asker="first", state=state, now=later).candidate == A
    second = ask(A, asker="second", state=state, now=later)
    assert (second.candidate, second.until) == (None, later + timedelta(seconds=20))
    market.learn(state, news(market.BOUGHT, vm="first", at=later), FIRST_REST)
    assert ask(A, asker="second", state=state, now=later).candidate == A


# --- memory


def test_the_hours_of_a_machine_and_its_loss_are_remembered() -> None:
    end = NOW + timedelta(hours=6)
    state = after(news(market.BOUGHT, name="m"), news(market.ENDED, lost=True, at=end))
    assert state.observations.of_kind(kind_of(A)) == Exposure(hours=6, losses=1)
    assert [cell.losses for cell in state.observations.cells[kind_of(A)]] == [0, 0, 1, 0]  # at the age of 6 hours
    assert state.bought == {}


def test_losses_of_one_moment_count_once() -> None:
    vms = [f"vm{index}" for index in range(16)]
    bought = [news(market.BOUGHT, vm=vm) for vm in vms]
    end = NOW + timedelta(hours=1)
    gone = [news(market.ENDED, vm=vm, lost=True, at=end + timedelta(seconds=index)) for index, vm in enumerate(vms)]
    assert after(*bought, *gone).observations.of_kind(kind_of(A)).losses == 1


def test_what_its_owner_let_go_of_is_no_loss() -> None:
    state = after(news(market.BOUGHT), news(market.ENDED, at=NOW + timedelta(hours=2)))
    assert state.observations.of_kind(kind_of(A)) == Exposure(hours=2, losses=0)


def test_hazard_of_running_machines_counts_the_hours_that_they_have_run_for() -> None:
    state = after(news(market.BOUGHT, vm="vm1"), news(market.BOUGHT, A_ON_DEMAND, vm="dear"))
    now = NOW + timedelta(minutes=30)
    expected = PRIOR_PER_HOUR * PRIOR_HOURS / (PRIOR_HOURS + 0.5)
    assert market.loss_rate_of(state, HazardQuestion(vms=["vm1"], at=now)).losses_per_hour == pytest.approx(expected)
    assert market.loss_rate_of(state, HazardQuestion(vms=["dear"], at=now)).losses_per_hour == pytest.approx(expected)
    assert state.observations == Observations()


def test_hazard_is_the_mean_of_the_machines_that_were_asked_for() -> None:
    state = after(news(market.BOUGHT, vm="vm1"), news(market.BOUGHT, B, vm="vm2"))
    state.observations = seen(hours=24, losses=3)
    state.observations.ran(kind_of(B), 0, 100)
    each = [market.loss_rate_of(state, HazardQuestion(vms=[vm], at=NOW)).losses_per_hour or 0 for vm in ("vm1", "vm2")]
    assert each[0] > each[1]
    both = market.loss_rate_of(state, HazardQuestion(vms=["vm1", "vm2", "unknown"], at=NOW))
    assert both.losses_per_hour == pytest.approx(sum(each) / 2)


def test_an_end_without_a_beginning_says_nothing() -> None:
    assert after(news(market.ENDED, lost=True)) == MarketState()


def test_what_nobody_needs_is_dropped() -> None:
    state = after(*(news(errors.NO_CAPACITY, Candidate(zone=f"z{n}-a", machine_type="m")) for n in range(600)))
    market.forget(state, NOW + timedelta(minutes=5))
    assert len(state.rests) == market.KEPT
    market.forget(state, NOW + timedelta(hours=4))
    assert state.rests == {}

"""Every policy function gives an answer to whatever its types allow.

An exception in a policy fails the workflow's task: the job, the VM or the whole market is stuck until a new release. So
each public function of ``workflows.policy`` is called with random values: counters up to a million, moments years
apart, empty collections, huge numbers. A function that is added later is called, too.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, get_type_hints

import pytest

import workflows.policy
from tests.unit.generated import Chance
from workflows.policy.backoff import back_off
from workflows.policy.bounds import LONGEST

CALLS = 150  # of each function
LARGE_CALLS, LARGE = 3, 30  # entries of each collection, at each of three or four depths


def functions() -> Iterator[Any]:
    for module in pkgutil.iter_modules(workflows.policy.__path__, "workflows.policy."):
        members = inspect.getmembers(importlib.import_module(module.name), inspect.isfunction)
        for name, function in members:
            if function.__module__ == module.name and not name.startswith("_"):
                yield pytest.param(function, id=f"{module.name.rpartition('.')[2]}.{name}")


@pytest.mark.parametrize("function", list(functions()))
def test_it_answers_whatever_it_is_asked(function: Callable[..., Any]) -> None:
    hints = get_type_hints(function, include_extras=True)
    for seed in range(CALLS):
        chance = Chance(seed)
        arguments = {name: chance.of(hints[name]) for name in inspect.signature(function).parameters}
        function(**arguments)


@pytest.mark.parametrize("function", list(functions()))
def test_it_answers_at_large(function: Callable[..., Any]) -> None:
    """The state is like that of a job that has lived for a year, if nothing had bounded it."""
    hints = get_type_hints(function, include_extras=True)
    for seed in range(LARGE_CALLS):
        chance = Chance(seed, most=LARGE)
        arguments = {name: chance.of(hints[name]) for name in inspect.signature(function).parameters}
        function(**arguments)


def test_no_wait_is_shorter_than_the_one_before() -> None:
    random = Random(1)
    for _ in range(2_000):
        first, factor, ceiling = random.uniform(0, 1e6), random.uniform(1, 1e3), random.uniform(1, 1e9)
        failures = random.choice([random.randrange(50), random.randrange(1_000_000)])
        waits = [back_off(number, first, factor, ceiling).total_seconds() for number in (failures, failures + 1)]
        assert 0 <= waits[0] <= waits[1] <= LONGEST

"""Activities are checked against ``activities.signatures``: workflows know the page, the worker runs the code."""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import activities
from activities.signatures import ALL, WATCH_PREEMPTED, Signature


def implementations() -> Iterator[tuple[str, Callable[..., Any]]]:
    """List (activity name, function) of every class of every module under ``activities``."""
    seen = set()
    for module in pkgutil.walk_packages(activities.__path__, "activities."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if kind in seen or not kind.__module__.startswith("activities."):
                continue
            seen.add(kind)
            for function in vars(kind).values():
                definition = getattr(function, "__temporal_activity_definition", None)
                if definition is not None:
                    yield definition.name, function


FOUND = list(implementations())


@pytest.mark.parametrize("signature", ALL, ids=lambda signature: signature.name)
def test_each_signature_has_one_implementation_with_its_types(signature: Signature[Any, Any]) -> None:
    functions = [function for name, function in FOUND if name == signature.name]
    assert len(functions) == 1, f"{signature.name}: {functions or 'nobody implements it'}"
    hints = typing.get_type_hints(functions[0])
    gives = hints.pop("return")
    assert (list(hints.values()), gives) == ([signature.takes], signature.gives)


def test_no_activity_is_without_signature() -> None:
    assert {name for name, _ in FOUND} <= {signature.name for signature in ALL}


def test_names_are_unique() -> None:
    assert len({signature.name for signature in ALL}) == len(ALL)


@pytest.mark.parametrize("signature", ALL, ids=lambda signature: signature.name)
def test_no_activity_that_is_waited_for_lasts_over_a_minute(signature: Signature[Any, Any]) -> None:
    assert signature.timeout <= 60 or signature is WATCH_PREEMPTED

"""Random values of the product's own types: as wide as the types allow, with edges more often than not.

A library for property tests was tried: building values of a whole ``JobState`` took it six minutes, this takes seconds.
"""

import types
from datetime import UTC, datetime, timedelta
from math import inf, nan
from random import Random
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import OnDemandFallback, SpotInstanceVMSpec
from tests.workflows.documents import VM_SPEC, job_spec

NUMBERS = (0, 1, 2, 3, 100, 1_024, 1_025, 1_000_000)
AMOUNTS = (0.0, 0.5, 1.0, 30.0, 1800.0, 86_400.0, 1e9, 1e300, -1.0, inf, -inf, nan, 10**30)
TEXTS = ("", "a", "us-central1-a", "default/a", "x" * 300, "ü\n%")
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
YEARS = 40 * 365 * 86_400
MOST = 3  # entries of a collection

GRACES: tuple[Any, ...] = (None, 0, 30, 10**400, -1, "30", 1.5, [], True)
POLICIES: tuple[Any, ...] = (None, [], {"rules": None}, {"rules": [1, {}, {"action": "Ignore", "onExitCodes": []}]})


class Chance:
    """One source of values: the same seed gives the same values. Collections have up to ``most`` entries."""

    def __init__(self, seed: int, most: int = MOST) -> None:
        self._random, self._most = Random(seed), most

    def of(self, hint: Any) -> Any:
        """Make a value of a type: a model by its fields, a collection of some values."""
        if hint is Any or hint == dict[str, Any]:
            return self._job_template()
        if get_origin(hint) is Annotated:
            kind, *metadata = get_args(hint)
            return self._within(kind, metadata)
        if get_origin(hint) in {Union, types.UnionType}:
            return self.of(self._random.choice(get_args(hint)))
        if get_origin(hint) is Literal:
            return self._random.choice(get_args(hint))
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            return self._document(hint) or self._model(hint)
        return self._collection(hint) if get_args(hint) else self._plain(hint)

    def _plain(self, hint: Any) -> Any:
        match hint:
            case _ if hint is bool:
                return self._random.random() < 0.5
            case _ if hint is int:
                return self._random.choice(NUMBERS)
            case _ if hint is float:
                return self._random.choice(AMOUNTS)
            case _ if hint is str:
                return self._random.choice(TEXTS)
            case _ if hint is datetime:
                return BEGIN + timedelta(seconds=self._random.randrange(YEARS))
            case _ if hint is timedelta:
                return timedelta(seconds=self._random.randrange(YEARS))
        return None

    def _collection(self, hint: Any) -> Any:
        kinds, times = get_args(hint), range(self._random.randrange(self._most + 1))
        if get_origin(hint) is tuple:
            return tuple(self.of(kind) for kind in kinds)
        if len(kinds) == 2:
            return {self.of(kinds[0]): self.of(kinds[1]) for _ in times}
        return [self.of(kinds[0]) for _ in times]

    def _model(self, kind: type[BaseModel]) -> BaseModel:
        fields = {
            name: self._within(field.annotation, field.metadata)
            for name, field in kind.model_fields.items()
            if field.is_required() or self._random.random() < 0.5
        }
        return kind(**fields)

    def _document(self, kind: type[BaseModel]) -> BaseModel | None:
        """Make what the API server has checked: only its template may be anything."""
        if kind is SpotInstanceVMSpec:
            return VM_SPEC
        if kind is OnDemandFallback:
            after = self._random.choice(["0.5s", "30m", "2400000h"])
            return OnDemandFallback(after=after, max_replicas=1, price_per_hour=self._random.choice([None, "0.35"]))
        if kind is SpotInstanceJobSpec:
            mode = self._random.choice(["Image", "Application"])
            spec = job_spec()
            config = spec.checkpoint_config.model_copy(update={"mode": mode})
            return spec.model_copy(update={"job_template": self._job_template(), "checkpoint_config": config})
        return None

    def _within(self, kind: Any, metadata: list[Any]) -> Any:
        bounds = {name: value for each in metadata for name, value in _bounds(each)}
        value = self.of(kind)
        if isinstance(value, int) and bounds:
            return min(max(value, bounds.get("ge", 0)), bounds.get("le", value))
        if isinstance(value, str | list) and bounds:
            return value[: bounds.get("max_length")] or (
                "a" if isinstance(value, str) and "min_length" in bounds else value
            )
        return value

    def _job_template(self) -> dict[str, Any]:
        """Make a jobTemplate. The pod in it is the user's: nobody but the API server types it."""
        pod = {"terminationGracePeriodSeconds": self._random.choice(GRACES), "volumes": self._random.choice([None, []])}
        pod["activeDeadlineSeconds"] = self._random.choice(GRACES)
        job = {"activeDeadlineSeconds": self._random.choice(GRACES), "podFailurePolicy": self._random.choice(POLICIES)}
        return {"spec": {"template": {"spec": pod}, **job}}


def _bounds(constraint: Any) -> list[tuple[str, Any]]:
    """Read the constraints of a field by name, whichever classes pydantic keeps them in."""
    names = ("ge", "le", "min_length", "max_length")
    return [(name, value) for name in names if (value := getattr(constraint, name, None)) is not None]

"""Whether a version is made current unasked, and how a worker reports that its own is not."""

import asyncio
import logging
from typing import Any

import aiohttp
import pytest
from temporalio.common import MetricMeter, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from programs.health import Health, served
from sandbox.claims import free_port
from worker.currency import Currency
from worker.versions import Standing, is_older

NEW = WorkerDeploymentVersion("outlast", "0.2.0")


def stands(current: str, *, tried: bool = False) -> Standing:
    return Standing(NEW, current=current, known=True, tried=tried)


@pytest.mark.parametrize(
    ("build", "than", "older"),
    [
        ("0.1.0", "0.2.0", True),
        ("0.2.0", "0.2.0", False),
        ("0.10.0", "0.9.0", False),
        ("0.2", "0.2.1", True),
        ("0.1.0", "", False),
        ("0.2.0rc1", "0.2.0", False),
        ("3fe9a1c", "0.2.0", False),
    ],
)
def test_only_plain_numbers_have_an_order(build: str, than: str, older: bool) -> None:
    assert is_older(build, than) is older


def test_a_new_version_is_made_current() -> None:
    assert stands("").objection() == ""
    assert stands("0.1.0").objection() == ""
    assert stands("3fe9a1c").objection() == ""


def test_an_older_release_that_is_applied_again_changes_nothing() -> None:
    assert stands("0.3.0", tried=True).objection() == "it was current before, and has been replaced"
    assert stands("0.3.0").objection() == "it is older than 0.3.0"


def test_what_a_person_went_back_from_does_not_come_again_by_itself() -> None:
    assert stands("0.1.0", tried=True).objection() == "it was current before, and has been replaced"
    assert stands("", tried=True).objection() != "", "back to workers without a version"


class Meter(MetricMeter):
    """Has one gauge, and remembers what it was set to."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def create_gauge(self, name: str, *_: Any) -> Any:
        assert name == "outlast_worker_version_current"
        return self

    def set(self, value: float, attributes: dict[str, str]) -> None:
        assert attributes == {"version": "0.2.0"}
        self.values.append(value)

    create_counter = create_histogram = create_histogram_float = create_histogram_timedelta = create_gauge
    create_gauge_float = with_additional_attributes = create_gauge


class Temporal:
    """Answers one thing after the other, and the last one for ever."""

    def __init__(self, *answers: Standing | RPCError) -> None:
        self._answers = list(answers)
        self.all_told = asyncio.Event()

    async def look(self) -> Standing:
        if len(self._answers) == 1:
            self.all_told.set()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, RPCError):
            raise answer
        return answer


async def seen(temporal: Temporal) -> tuple[Currency, list[float]]:
    """Wait until everything was reported and judged."""
    meter = Meter()
    currency = Currency(NEW, temporal.look, meter, every=0.001)
    async with currency.kept():
        await asyncio.wait_for(temporal.all_told.wait(), 90)
        await asyncio.sleep(0.05)
    return currency, meter.values


async def test_a_worker_that_is_not_current_says_so_once_and_again_when_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "worker.currency"):
        currency, values = await seen(Temporal(stands("0.1.0"), stands("0.1.0"), stands("0.2.0"), stands("0.2.0")))
    assert [message.partition(".  ")[0][:60] for message in caplog.messages] == [
        "version 0.2.0 is not current: new work goes to 0.1.0. The Jo", "version 0.2.0 is current",
    ]  # fmt: skip
    assert "set-current-version --deployment-name outlast --build-id 0.2.0" in caplog.messages[0]
    assert values[:3] == [0, 0, 1]
    assert currency.notes == []


async def test_without_any_current_version_new_work_waits() -> None:
    currency, _ = await seen(Temporal(stands("")))
    assert currency.notes == ["version 0.2.0 is not current, nor any other: new work waits"]


async def test_silence_changes_nothing() -> None:
    away = RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
    currency, values = await seen(Temporal(stands("0.1.0"), away))
    assert currency.notes == ["version 0.2.0 is not current: new work goes to 0.1.0"]
    assert values == [0]


async def test_readiness_says_it_and_stays() -> None:
    health = Health(missing=list, notes=lambda: ["version 0.2.0 is not current"])
    address = f"127.0.0.1:{free_port()}"
    async with served(address, health), aiohttp.ClientSession() as http:
        async with http.get(f"http://{address}/readyz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\nversion 0.2.0 is not current\n")
        async with http.get(f"http://{address}/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")

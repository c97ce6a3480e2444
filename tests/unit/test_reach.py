"""Whoever does not answer is reported, by name and since when; and once more when it answers again."""

import asyncio
import re
from typing import Any

from temporalio.common import MetricMeter

from programs.reach import Reach


class Side:
    """A side that answers, or does not."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.hangs = False
        self.looked = asyncio.Event()

    async def look(self) -> None:
        self.looked.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure:
            raise self.failure

    async def looked_at(self, times: int = 2) -> None:
        """Wait until all polls but the last have been judged."""
        for _ in range(times):
            self.looked.clear()
            await asyncio.wait_for(self.looked.wait(), 90)


class Gauge:
    """Remembers the last value of each side."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}

    def set(self, value: float, attributes: dict[str, str]) -> None:
        self.last[attributes["side"]] = value


class Meter(MetricMeter):
    """Has one gauge."""

    def __init__(self) -> None:
        self.gauge = Gauge()

    def create_gauge(self, name: str, *_: Any) -> Any:
        assert name == "outlast_unreachable_seconds"
        return self.gauge

    create_counter = create_histogram = create_histogram_float = create_histogram_timedelta = create_gauge
    create_gauge_float = with_additional_attributes = create_gauge


async def test_nobody_is_missed_before_and_while_all_answer() -> None:
    side, meter = Side(), Meter()
    reach = Reach({"Temporal": side.look}, meter, every=0.001)
    assert reach.missing == []
    async with reach.kept():
        await side.looked_at()
        assert reach.missing == []
        assert meter.gauge.last == {"Temporal": 0}


async def test_who_fails_is_named_with_his_words_and_the_other_is_not() -> None:
    down, well = Side(), Side()
    down.failure = ConnectionRefusedError("nobody listens")
    reach = Reach({"Temporal": down.look, "Kubernetes": well.look}, every=0.001)
    async with reach.kept():
        await down.looked_at()
        (said,) = reach.missing
    assert re.match(r"Temporal has not answered for \d+ s: nobody listens", said)


async def test_who_hangs_is_as_good_as_one_who_fails() -> None:
    side = Side()
    side.hangs = True
    reach = Reach({"Kubernetes": side.look}, every=0.001, deadline=0.001)
    async with reach.kept():
        await side.looked_at()
        assert "Kubernetes has not answered" in reach.missing[0]


async def test_who_answers_again_is_told_of_once() -> None:
    side, meter, back = Side(), Meter(), list[str]()
    side.failure = OSError("away")
    reach = Reach({"Temporal": side.look}, meter, every=0.001, back=back.append)
    async with reach.kept():
        await side.looked_at()
        assert back == []
        side.failure = None
        await side.looked_at(4)
    assert back == ["Temporal"]
    assert reach.missing == []
    assert meter.gauge.last == {"Temporal": 0}

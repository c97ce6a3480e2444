"""The first weeks of the year that ``make year`` plays whole."""

from tests.chaos import year

DAYS = 28


async def test_weeks_of_outages_end_well() -> None:
    outcome, counted, script = await year.live(DAYS, year.SEED)
    assert outcome.violations == []
    assert outcome.result == "Completed"
    assert counted.near == []
    assert counted.runs["SpotInstanceJob"] > 5
    assert counted.idle_actions < 12, "two replicas that train in peace"
    assert sum(fault.ends - fault.at for fault in script.faults) > 5 * year.DAY


def test_a_year_has_outages_of_all_servers() -> None:
    faults = year.draw(365, year.SEED).faults
    away = {fault.args.get("what", fault.kind) for fault in faults if fault.ends - fault.at >= year.HOUR}
    assert away >= {"kubernetes", "temporal", "cloud", "registry_down", "operator_away", "exhausted", "cloud_key_lost"}

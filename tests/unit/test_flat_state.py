"""A replica's parts are stored beside its own fields, as releases without parts wrote and read them."""

from tests.unit.policy import NOW
from workflows.job.state.replica import Place, Replica, Retry, Run, SpotReturn

WRITTEN = {
    "index": 0,
    "since": "2026-03-01T12:00:00Z",
    "place": 3,
    "vm_key": "0-r0-v3",
    "node": "node-0",
    "live": True,
    "retry_at": "2026-03-01T12:01:00Z",
    "in_vain": 2,
    "reserved": "0-r0-v4",
    "return_at": "2026-03-01T13:00:00Z",
    "return_checkpoint": 7,
}

ONLY_OF_GANGS = {
    "other_seats", "gathers_since", "short_zones", "spare", "spare_at", "spare_losses", "grows", "restart_seconds",
    "gathered_seconds", "save_seconds", "readings", "returns",
}  # fmt: skip


def test_what_a_release_without_parts_wrote_is_read() -> None:
    read = Replica.model_validate(WRITTEN)
    assert (read.place.number, read.place.only.vm_key, read.place.only.node) == (3, "0-r0-v3", "node-0")
    assert read.run.live
    assert (read.retry.in_vain, read.retry.at) == (2, NOW.replace(minute=1))
    assert (read.spot_return.reserved, read.spot_return.checkpoint) == ("0-r0-v4", 7)


def test_what_is_written_has_no_parts() -> None:
    written = Replica.model_validate(WRITTEN).model_dump(mode="json")
    assert written | WRITTEN == written
    assert not {"run", "retry", "spot_return", "number"} & set(written)


def test_parts_may_be_given_as_such() -> None:
    made = Replica(index=0, since=NOW, place=Place(number=3), retry=Retry(in_vain=1))
    assert (made.place.number, made.retry.in_vain, made.run, made.spot_return) == (3, 1, Run(), SpotReturn())
    assert Replica.model_validate(made.model_dump()) == made


def test_the_schema_says_what_is_stored() -> None:
    for mode in ("validation", "serialization"):
        described = Replica.model_json_schema(mode=mode)["properties"]  # type: ignore[arg-type]
        assert set(described) == {*Replica(index=0, since=NOW).model_dump(), *ONLY_OF_GANGS}


def test_no_two_parts_store_a_field_under_one_name() -> None:
    names = [name for fields in Replica._parts().values() for name in fields.values()]
    own = set(Replica.model_fields) - set(Replica.STORED_AS)
    assert len(names) == len(set(names))
    assert not own & set(names)

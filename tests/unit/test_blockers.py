"""What keeps a pod from running is read from its Job, itself and their Events."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from activities.replicas.blockers import read_start

Json = dict[str, Any]
JOB: Json = {"metadata": {"name": "j", "uid": "job"}, "spec": {}}


def event(reason: str, note: str, minute: int, *, warning: bool = False, uid: str = "pod") -> Json:
    at = f"2026-11-30T10:{minute:02}:00Z"
    kind = "Warning" if warning else "Normal"
    regarding = {"uid": uid}
    return {"metadata": {}, "regarding": regarding, "type": kind, "reason": reason, "note": note, "eventTime": at}


def made(seconds_ago: float) -> Json:
    created = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()
    return {**JOB, "metadata": {**JOB["metadata"], "creationTimestamp": created}}


def pod(*, init: Json | None = None, main: Json | None = None) -> Json:
    status: Json = {"phase": "Pending"}
    if init is not None:
        status["initContainerStatuses"] = [{"name": "fetch", "state": init}]
    status["containerStatuses"] = [{"name": "train", "state": main or {"waiting": {"reason": "PodInitializing"}}}]
    return {"metadata": {"name": "p", "uid": "pod"}, "spec": {"nodeName": "n"}, "status": status}


def test_the_job_controllers_last_words_count() -> None:
    events = [
        event("FailedCreate", "exceeded quota: a", 1, warning=True, uid="job"),
        event("FailedCreate", "exceeded quota: b", 2, warning=True, uid="job"),
        event("FailedCreate", "somebody else's", 3, warning=True, uid="other"),
    ]
    reading = read_start(JOB, None, events)
    assert (reading.reason, reading.message) == ("FailedCreate", "exceeded quota: b")


def test_a_job_without_pod_and_words_is_told_as_that() -> None:
    assert read_start(made(seconds_ago=90), None, []).reason == "NoPod"


def test_a_job_controller_that_is_only_slow_is_not_told_of() -> None:
    assert read_start(made(seconds_ago=30), None, []).reason == ""


def test_a_suspended_job_is_told_as_that() -> None:
    assert read_start({**JOB, "spec": {"suspend": True}}, None, []).reason == "Suspended"


def test_a_pull_goes_on_until_it_has_ended() -> None:
    pulling = event("Pulling", 'Pulling image "r/train:1"', 1)
    reading = read_start(JOB, pod(), [pulling])
    assert (reading.reason, reading.busy) == ("", "image r/train:1 has been pulled since 10:01:00 UTC")
    pulled = event("Pulled", 'Successfully pulled image "r/train:1" in 20m', 21)
    reading = read_start(JOB, pod(), [pulled, pulling])
    assert reading.busy == ""
    assert reading.progressed_at is not None
    assert reading.progressed_at.minute == 21


def test_an_init_container_at_work_is_no_blocker() -> None:
    init = {"running": {"startedAt": "2026-11-30T10:05:00Z"}}
    reading = read_start(JOB, pod(init=init), [])
    assert (reading.reason, reading.busy) == ("", "init container fetch has run since 2026-11-30T10:05:00Z")


@pytest.mark.parametrize("reason", ["FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"])
def test_the_kubelets_last_warning_counts_until_it_goes_on(reason: str) -> None:
    warned = event(reason, "no words are like these", 2, warning=True)
    reading = read_start(JOB, pod(), [event("Scheduled", "", 1), warned])
    assert (reading.reason, reading.message) == (reason, "no words are like these")
    assert read_start(JOB, pod(), [warned, event("Pulled", "", 3)]).reason == ""


def test_what_a_container_waits_for_counts_before_events() -> None:
    waits = {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}
    reading = read_start(JOB, pod(main=waits), [event("Pulling", 'Pulling image "x"', 1)])
    assert (reading.reason, reading.message) == ("ImagePullBackOff", "manifest unknown")


def test_a_series_is_as_new_as_its_last_event() -> None:
    mount = event("FailedMount", "secret not found", 1, warning=True)
    mount["series"] = {"count": 9, "lastObservedTime": "2026-11-30T10:30:00Z"}
    assert read_start(JOB, pod(), [mount, event("Pulled", "", 3)]).reason == "FailedMount"


def test_nothing_is_known_of_a_job_that_is_gone() -> None:
    assert read_start(None, None, []).reason == ""


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z"])
def test_a_time_that_somebody_made_up_is_no_later_than_now(at: str) -> None:
    forged = event("Pulling", 'Pulling image "r/train:1"', 1) | {"eventTime": at}
    init = {"terminated": {"exitCode": 0, "startedAt": at, "finishedAt": at}}
    reading = read_start(JOB, pod(init=init), [forged])
    assert reading.progressed_at is not None
    assert reading.progressed_at <= datetime.now(UTC)

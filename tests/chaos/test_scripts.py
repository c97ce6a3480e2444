"""Scripts of schedules that once ended badly, pasted here as they were printed."""

import pytest

from tests.chaos.script import parse
from tests.chaos.story import play

SCRIPTS = {
    # The tests' own cloud let a preempted machine boot and join as long as it was shown as running.
    "machines taken back while they boot, and shown as running": """
      job replicas=3 steps=900 interval=600 notice=120 course=38
      516 notice_to_all seconds=11
      521 all_lost lingering=60
    """,
    # A survivor finished its training between its dump and the end of its checkpoint. Its image was taken for one of a
    # process that had got a SIGTERM, and so was the end of the replica restored from it.
    "a survivor that ends by itself while its image is pushed": """
      job replicas=2 steps=900 interval=420 policy=All notice=120 events=120 course=245
      121 lost replica=1 lingering=60
      278 trap plan=stick:ImageBuilding count=1
      281 slow_dumps seconds=900 by=90
      423 trap plan=no-image count=1
      825 notice replica=0 seconds=5
    """,
    # The last write of a VM's entry used up its attempts, and nobody removed the entry later.
    "the entry of a VM that has gone, while each second call fails": """
      job replicas=3 steps=1500 interval=90 auto=1 course=0
       89 calls_fail seconds=900 every=2
      632 pod_ends replica=2 code=137
      749 suspend after=300
    """,
    "the same, of machines that were taken back": """
      job replicas=2 steps=600 interval=180 keep=1 policy=All course=0
      126 calls_fail seconds=400 every=2
      285 notice_to_all seconds=1
      314 lost replica=0 lingering=60
    """,
    # A run waited for a log to be saved before it continued as new, and a checkpoint ended meanwhile. In the next run
    # the replica chose what it starts from before that checkpoint counted.
    "a checkpoint that ends between two runs": """
      job replicas=2 steps=1500 interval=90 events=250 course=763
      866 no_logs seconds=180
      935 pod_ends replica=1 code=137
    """,
    # The job was told of a machine that is silent, and did nothing about it, so that it asked again without end.
    "a machine of a gang that falls silent while another one is replaced": """
      job replicas=1 steps=600 interval=180 gang=3 mode=Application peers=fail agree=1 course=0
      200 notice replica=1 seconds=30
      201 joins_fail count=3
      202 not_ready replica=0 seconds=700
    """,
    # The gang had lost the machine for which it waited, and asked for one without a name.
    "all machines of a gang, one after the other, and shown as running": """
      job replicas=1 steps=900 interval=90 events=120 course=548 gang=2 mode=Application peers=fail agree=1
      235 all_lost lingering=60
    """,
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
async def test_what_once_ended_badly_ends_well(script: str) -> None:
    assert (await play(parse(script))).violations == []

"""How long Outlast waits for what, in one place, so that a rehearsal can run faster than the world."""

from api.model import Model


class Timings(Model):
    """All in seconds. A worker sets them (``OUTLAST_TIMING_<NAME>``); a workflow gets them as an activity's result."""

    schedule_wait: float = 15  # for the scheduler to place a replica on a free GPU before a VM is bought
    room_deadline: float = 600  # for the scheduler to find room for a replica on the VM that was bought for it
    queue_patience: float = 300  # for a queue to admit the Job of a replica with a machine, before that is released
    startup_deadline: float = 1200  # for a pod on its node to run, or to show that its start makes progress
    start_deadline: float = 7200  # the same with image pulls and init containers, unless the job says otherwise
    correction_wait: float = 600  # for what keeps a pod from running to be corrected, before its VM is released
    cause_check: float = 120  # between checks whether that is corrected, while no VM is bought
    verdict_delay: float = 60  # after an end, until a VM that is still RUNNING makes it the training's own
    pod_stop: float = 90  # for a preempted replica's pod to be confirmed stopped, before we stop it
    checkpoint_start: float = 60  # for the checkpoint operator to show a first phase
    checkpoint_step: float = 600  # for it to reach the next phase
    checkpoint_total: float = 1200
    resync: float = 3600  # between two regular looks at what nobody may have told of
    recheck: float = 3600  # between checks that credentials, cloud, registry, bucket and operator are still right
    not_ready_grace: float = 600  # for a NotReady node whose VM is RUNNING
    preempted_gone: float = 180  # after a notice has expired, until we delete a VM that still exists
    create_deadline: float = 300  # for a create operation to be DONE
    boot_deadline: float = 600  # for SSH to answer
    join_deadline: float = 600  # for kubeadm join to end
    gang_gathering: float = 900  # for the missing machines of a gang to be bought, before the others are released
    gang_silence: float = 25  # for a NotReady node of a gang, whose other members wait for it and do nothing else
    ready_deadline: float = 900  # for the node to be Ready with its GPUs
    agent_deadline: float = 180  # for the node agent to run on a Ready node, until the job reports that it does not
    drain: float = 60  # for the pods of a released node to stop
    owner_check: float = 3600  # between a VM's looks at its machine, its Node and its job
    outputs: float = 1800  # for the outputs of an ended training to be uploaded
    stockout_rest: float = 180  # cooldown of a candidate that is out of capacity; doubles to ten times this
    preempted_poll: float = 5  # between reads of the operations by which the cloud preempts machines; 0: none
    spot_return: float = 1800  # on on-demand, until spot is tried again
    retry: float = 10  # first back-off of a step that failed; doubles to thirty times this
    token_lifetime: float = 1800  # lifetime of a bootstrap token

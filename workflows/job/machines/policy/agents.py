"""What a job reports about bought nodes without their node agent."""

from collections.abc import Iterable

from workflows.job.state.vm import Vm

WITHOUT = (
    "Until it runs, a preemption there is known only from the cloud's list of operations and from the Node, when the "
    "machine already stops: nothing is checkpointed within its notice"
)


def missing_agents(vms: Iterable[Vm]) -> tuple[str, str] | None:
    """Return the reason and the message of the condition AgentReady; None if no node lacks its agent for too long."""
    reports = [vm.report for vm in vms if vm.report and vm.report.stage == "Ready" and vm.report.agent]
    lacking = [(report.node_name or report.key, report.agent) for report in reports if report.agent]
    if not lacking:
        return None
    _, first = lacking[0]
    messages = [f"On {node} the node agent does not run: {agent.reason}: {agent.message}" for node, agent in lacking]
    return first.reason, f"{'. '.join(messages)}. {WITHOUT}"

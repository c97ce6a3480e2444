"""How a workflow measures what it has just done. A replay measures nothing twice."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api.metrics import Metric


def measure(metric: Metric, value: float, **labels: str) -> None:
    """Add a value to a histogram."""
    workflow.metric_meter().create_histogram_float(*metric.made_by).record(value, labels)

"""The commands, their options and their exit codes."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live

from api.duration import parse_duration
from cli import convert, page, plan, requests, status, timeline, wait
from cli import cost as costs
from cli import logs as saved_logs
from cli.changes import next_change
from cli.session import FAILED, Cluster, Told, Where, ask, console
from cli.times import now
from clients.kube import Json

app = typer.Typer(
    name="outlast",
    help="See and steer SpotInstanceJobs: trainings that outlast the machines they run on.",
    epilog="Exit codes: 1 failed, 2 a wrong command, 3 no such object or no right to it, 4 not in time.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

JobName = Annotated[str, typer.Argument(metavar="JOB", help="The SpotInstanceJob's name.")]
Output = Annotated[str, typer.Option("--output", "-o", help="text or json.")]
Everywhere = Annotated[bool, typer.Option("--all-namespaces", "-A", help="In all namespaces.")]
System = Annotated[str, typer.Option(help="The namespace in which Outlast is installed.")]
Timeout = Annotated[str, typer.Option("--timeout", help="For example 90s, 10m or 2h.")]


@app.callback()
def options(
    context: typer.Context,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Default: the context's.")] = None,
    kubeconfig: Annotated[str | None, typer.Option(help="Default: $KUBECONFIG, else ~/.kube/config.")] = None,
    cluster: Annotated[str | None, typer.Option("--context", help="A context of the kubeconfig.")] = None,
) -> None:
    """Take the options that all commands have."""
    context.obj = Where(namespace, kubeconfig, cluster)


@app.command("status")
def show_status(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="Default: all jobs.")] = None,
    everywhere: Everywhere = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
    output: Output = "text",
) -> None:
    """Show what jobs are doing, what they wait for, where they run, and what they cost."""

    async def run(cluster: Cluster) -> None:
        found = await status.read(cluster, job, everywhere=everywhere)
        if _json(output):
            sys.stdout.write(json.dumps(found, indent=2) + "\n")
        elif isinstance(found, list):
            console.print(status.list_of(found, everywhere=everywhere))
        elif not watch:
            console.print(status.card(found))
        else:
            await _watch(cluster, found)

    if watch and job is None:
        raise typer.BadParameter("--watch needs a job")
    ask(context.obj, run)


async def _watch(cluster: Cluster, job: Json) -> None:
    """Show a job anew with each change, and every few seconds, because ages change."""
    with Live(status.card(job), console=console, auto_refresh=False) as live:
        while True:
            changed = await next_change(cluster, job, now() + timedelta(seconds=5))
            if changed is None:
                raise Told(f"{job['metadata']['name']} was deleted")
            job = changed
            live.update(status.card(job), refresh=True)


@app.command()
def logs(
    context: typer.Context,
    job: JobName,
    replica: Annotated[int | None, typer.Option("--replica", "-r", help="Default: the furthest that runs.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on, over all machines, until the job ends.")
    ] = False,
    tail: Annotated[int | None, typer.Option(help="Only the last lines of the pod that is there.")] = None,
) -> None:
    """Print a replica's log, joined over its incarnations and machines, also after they are gone."""

    async def run(cluster: Cluster) -> None:
        async for piece in saved_logs.lines(cluster, job, replica, follow=follow, tail=tail):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()

    ask(context.obj, run)


@app.command("timeline")
def show_timeline(
    context: typer.Context,
    job: JobName,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with a drawing into this file.")] = None,
    output: Output = "text",
) -> None:
    """Tell what happened to a job: machines, losses, checkpoints, and what it cost."""
    story = ask(context.obj, lambda cluster: timeline.read(cluster, job))
    if html is not None:
        html.write_text(page.page(story))
        console.print(f"{html} shows {job}", soft_wrap=True)
    elif _json(output):
        told = [{"at": each.at.isoformat(), "what": each.what, "message": each.message} for each in story.moments]
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        console.print(timeline.table(story))


@app.command("wait")
def wait_for(context: typer.Context, job: JobName, timeout: Timeout = "") -> None:
    """Wait until a job has ended: exit code 0 if it completed, 1 if it failed, 3 if it was deleted, 4 if late."""
    how = ask(context.obj, lambda cluster: wait.until_over(cluster, job, _duration(timeout)))
    console.print(f"{job}: {how}", style="green")


@app.command()
def checkpoint(context: typer.Context, job: JobName, timeout: Timeout = "20m") -> None:
    """Checkpoint a job now, and wait for the result."""
    _request(context, job, "checkpoint-now", timeout)


@app.command()
def preempt(
    context: typer.Context,
    job: JobName,
    replica: Annotated[int, typer.Option("--replica", "-r", help="Whose machine goes.")] = 0,
    seconds: Annotated[int, typer.Option(help="How long the machine has left.")] = 30,
    timeout: Timeout = "5m",
) -> None:
    """Rehearse the loss of a machine: the replica is treated as if its machine were preempted."""
    _request(context, job, f"preemption-notice replica={replica} seconds={seconds}", timeout)


@app.command()
def suspend(
    context: typer.Context,
    job: JobName,
    unsaved: Annotated[bool, typer.Option(help="At once, even if the training cannot be checkpointed.")] = False,
) -> None:
    """Checkpoint a job and release all its machines."""
    fields = {"suspend": True, **({"suspendUnsaved": True} if unsaved else {})}
    ask(context.obj, lambda cluster: requests.edit(cluster, job, **fields))
    console.print(f"{job} is being suspended: outlast status {job} tells how far it is")


@app.command()
def resume(context: typer.Context, job: JobName) -> None:
    """Continue a suspended job."""
    ask(context.obj, lambda cluster: requests.edit(cluster, job, suspend=False, suspendUnsaved=False))
    console.print(f"{job} continues")


@app.command()
def scale(
    context: typer.Context, job: JobName, replicas: Annotated[int, typer.Argument(min=1, max=16, help="How many.")]
) -> None:
    """Change how many replicas a job has."""
    ask(context.obj, lambda cluster: requests.scale(cluster, job, replicas))
    console.print(f"{job} is to have {replicas} replicas")


@app.command("cost")
def show_cost(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="Default: all jobs.")] = None,
    everywhere: Everywhere = False,
    since: Annotated[str, typer.Option(help="Leave out jobs that ended before: 7d, 12h, or a date.")] = "",
    output: Output = "text",
) -> None:
    """Sum up what jobs have cost, those that are gone included, and what on-demand VMs would have cost."""
    rows = ask(context.obj, lambda cluster: costs.read(cluster, job, everywhere=everywhere, since=_moment(since)))
    if _json(output):
        sys.stdout.write(costs.as_json(rows) + "\n")
    else:
        console.print(costs.table(rows))


@app.command("plan")
def show_plan(
    context: typer.Context,
    file: Annotated[Path, typer.Option("--file", "-f", exists=True, dir_okay=False, help="The manifests.")],
) -> None:
    """Say what a job would do, without doing it: what is checked, what is bought and where, at what price."""
    problems = ask(context.obj, lambda cluster: plan.tell(cluster, file.read_text()))
    raise typer.Exit(FAILED if problems else 0)


@app.command("convert")
def convert_manifests(
    file: Annotated[Path, typer.Option("--file", "-f", exists=True, dir_okay=False, help="The manifests.")],
    vm: Annotated[str, typer.Option(help="The SpotInstanceVM.")] = convert.TO_SET,
    bucket: Annotated[str, typer.Option(help="The bucket for checkpoints.")] = convert.TO_SET,
) -> None:
    """Turn PyTorchJobs and TrainJobs into SpotInstanceJobs: YAML on stdout, what is left to do on stderr."""
    try:
        found = convert.convert(file.read_text(), vm, bucket)
    except Told as told:
        typer.echo(str(told), err=True)
        raise typer.Exit(told.code) from None
    sys.stdout.write("---\n".join(each.as_yaml() for each in found))
    for each in found:
        for note in each.notes:
            typer.echo(f"{each.manifest['metadata'].get('name', 'it')}: {note}", err=True)


@app.command()
def doctor(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="About whose needs to ask. Default: all.")] = None,
    system: System = "outlast-system",
    output: Output = "text",
) -> None:
    """Check an installation: a line for each part, with what to do."""
    from cli import doctor as health  # as below: Temporal's client alone takes a quarter of a second to import

    findings = ask(context.obj, lambda cluster: health.look(cluster, system, job))
    if _json(output):
        sys.stdout.write(json.dumps([each.model_dump() for each in findings], indent=2) + "\n")
    else:
        health.show(findings)
    raise typer.Exit(FAILED if any(not each.well for each in findings) else 0)


@app.command("support-bundle")
def support_bundle(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="Default: the whole installation.")] = None,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Default: outlast-JOB-TIME.tar.gz.")
    ] = None,
    system: System = "outlast-system",
) -> None:
    """Pack what helps others to help you into one file: objects, Events, logs, histories; without secrets."""
    from cli import bundle

    at, what = now(), f"the job {job}" if job is not None else "an installation"
    found = ask(context.obj, lambda cluster: bundle.collect(cluster, job, system, at))
    chosen = file or Path(f"outlast-{job or 'all'}-{at:%Y%m%dT%H%M%SZ}.tar.gz")
    console.print(bundle.save(found, chosen, what), soft_wrap=True)


def main() -> None:
    """Run the program."""
    app()


def _request(context: typer.Context, job: str, words: str, timeout: str) -> None:
    patience = _duration(timeout) or timedelta(minutes=20)
    answer = ask(context.obj, lambda cluster: requests.request(cluster, job, words, patience))
    console.print(answer, style="green", soft_wrap=True)


def _json(output: str) -> bool:
    if output not in ("text", "json"):
        raise typer.BadParameter(f"-o is text or json, and not {output}")
    return output == "json"


def _duration(text: str) -> timedelta | None:
    if not text:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a duration: write 90s, 10m or 2h") from error


def _moment(text: str) -> datetime | None:
    """Read a date, or how long ago something was."""
    if not text:
        return None
    try:
        if text.endswith("d") and text[:-1].isdigit():
            return now() - timedelta(days=int(text[:-1]))
        if text[:4].isdigit() and "-" in text:
            found = datetime.fromisoformat(text)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        return now() - parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is neither a date nor a duration: write 2026-11-24, 7d or 12h") from error

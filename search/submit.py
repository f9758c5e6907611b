"""One search as a job of a cluster, from the command line: python -m search.submit WORKLOAD --to TARGET -- FLAGS."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from search.cluster.flags import PROGRAM, About, Target, ToKubeRay, ToRay, ToSlurm, parse_submit
from search.cluster.job_spec import make_request, write_script
from search.cluster.kuberay import manifest
from search.cluster.ray_jobs import JobServer, exit_code
from search.cluster.site_config import KubeRaySite, SlurmSite, read_site
from search.cluster.slurm import batch_script, sbatch
from search.errors import SearchError
from search.reporting.summary import open_console

DONE, GOES_ON = 0, 130


def main(arguments: list[str] | None = None) -> int:
    """Submit, or ask for what was submitted; returns the exit code: that of the search where it is waited for."""
    command, words = parse_submit(sys.argv[1:] if arguments is None else arguments)
    console = open_console(soft_wrap=True)
    try:
        return _about(command, console) if isinstance(command, About) else _submit(command, words, console)
    except SearchError as error:
        console.print(f"error: {error}", style="red")
        return error.exit_code


def _submit(command: Target, words: list[str], console: Console) -> int:
    match command:
        case ToRay():
            return _to_ray(command, words, console)
        case ToSlurm():
            return _to_slurm(command, words, console)
        case ToKubeRay():
            return _to_kuberay(command, words, console)


def _to_ray(command: ToRay, words: list[str], console: Console) -> int:
    request = make_request(command.what, words, again=False, shared=True)
    server = JobServer(command.address)
    id = server.submit(request, pip=command.pip, include=command.include, exclude=command.exclude)
    console.print(f"job      {id}, search {request.name}, at {server.address}")
    return _follow(server, id, console) if command.wait else DONE


def _follow(server: JobServer, id: str, console: Console) -> int:
    try:
        return server.follow(id)
    except KeyboardInterrupt:
        where = f"{id} --address {server.address}"
        console.print(f"the job goes on. Look again: {PROGRAM} logs {where}\nStop it: {PROGRAM} stop {where}")
        return GOES_ON


def _to_slurm(command: ToSlurm, words: list[str], console: Console) -> int:
    site = read_site(
        command.site,
        "slurm",
        SlurmSite,
        nodes=command.nodes,
        cpus_per_node=command.cpus_per_node,
        gpus_per_node=command.gpus_per_node,
        time=command.time,
        partition=command.partition,
        account=command.account,
        qos=command.qos,
    )
    request = make_request(command.what, words, again=True, shared=False, environment=site.environment)
    text = batch_script(request, site, classic=command.classic, array=command.array, folder=Path.cwd())
    file = write_script(text, command.script or Path(f"{request.name}.sbatch"), command.overwrite)
    console.print(f"script   {file}")
    if not command.submit:
        console.print(f"submit   sbatch {file}")
        return DONE
    id = sbatch(file)
    output = f"{request.name}-{id}{'_*' if command.array else ''}.out"
    console.print(f"job      {id}; output: {output}; look: squeue --job {id}; stop: scancel --batch --signal=TERM {id}")
    return DONE


def _to_kuberay(command: ToKubeRay, words: list[str], console: Console) -> int:
    site = read_site(
        command.site,
        "kuberay",
        KubeRaySite,
        image=command.image,
        workers=command.workers,
        gpus_per_worker=command.gpus_per_worker,
    )
    request = make_request(command.what, words, again=True, shared=True, environment=site.environment)
    text = manifest(request, site)
    file = write_script(text, command.script or Path(f"{request.name}.yaml"), command.overwrite)
    console.print(f"manifest {file}\nsubmit   kubectl apply -f {file}")
    return DONE


def _about(command: About, console: Console) -> int:
    server = JobServer(command.address)
    job = server.find(command.id)
    if command.do == "logs":
        return _follow(server, job.submission_id, console)
    if command.do == "stop" and not job.status.is_terminal():
        server.stop(job.submission_id)
        console.print(f"job      {job.submission_id}: its search closes its trials and leaves")
        return DONE
    ended = f", exit code {exit_code(job)}" if job.status.is_terminal() else ""
    console.print(f"job      {job.submission_id}: {job.status}{ended}\nsearch   {job.metadata.get('search')}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())

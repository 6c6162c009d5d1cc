"""A launch as a job of a batch system: the script that is submitted, what is refused, and what the batch system's answers mean."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces._common.errors import UserError
from trial_runner.cli.main import main
from trial_runner.cluster import batch_systems
from trial_runner.cluster.batch_systems import Allocation, Pbs, Slurm, qstat_facts
from trial_runner.cluster.choice import cluster_overrides
from trial_runner.cluster.job_script import job_script
from trial_runner.cluster.node import HeadWatch
from trial_runner.config.load import load_config

ROOT = Path(__file__).resolve().parents[2]
SITES = ROOT / "configs" / "clusters"
DEMO = ROOT / "configs" / "demo.yaml"


def script_of(*overrides: str, study: Path = DEMO) -> str:
    return job_script(load_config(study, overrides), study, overrides)


def directives(text: str, word: str) -> list[str]:
    return [line.removeprefix(f"#{word} ") for line in text.splitlines() if line.startswith(f"#{word} ")]


def test_a_dry_run_prints_the_script_and_submits_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batch_systems, "_run", lambda command: pytest.fail(f"ran {command}"))
    assert main(["launch", str(DEMO), "--cluster", str(SITES / "palmetto-slurm.yaml"), "--dry-run"]) == 0
    text = capsys.readouterr().out
    ordered = directives(text, "SBATCH")
    assert {"--nodes=2", "--cpus-per-task=20", "--gpus-per-node=a100:2", "--mem=128G", "--time=6:00:00"} <= set(ordered)
    assert {"--partition=work1", "--signal=B:USR1@120", "--requeue"} <= set(ordered)
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash" and lines[-1].startswith("exec ")
    words = shlex.split(lines[-1])
    assert words[2:5] == ["-m", "trial_runner.cluster.job", str(DEMO)]
    inside = load_config(DEMO, [words[at + 1] for at, word in enumerate(words) if word == "--set"])
    assert inside.cluster == load_config(DEMO, cluster_overrides(str(SITES / "palmetto-slurm.yaml"))).cluster


def test_the_pbs_site_orders_what_the_original_project_did():
    ordered = directives(script_of(*cluster_overrides(str(SITES / "palmetto-pbs.yaml"))), "PBS")
    select = next(line for line in ordered if "select=" in line).removeprefix("-l select=").split(":")
    assert select[0] == "1" and {"ncpus=20", "ngpus=2", "mem=128gb", "gpu_model=a100"} <= set(select)
    assert "-l walltime=6:00:00" in ordered


# The grammar of directives in the PBS Professional User's Guide: an option of qsub, and for -l, -j, -r, -N its argument's form.
_CHUNK = r"\d+(?::(?:ncpus|mpiprocs|ngpus)=\d+|:mem=\d+(?:kb|mb|gb|tb)|:gpu_model=[\w.-]+)*"
_PBS = re.compile(
    rf"-N [A-Za-z][\w.+-]{{0,14}}|-l select={_CHUNK}|-l place=(?:free|pack|scatter|vscatter)(?::(?:excl|shared))?"
    r"|-l walltime=\d+:[0-5]\d:[0-5]\d|-j (?:oe|eo|n)|-o \S+|-r [yn]|-q [\w.@-]+|-A [\w.-]+"
)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("cluster.nodes=4", "cluster.gpus_per_node=2", "cluster.queue=work", "cluster.account=lab.17"),
        ("cluster.walltime=3-00:30:05", "cluster.memory_per_node_gb=62", "cluster.cpus_per_node=40"),
        ("study.name=4711_a.very-long.name_of_a_study",),
    ],
)
def test_every_pbs_directive_is_one_of_the_grammar(overrides: tuple[str, ...]):
    text = script_of("cluster.kind=pbs", *overrides)
    ordered = directives(text, "PBS")
    assert ordered and all(_PBS.fullmatch(line) for line in ordered), ordered
    head = text.splitlines()[1 : 1 + len(ordered)]
    assert all(line.startswith("#PBS ") for line in head), "qsub reads directives up to the first command only"


def test_pbs_counts_the_days_of_a_walltime_as_hours():
    assert "-l walltime=72:30:05" in directives(script_of("cluster.kind=pbs", "cluster.walltime=3-00:30:05"), "PBS")


def test_extra_directives_and_setup_lines_are_written_before_the_study_runs():
    text = script_of(
        "cluster.kind=slurm",
        'cluster.directives=["--exclusive"]',
        "cluster.setup=[module load cuda, source venv/bin/activate]",
    )
    assert "--exclusive" in directives(text, "SBATCH")
    assert text.index("module load cuda\nsource venv/bin/activate\n") < text.index("\nexec ")


def test_a_template_of_the_user_replaces_the_script(tmp_path: Path):
    template = tmp_path / "own.sh"
    template.write_text("#!/bin/sh\n{{directives}}\nhostname\n{{command}} || exit 3\n")
    text = script_of("cluster.kind=slurm", f"cluster.template={template}")
    assert text.splitlines()[0] == "#!/bin/sh" and text.endswith(" || exit 3\n") and "trap" not in text
    template.write_text("{{directives}}\n{{comand}}\n")
    with pytest.raises(UserError, match=r"comand.*knows directives, study, setup, command"):
        script_of("cluster.kind=slurm", f"cluster.template={template}")
    template.write_text("{{directives}}\n# {{command}}\n")
    with pytest.raises(UserError, match="does not run the study"):
        script_of("cluster.kind=slurm", f"cluster.template={template}")
    with pytest.raises(UserError, match="cannot read"):
        script_of("cluster.kind=slurm", f"cluster.template={tmp_path / 'none'}")
    os.mkfifo(tmp_path / "pipe")
    for endless in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UserError, match="regular file"):
            script_of("cluster.kind=slurm", f"cluster.template={endless}")


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("compute.cpus_per_trial=8", "cluster.cpus_per_node=4"), "compute.cpus_per_trial is 8"),
        (("compute.gpus_per_trial=1",), "compute.gpus_per_trial is 1"),
        (("study.storage=postgresql://me:hush@db/x",), "password into the job script"),
    ],
)
def test_what_a_job_could_not_run_is_refused_before_it_waits_in_a_queue(overrides: tuple[str, ...], named: str):
    with pytest.raises(UserError, match=named) as caught:
        script_of("cluster.kind=slurm", *overrides)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "cluster.walltime=6",
        "cluster.walltime=0:00:30",
        'cluster.queue="a\\nb"',
        'cluster.setup=["a\\nb"]',
        "cluster.nodes=0",
    ],
)
def test_values_that_would_break_a_directive_are_refused(override: str):
    with pytest.raises(UserError, match="cluster"):
        load_config(DEMO, ["cluster.kind=slurm", override])


def test_the_interactive_line_opens_a_shell_on_the_same_resources(capsys: pytest.CaptureFixture[str]):
    assert main(["launch", str(DEMO), "--cluster", str(SITES / "palmetto-slurm.yaml"), "--interactive"]) == 0
    assert main(["launch", str(DEMO), "--cluster", str(SITES / "palmetto-pbs.yaml"), "--interactive"]) == 0
    slurm, pbs = (shlex.split(line) for line in capsys.readouterr().out.splitlines())
    assert slurm[0] == "salloc" and {"--nodes=2", "--gpus-per-node=a100:2", "--time=6:00:00"} <= set(slurm)
    assert pbs[:2] == ["qsub", "-I"] and "select=1:ncpus=20:mpiprocs=1:ngpus=2:mem=128gb:gpu_model=a100" in pbs


def test_job_options_without_a_job_are_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["launch", str(DEMO), "--dry-run"]) == 2
    assert "Add --cluster slurm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("choice", "address"),
    [("ray://head.example", "head.example:6379"), ("ray://10.0.0.1:6400", "10.0.0.1:6400"), ("head:6379", "head:6379")],
)
def test_a_running_ray_cluster_is_joined(choice: str, address: str):
    config = load_config(DEMO, ["cluster.kind=slurm", *cluster_overrides(choice)])
    assert (config.cluster.kind, config.compute.ray_address) == ("local", address)


def test_choices_that_mean_nothing_are_refused(tmp_path: Path):
    for choice, named in (("slrum", "found slrum"), ("ray://head:10001", "Ray Client")):
        with pytest.raises(UserError, match=named):
            cluster_overrides(choice)
    site = tmp_path / "site.yaml"
    site.write_text("cluster: {kind: slurm}\ntraining: {epochs: 3}\n")
    with pytest.raises(UserError, match="no other, not training"):
        cluster_overrides(str(site))
    site.write_text("cluster: {kind: slurm, node: 3}\n")
    with pytest.raises(UserError, match=r"line 1: cluster.node.*did you mean nodes"):
        cluster_overrides(str(site))


def test_the_template_of_a_site_is_found_beside_it(tmp_path: Path):
    (tmp_path / "own.sh").write_text("{{directives}}\n{{command}} # here\n")
    site = tmp_path / "site.yaml"
    site.write_text("cluster: {kind: slurm, template: own.sh}\n")
    assert script_of(*cluster_overrides(str(site))).endswith("# here\n")


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[[list[str]], str]) -> list[list[str]]:
    """Commands that were run, each answered by ``answer``."""
    commands: list[list[str]] = []

    def run(command: list[str]) -> str:
        commands.append(command)
        return answer(command)

    monkeypatch.setattr(batch_systems, "_run", run)
    return commands


@pytest.mark.parametrize(
    ("line", "phase", "word"),
    [
        ("PENDING|Resources|", "pending", "pending"),
        ("RUNNING|None|n[1-2]", "running", "running"),
        ("TIMEOUT|TimeLimit|n1", "ended", "timeout"),
    ],
)
def test_the_queue_state_of_slurm_is_read(line: str, phase: str, word: str, monkeypatch: pytest.MonkeyPatch):
    answering(monkeypatch, lambda command: line + "\n")
    state = Slurm().state("17")
    assert state is not None and (state.phase, state.word) == (phase, word)


@pytest.mark.parametrize(
    ("line", "lost"),
    [
        ("RUNNING|None|n2", True),
        ("RUNNING|None|n[1-2]", False),
        ("RUNNING|None|n[2-3]", True),
        ("RUNNING|None|n3", False),
        ("COMPLETING|None|n2", False),
        ("PENDING|BeginTime|", False),
        ("TIMEOUT|TimeLimit|n2", False),
        ("", False),
    ],
)
def test_a_job_whose_first_node_slurm_took_away_is_queued_again(
    line: str, lost: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    hosts = {"n2": "n2", "n3": "n3", "n[1-2]": "n1\nn2", "n[2-3]": "n2\nn3"}
    commands = answering(monkeypatch, lambda command: line if command[0] == "squeue" else hosts.get(command[-1], ""))
    monkeypatch.setenv("SLURMD_NODENAME", "n2")
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        head.listen()
        address = f"127.0.0.1:{head.getsockname()[1]}"
        assert not HeadWatch(Slurm(), Allocation("17", ("n1", "n2")), address).head_is_away()
    assert not commands, "a head that answers is not looked for in the queue"
    watch = HeadWatch(Slurm(), Allocation("17", ("n1", "n2")), address)
    assert watch.head_is_away() and watch.head_is_away()
    requeued = [command for command in commands if command[:2] == ["scontrol", "requeue"]]
    assert requeued == ([["scontrol", "requeue", "17"]] if lost else [])
    assert ("n1 has failed" in capsys.readouterr().out) == lost


def test_the_queue_state_of_pbs_is_read_from_a_wrapped_answer(monkeypatch: pytest.MonkeyPatch):
    text = "Job Id: 17.head\n    Job_Name = demo\n    job_state = R\n    exec_host = n1/0*20+\n\tn2/0*20\n    comment = running\n\n"
    assert qstat_facts(text)["exec_host"] == "n1/0*20+n2/0*20"
    answering(monkeypatch, lambda command: text)
    state = Pbs().state("17.head")
    assert state is not None and (state.phase, state.nodes) == ("running", "n1/0*20+n2/0*20")


def test_ids_are_read_from_what_the_submission_prints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    answering(monkeypatch, lambda command: "sbatch: note\n4711;cluster\n" if command[0] == "sbatch" else "17.head\n")
    assert Slurm().submit(tmp_path / "job.sh") == "4711" and Pbs().submit(tmp_path / "job.sh") == "17.head"


def test_pbs_resubmits_with_its_count_of_restarts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    commands = answering(monkeypatch, lambda command: "18.head\n")
    assert Pbs().run_again(Allocation("17.head", ("n1",), 2), tmp_path / "job.sh") == "18.head"
    assert commands == [["qsub", "-v", "PARETOSEG_RESTARTS=3", str(tmp_path / "job.sh")]]
    monkeypatch.setenv("PBS_JOBID", "18.head")
    monkeypatch.setenv("PARETOSEG_RESTARTS", "3")
    nodes = tmp_path / "nodes"
    nodes.write_text("n1\nn1\nn2\n")
    monkeypatch.setenv("PBS_NODEFILE", str(nodes))
    assert Pbs().allocation() == Allocation("18.head", ("n1", "n2"), 3)


def test_without_the_batch_system_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no sbatch on this machine"):
        Slurm().submit(tmp_path / "job.sh")


def test_the_script_is_valid_bash(tmp_path: Path):
    script = tmp_path / "job.sh"
    script.write_text(script_of("cluster.kind=slurm", "cluster.setup=[\"export A='b c'\"]"))
    subprocess.run(["bash", "-n", str(script)], check=True)

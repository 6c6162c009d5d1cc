"""The way to a board over a real sshd on the loopback address, with a real Python 3.6 behind it, and every way it can fail."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from fake_board.python36 import need_python36 as python36
from loopback_sshd import LoopbackSshd

from hw_latency_model.board.transport import AgentLink, ConnectionLost, RetryPolicy, find_results, write_offline_kit
from hw_latency_model.board.transport.agent_link import Poll
from hw_latency_model.board.transport.shell import LocalShell
from hw_latency_model.board.transport.ssh import SshShell
from search_spaces._common.errors import UserError

STAND_IN = Path(__file__).with_name("stand_in_agent.py")


def make_kit(folder: Path, count: int = 3, **behaviour: Any) -> Path:
    (folder / "onnx").mkdir(parents=True)
    shutil.copy(STAND_IN, folder / "paretoseg_agent.pyz")
    (folder / "behaviour.json").write_text(json.dumps(behaviour))
    jobs = []
    for index in range(count):
        content = bytes([index]) * 1000
        (folder / "onnx" / f"n{index}.onnx").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        jobs.append(
            {
                "id": f"j{index}",
                "subject": f"n{index}",
                "onnx": f"onnx/n{index}.onnx",
                "sha256": digest,
                "kind": "network",
            }
        )
    (folder / "jobs.json").write_text(json.dumps({"device": "board", "jobs": jobs}))
    return folder


def ended(link: AgentLink, offset: int = 0) -> Poll:
    for _ in range(200):
        poll = link.poll(offset)
        if poll.state != "running":
            return poll
        time.sleep(0.1)
    raise AssertionError("the agent did not end")


def remote(link: AgentLink, name: str) -> Path:
    return Path(link.folder) / name


def link_to(sshd: LoopbackSshd, folder: Path) -> AgentLink:
    return AgentLink(SshShell(sshd.section), str(folder / "a folder"), "session", python36())


def test_the_agent_is_sent_runs_detached_under_python_36_and_is_read_from_any_byte(
    sshd: LoopbackSshd, tmp_path: Path
) -> None:
    link = link_to(sshd, tmp_path)
    assert link.check(STAND_IN)["python"].startswith("3.6.")
    assert link.poll(0) == Poll("idle", None, 0, b"")
    link.send(make_kit(tmp_path / "kit", seconds=0.3))
    link.start()
    pid = remote(link, "agent.pid").read_text()
    link.start()
    assert remote(link, "agent.pid").read_text() == pid, "a second start leaves the first alone"
    done = ended(link)
    assert (done.state, done.code) == ("exit", 0)
    assert done.data == remote(link, "results.jsonl").read_bytes() and done.data.count(b'"measurement"') == 3
    assert link.poll(100).data == done.data[100:]
    assert link.poll(done.size).data == b""


def test_only_what_is_missing_is_sent_and_old_networks_are_removed(sshd: LoopbackSshd, tmp_path: Path) -> None:
    link = link_to(sshd, tmp_path)
    link.send(make_kit(tmp_path / "kit"))
    kept, broken = remote(link, "onnx/n0.onnx"), remote(link, "onnx/n1.onnx")
    before = kept.stat().st_mtime_ns, kept.stat().st_ino
    broken.write_bytes(b"half")
    remote(link, "onnx/of-an-earlier-batch.onnx").write_bytes(b"old")
    link.send(tmp_path / "kit")
    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == before
    assert broken.read_bytes() == bytes([1]) * 1000
    assert sorted(path.name for path in remote(link, "onnx").iterdir()) == ["n0.onnx", "n1.onnx", "n2.onnx"]


def test_stopping_ends_the_agent_and_it_goes_on_when_started_again(sshd: LoopbackSshd, tmp_path: Path) -> None:
    link = link_to(sshd, tmp_path)
    link.send(make_kit(tmp_path / "kit", count=4, seconds=0.5))
    link.start()
    time.sleep(0.8)
    link.stop()
    stopped = link.poll(0)
    assert (stopped.state, stopped.code) == ("exit", 3)
    measured = stopped.data.count(b'"measurement"')
    assert measured < 4
    link.start()
    done = ended(link, stopped.size)
    assert done.code == 0 and measured + done.data.count(b'"measurement"') == 4


def test_a_cut_connection_is_found_again_and_the_agent_never_noticed(sshd: LoopbackSshd, tmp_path: Path) -> None:
    link, lines = link_to(sshd, tmp_path), []
    ask = RetryPolicy("the board", lines.append, first_pause_s=0.1, longest_pause_s=0.3)
    ask(lambda: link.send(make_kit(tmp_path / "kit", count=3, seconds=0.5)))
    ask(link.start)
    asking = subprocess.Popen([*link.shell._command(), "sleep 60"])  # type: ignore[attr-defined]
    deadline = time.monotonic() + 20
    while asking.poll() is None and time.monotonic() < deadline:
        sshd.cut_sessions()  # the one before may still be ending, and this one not be there yet
        time.sleep(0.05)
    assert asking.poll() == 255
    sshd.stop()
    with pytest.raises(ConnectionLost, match="refused"):
        link.poll(0)
    restart = subprocess.Popen(["sleep", "0.6"])

    def poll() -> Poll:
        if restart.poll() is not None and sshd._process is None:
            sshd.start()
        return link.poll(0)

    assert ask(poll).state in ("running", "exit")
    assert ask.drops == 1 and len(lines) == 2
    assert "connection to the board lost" in lines[0] and "the board goes on by itself" in lines[0]
    assert "answers again" in lines[1]
    assert ended(link).data.count(b'"measurement"') == 3


def test_a_board_that_never_answered_is_told_at_once_and_one_that_stays_away_after_a_while(sshd: LoopbackSshd) -> None:
    def gone() -> None:
        raise ConnectionLost("Connection refused")

    with pytest.raises(UserError, match=r"nano does not answer \(Connection refused\)\. Check that the board is on"):
        RetryPolicy("nano", print)(gone)
    patient = RetryPolicy("nano", lambda line: None, first_pause_s=0.01, longest_pause_s=0.02, give_up_s=0.1)
    patient(lambda: None)
    with pytest.raises(UserError, match="What it measured is kept there: run the same command again"):
        patient(gone)


def shell(sshd: LoopbackSshd, **changes: Any) -> SshShell:
    return SshShell(sshd.section.model_copy(update=changes))


def test_an_unknown_host_key_is_refused_and_the_sentence_leads_to_a_known_one(
    sshd: LoopbackSshd, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    with pytest.raises(UserError, match=r"host key of .* is not in .*never taken unseen.*ssh-keygen -lf") as refused:
        shell(sshd, known_hosts=known).run("true")
    command = str(refused.value).split("run `")[1].split("`")[0]
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert shell(sshd, known_hosts=known).run("echo hello").out == b"hello\n"


def test_a_changed_host_key_is_refused(sshd: LoopbackSshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{sshd.port} {(sshd.folder / 'strange_key.pub').read_text()}")
    with pytest.raises(UserError, match=r"shows another host key.*Nothing was sent.*ssh-keygen -R"):
        shell(sshd, known_hosts=known).run("true")


def test_a_strange_key_and_a_server_of_passwords_are_refused(sshd: LoopbackSshd, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"accepts none of our keys\. Add one on the board: `ssh-copy-id"):
        shell(sshd, identity_file=sshd.folder / "strange_key").run("true")
    server = LoopbackSshd(tmp_path / "passwords", password_only=True)
    try:
        with pytest.raises(UserError, match="it offers passwords, which are never used"):
            SshShell(server.section).run("true")
    finally:
        server.stop()


def test_a_key_that_others_may_read_is_not_used(sshd: LoopbackSshd, tmp_path: Path) -> None:
    loose = tmp_path / "key"
    shutil.copy(sshd.folder / "key", loose)
    loose.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        shell(sshd, identity_file=loose).run("true")


def test_a_name_that_nobody_knows_and_a_closed_port_are_links_that_may_come_back(sshd: LoopbackSshd) -> None:
    with pytest.raises(ConnectionLost, match="resolve"):
        shell(sshd, host="no-such-board.invalid").run("true")
    with pytest.raises(ConnectionLost, match="refused"):
        shell(sshd, port=1).run("true")


def test_a_board_without_python_and_an_agent_that_does_not_run_are_told(sshd: LoopbackSshd, tmp_path: Path) -> None:
    link = AgentLink(SshShell(sshd.section), str(tmp_path / "board"), "s", "python3.99")
    with pytest.raises(UserError, match=r"there is no python3\.99 on .*apt-get install python3.*board\.python"):
        link.check(STAND_IN)
    broken = tmp_path / "paretoseg_agent.pyz"
    broken.write_text("import a_module_that_is_not_there\n")
    with pytest.raises(UserError, match=r"the agent does not run on .*a_module_that_is_not_there.*board\.python"):
        AgentLink(SshShell(sshd.section), str(tmp_path / "board"), "s", python36()).check(broken)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk that can be filled needs root, which CI has")
def test_a_full_disk_on_the_board_is_told_before_and_while_sending(sshd: LoopbackSshd, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=True)
    try:
        link = AgentLink(SshShell(sshd.section), str(disk / "paretoseg"), "s", python36())
        kit = make_kit(tmp_path / "kit")
        (kit / "onnx" / "big.onnx").write_bytes(bytes(8_000_000))
        with pytest.raises(UserError, match=r"the disk of .* is full: .* MB left and needs .*board\.dir"):
            link.send(kit)
        (kit / "onnx" / "big.onnx").unlink()
        link.send(kit)
        assert link.full_disk() is None
        (disk / "filler").write_bytes(bytes(disk_free(disk) - 4096))
        assert "is full" in str(link.full_disk())
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def disk_free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def test_a_folder_that_cannot_be_is_told(sshd: LoopbackSshd, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"file/s on .* cannot be used \(.*Not a directory\)"):
        AgentLink(SshShell(sshd.section), str(tmp_path / "file"), "s", python36()).check(STAND_IN)


def test_an_agent_that_was_killed_or_lost_with_a_reboot_is_seen(tmp_path: Path) -> None:
    link = AgentLink(LocalShell(), str(tmp_path / "board"), "s", python36())
    link.send(make_kit(tmp_path / "kit", seconds=30))
    link.start()
    assert link.poll(0).state == "running"
    wrapper = int(remote(link, "agent.pid").read_text())
    (agent,) = children(wrapper)
    os.kill(agent, signal.SIGKILL)
    assert (ended(link).state, ended(link).code) == ("exit", 137)
    link.start()
    wrapper = int(remote(link, "agent.pid").read_text())
    for pid in (wrapper, *children(wrapper)):
        os.kill(pid, signal.SIGKILL)
    assert ended(link).state == "gone"


def children(pid: int) -> list[int]:
    for _ in range(100):
        found = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("the agent did not start")


def test_a_kit_runs_where_it_was_carried_to_and_its_results_are_found(tmp_path: Path) -> None:
    made, command = make_kit(tmp_path / "kit"), "paretoseg calibrate nano.yaml"
    kit = write_offline_kit(made, tmp_path / "stick" / "kit-0001", device="jetson-nano", hours=1.5, command=command)
    text = (kit / "README.txt").read_text()
    assert "about 1.5 hours" in text and "paretoseg calibrate nano.yaml --results PATH" in text
    with pytest.raises(UserError, match=r"there is no results\.jsonl"):
        find_results(kit)
    done = subprocess.run(
        ["sh", str(kit / "run.sh")], env={**os.environ, "PYTHON": python36()}, cwd=tmp_path, check=False
    )
    assert done.returncode == 0
    assert (
        find_results(kit) == find_results(kit.parent) == find_results(kit / "results.jsonl") == [kit / "results.jsonl"]
    )
    assert (kit / "results.jsonl").read_text().count('"measurement"') == 3

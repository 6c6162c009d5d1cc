"""Checks of each module in the agent's archive, for any Python from 3.6 on, standard library only.

    python3 agent_checks.py ARCHIVE

One test case per module, named by its ``module``; prints a JSON object of failures by module ("" for none).
"""

import ctypes
import errno
import hashlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import types
import unittest
from pathlib import Path
from unittest import mock

ARCHIVE = str(Path(sys.argv[1]).resolve())
sys.path.insert(0, ARCHIVE)

from paretoseg_agent import (  # noqa: E402
    __main__ as command_line,
    child,
    clocks,
    console,
    cores,
    engines,
    errors,
    facts,
    files,
    jobs,
    parity,
    parsers,
    power,
    precision,
    process,
    protocol,
    results,
    sensors,
    session,
    statistics,
    tree,
    trtexec,
    watch,
)
from paretoseg_agent.backends import (  # noqa: E402
    BACKENDS,
    base,
    cuda_runtime,
    onnxruntime,
    tensorrt,
    torch,
    trtexec as trtexec_backend,
)

GPU = "/sys/devices/57000000.gpu/devfreq/57000000.gpu"
RAIL = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"


class Case(unittest.TestCase):
    """A temporary folder, and a board whose files are written below it."""

    module = ""

    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.folder = Path(self.temporary.name)
        self.tree = tree.Tree(str(self.folder / "root"))

    def put(self, absolute, text):
        path = self.tree.path(absolute)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def command(self, name, script):
        self.put("/usr/bin/" + name, "#!/bin/sh\n" + script + "\n").chmod(0o755)

    def gpu(self, low, high, now):
        for which, hz in (("min", low), ("max", high), ("cur", now)):
            self.put(f"{GPU}/{which}_freq", f"{hz}\n")
        self.put(GPU + "/available_frequencies", "76800000 614400000 921600000 \n")


class FakeRunner(base.Runner):
    """Runner that returns given times, round after round."""

    def __init__(self, times):
        base.Runner.__init__(self)
        self.times = times
        self.calls = 0

    def samples(self, count):
        self.calls += 1
        return [self.times[min(self.calls, len(self.times)) - 1]] * count

    def end_to_end(self, count):
        return self.samples(count)


class Errors(Case):
    module = "errors"

    def test_a_full_disk_is_told_from_other_errors(self):
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            self.assertTrue(errors.is_disk_full(OSError(number, "full")))
        self.assertFalse(errors.is_disk_full(OSError(errno.EACCES, "denied")))
        self.assertFalse(errors.is_disk_full(ValueError("no")))

    def test_exit_codes(self):
        self.assertEqual((errors.EXIT_DONE, errors.EXIT_USER, errors.EXIT_RESUMABLE), (0, 2, 3))

    def test_a_job_error_keeps_its_reason(self):
        error = errors.JobError("out of memory", retry=True, log="tail")
        self.assertEqual((str(error), error.retry, error.log), ("out of memory", True, "tail"))


class Files(Case):
    module = "files"

    def test_a_durable_write_replaces_the_file_and_leaves_no_other(self):
        path = self.folder / "state.json"
        path.write_bytes(b"old")
        files.write_durably(path, b"new")
        self.assertEqual(path.read_bytes(), b"new")
        with mock.patch.object(os, "fsync", side_effect=OSError(errno.ENOSPC, "full")):
            self.assertRaises(OSError, files.write_durably, path, b"newer")
        self.assertEqual(path.read_bytes(), b"new")
        self.assertEqual([item.name for item in self.folder.iterdir()], ["state.json"])

    def test_what_cannot_be_read_is_empty(self):
        self.assertEqual(files.read_text(self.folder / "missing"), "")
        self.assertIsNone(files.json_or_none("{"))
        self.assertEqual(files.json_or_none('{"a": 1}'), {"a": 1})

    def test_checksum(self):
        path = self.folder / "network"
        path.write_bytes(b"x" * 3000000)
        self.assertEqual(files.file_sha256(path), hashlib.sha256(b"x" * 3000000).hexdigest())


class Console(Case):
    module = "console"

    def test_letters_that_the_terminal_lacks_are_escaped(self):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        console.say("51 \u00b0C", stream)
        self.assertEqual(stream.buffer.getvalue(), b"51 \\xb0C\n")

    def test_a_closed_terminal_is_no_error(self):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        stream.close()
        console.say("text", stream)

    def test_time_is_utc(self):
        self.assertTrue(console.now_iso().endswith("+00:00"))


class Parsers(Case):
    module = "parsers"

    def test_tegrastats(self):
        text = "RAM 2927/3963MB SWAP 1/2MB CPU [22%@518,off] EMC_FREQ 7%@1600 GR3D_FREQ 99%@921 GPU@56.5C PMIC@-256C POM_5V_IN 8055/7870 \n"
        (sample,) = parsers.parse_tegrastats(text)
        self.assertEqual((sample["ram_used_mb"], sample["gpu_load"], sample["gpu_mhz"]), (2927, 99, 921))
        self.assertEqual(sample["cpu"], [{"load": 22, "mhz": 518}, None])
        self.assertEqual((sample["temps_c"], sample["rails_mw"]), ({"GPU": 56.5}, {"POM_5V_IN": (8055, 7870)}))

    def test_an_unfinished_line_is_no_reading(self):
        self.assertEqual(parsers.complete_lines("a\r\nb"), ["a"])
        self.assertEqual(parsers.parse_frequencies("76800000 921600000"), [76800000])
        self.assertIsNone(parsers.parse_nvpmodel("NV Power Mode: MAX"))
        self.assertEqual(parsers.parse_trans_stat("   76800000:  0  1  12").times_ms, {})

    def test_power_modes(self):
        self.assertEqual(parsers.parse_nvpmodel("NV Power Mode: 5W\n1\n"), ("5W", 1))
        self.assertEqual(parsers.parse_nvpmodel_conf("< POWER_MODEL ID=1 NAME=5W >\n"), {"5w": 1})

    def test_jetson_clocks(self):
        shown = parsers.parse_jetson_clocks_show(
            "cpu0: Online=1 MinFreq=1 MaxFreq=3 CurrentFreq=2\nGPU MinFreq=4 MaxFreq=6 CurrentFreq=5\n"
        )
        self.assertEqual(shown["gpu"], {"min": 4, "max": 6, "cur": 5})
        self.assertEqual(shown["cpus"][0], {"min": 1, "max": 3, "cur": 2, "online": True})
        self.assertEqual(parsers.parse_jetson_clocks_store("/sys/a:12\nno\n"), {"/sys/a": 12})

    def test_kernel_files(self):
        self.assertEqual(parsers.parse_thermal_zones("GPU 41.5\u00b0C\nOFF -256C\n"), {"GPU": 41.5})
        self.assertEqual(
            parsers.parse_trans_stat("*  921600000:  0  1  12\nTotal transition : 3\n"), ({921600000: 12}, 3)
        )
        self.assertEqual(len(parsers.parse_oc_alarms("soctherm: OC ALARM 0x00000001\nother\n")), 1)
        self.assertEqual(parsers.parse_l4t("# R32 (release), REVISION: 7.1, GCID: 1\n"), "32.7.1")

    def test_only_finite_numbers_count(self):
        self.assertEqual(
            [parsers.finite(value) for value in (1, 2.5, True, "3", float("nan"), 10**400)],
            [1.0, 2.5, None, None, None, None],
        )


class TrtexecLogs(Case):
    module = "trtexec"

    def test_a_log(self):
        mark = "&&&& {} TensorRT.trtexec [TensorRT v8201] # trtexec --fp16\n"
        text = mark.format("RUNNING") + "[01/02/2026-10:00:00] [I] Engine built in 12.5 sec.\n"
        text += "[I] GPU Compute Time: min = 3 ms, max = 4 ms, mean = 3.5 ms, median = 3.4 ms, percentile(99%) = 4 ms\n"
        (run,) = trtexec.parse_trtexec(text + mark.format("PASSED"))
        self.assertEqual((run["version"], run["passed"], run["build_s"]), ("8.2.1", True, 12.5))
        self.assertEqual(run["metrics"]["gpu_compute_ms"]["median"], 3.4)
        self.assertEqual(run["metrics"]["gpu_compute_ms"]["percentiles"], {99.0: 4.0})

    def test_two_runs_of_tensorrt_7_without_a_version(self):
        marks = [f"&&&& {word} TensorRT.trtexec # trtexec --onnx={name}.onnx\n"
                 for name in "ab" for word in ("RUNNING", "PASSED")]  # fmt: skip
        lines = "[I] Host Latency\n[I] min: 3 ms (end to end 5 ms)\n[I] max: 4 ms (end to end 6 ms)\n"
        lines += "[I] mean: 3.5 ms (end to end 5.5 ms)\n[I] median: 3.4 ms (end to end 5.4 ms)\n[I] throughput: 0 qps\n"
        runs = trtexec.parse_trtexec(marks[0] + lines + marks[1] + marks[2] + lines + marks[3])
        self.assertEqual([run["passed"] for run in runs], [True, True])
        self.assertEqual([run["command"][-6:] for run in runs], ["a.onnx", "b.onnx"])
        medians = [(run["metrics"]["latency_ms"]["median"], run["metrics"]["end_to_end_ms"]["median"]) for run in runs]
        self.assertEqual(medians, [(3.4, 5.4), (3.4, 5.4)])
        times = trtexec.parse_export_times(
            '[{"startComputeMs": 1, "endComputeMs": 3, "computeMs": 2, "latencyMs": 2.5, "inMs": 0.2, "outMs": 0.3}]'
        )
        self.assertEqual(times, [(1.0, 2.0, 2.5, 0.2, 0.3)])

    def test_a_median_outside_its_range_is_dropped(self):
        line = "[I] GPU Compute Time: min = 3 ms, max = 4 ms, mean = 3.5 ms, median = 34 ms\n"
        self.assertTrue(all(run["metrics"] == {} for run in trtexec.parse_trtexec(line)))

    def test_exports(self):
        good = {"startComputeMs": 10.0, "endComputeMs": 15.0, "computeMs": 5.0, "latencyMs": 5.2}
        records = trtexec.parse_export_times(json.dumps([good, dict(good, computeMs=50.0), 7]))
        self.assertEqual(records, [(10.0, 5.0, 5.2, 0.0, 0.0)])
        self.assertEqual(trtexec.after_warm_up(records, 1.0), [])
        layers = trtexec.parse_export_profile('[{"count": 3}, {"name": "a", "timeMs": 6, "averageMs": 2}]')
        self.assertEqual(layers, (3, [{"name": "a", "time_ms": 6.0, "average_ms": 2.0}]))
        self.assertEqual(trtexec.parse_export_layers('{"Layers": ["a"]}'), [{"name": "a"}])
        self.assertEqual(trtexec.trt_version_text("100300"), "10.3.0")


class Results(Case):
    module = "results"

    def test_a_record_is_read_back_and_a_torn_one_removed(self):
        path = self.folder / "results.jsonl"
        line = results.encode_line({"type": "end", "text": "\u00b0", "value": 1.5})
        path.write_bytes(line + line[:-9])
        opened = results.ResultsFile(path)
        self.assertTrue(opened.repaired)
        opened.append({"type": "measurement", "job_id": "a", "sha256": "1", "precision": "fp16", "power_profile": None})
        found, damaged = results.read_results(path)
        self.assertEqual((len(found), damaged, found[0]["text"]), (2, 0, "\u00b0"))
        self.assertEqual(opened.finished(False), {("a", "1", "fp16", None): "measurement"})

    def test_a_changed_byte_is_noticed(self):
        line = results.encode_line({"type": "end", "value": 19.25})
        self.assertIsNone(results.decode_line(line.replace(b"19.25", b"19.26")))

    def test_a_full_disk_stops_the_run(self):
        opened = results.ResultsFile(self.folder / "results.jsonl")
        with mock.patch.object(os, "write", side_effect=OSError(errno.ENOSPC, "full")):
            self.assertRaises(errors.StopEarly, opened.append, {"type": "end"})
        self.assertEqual(opened.path.read_bytes(), b"")


class TreeOfFiles(Case):
    module = "tree"

    def test_files_below_the_root(self):
        self.put("/proc/a", "12\n\0")
        self.assertEqual(
            (self.tree.number("/proc/a"), self.tree.read("/proc/b"), self.tree.number("/proc/b")), (12, "", None)
        )
        self.assertEqual(self.tree.glob("/proc/*"), ["/proc/a"])

    def test_commands_below_the_root(self):
        self.command("tool", 'cat; echo "$1"; exit 3')
        self.assertEqual(self.tree.run("tool", "word", answer="yes\n"), (3, "yes\nword\n"))
        self.assertEqual(self.tree.run("sh", "-c", "true").code, 127, "only commands of the root itself")
        self.command("slow", "exec sleep 20")
        self.assertEqual(self.tree.run("slow", timeout_s=0.2).code, 124)
        self.assertTrue(self.tree.may_change())


class Sensors(Case):
    module = "sensors"

    def test_a_board(self):
        self.gpu(76800000, 640000000, 76800000)
        self.assertEqual(sensors.Gpu(self.tree).top_hz(), 614400000)
        self.put("/sys/class/thermal/thermal_zone0/type", "GPU-therm\n")
        self.put("/sys/class/thermal/thermal_zone0/temp", "41500\n")
        self.put("/sys/class/thermal/thermal_zone1/type", "PMIC-Die\n")
        self.put("/sys/class/thermal/thermal_zone1/temp", "100000\n")
        temperatures = sensors.read_temperatures(self.tree)
        self.assertEqual((temperatures, sensors.chip_temperature(temperatures)), ({"GPU-therm": 41.5}, 41.5))
        self.put("/proc/meminfo", "MemTotal:  4059276 kB\n")
        self.assertEqual(sensors.read_meminfo(self.tree), {"MemTotal": 4059276})
        live = sensors.read_clocks(self.tree)
        self.assertEqual(sensors.steady_clocks(live, locked=False), {"gpu_max_hz": 640000000})
        self.assertEqual(sensors.steady_clocks(live, locked=True), {"gpu_max_hz": 640000000, "gpu_hz": 76800000})
        self.command("nvpmodel", "printf 'NV Power Mode: MAXN\\n0\\n'")
        self.assertEqual(sensors.power_mode(self.tree), ("MAXN", 0))

    def test_a_machine_without_any(self):
        gpu = sensors.Gpu(self.tree)
        self.assertEqual(
            (gpu.hz("cur"), gpu.top_hz(), gpu.frequencies(), gpu.trans_stat()), (None, None, [], ({}, None))
        )
        self.assertIsNone(sensors.chip_temperature({}))
        self.assertIsNone(sensors.power_mode(self.tree))


class Facts(Case):
    module = "facts"

    def test_a_board(self):
        self.put("/proc/device-tree/model", "NVIDIA Jetson Nano\0")
        self.put("/etc/nv_tegra_release", "# R32 (release), REVISION: 7.1, GCID: 1\n")
        self.put("/usr/local/cuda/version.txt", "CUDA Version 10.2.300\n")
        self.put("/var/lib/dpkg/status", "Package: libnvinfer8\nStatus: ok\nVersion: 8.2.1-1+cuda10.2\n")
        found = facts.board_facts(self.tree)
        self.assertEqual(
            (found["board_model"], found["l4t"], found["jetpack"]), ("NVIDIA Jetson Nano", "32.7.1", "4.6.1")
        )
        self.assertEqual(
            (found["cuda"], found["tensorrt"], found["power_note"]), ("10.2.300", "8.2.1", "no power rail")
        )
        self.assertFalse(found["may_lock_clocks"])

    def test_tensorrt_from_its_header(self):
        lines = [
            f"#define NV_TENSORRT_{name} {number}\n" for name, number in (("MAJOR", 10), ("MINOR", 3), ("PATCH", 0))
        ]
        self.put("/usr/include/NvInferVersion.h", "".join(lines))
        self.assertEqual(facts.installed_tensorrt(self.tree), "10.3.0")
        self.put("/usr/local/cuda/version.json", '{"cuda": {"version": "12.6.1"}}')
        self.assertEqual(facts.cuda_version(self.tree), "12.6.1")


class ClocksOfTheBoard(Case):
    module = "clocks"

    def setUp(self):
        Case.setUp(self)
        self.gpu(76800000, 921600000, 76800000)
        root = str(self.folder / "root")
        lock = "echo 921600000 | tee {0}/min_freq >{0}/cur_freq".format(root + GPU)
        free = "echo 76800000 | tee {0}/min_freq >{0}/cur_freq".format(root + GPU)
        self.command(
            "jetson_clocks", f'case "$1" in --store) echo /sys/a:1 >"$2";; --restore) {free};; *) {lock};; esac'
        )
        self.command(
            "nvpmodel",
            f'f={root}/mode; if [ "$1" = -m ]; then echo $2 >$f; else m=$(cat $f); '
            "[ $m = 0 ] && echo 'NV Power Mode: MAXN' || echo 'NV Power Mode: 5W'; echo $m; fi",
        )
        self.put("/mode", "1\n")

    def test_locked_and_restored_by_another_process(self):
        held = clocks.Clocks(self.tree)
        held.lock("maxn", True)
        self.assertEqual((held.note, held.held), (None, (921600000, None)))
        self.assertEqual(self.tree.read("/mode"), "0\n")
        self.assertIsNone(clocks.Clocks(self.tree).restore())
        self.assertEqual((self.tree.read("/mode"), sensors.Gpu(self.tree).hz("cur")), ("1\n", 76800000))
        self.assertFalse(held.state_path.exists())

    def test_an_unknown_mode_is_a_mistake_and_unlocked_clocks_are_noted(self):
        self.assertRaises(errors.UserMistake, clocks.Clocks(self.tree).lock, "40w", True)
        free = clocks.Clocks(self.tree)
        free.lock(None, False)
        self.assertIn("unlocked", free.note)
        self.assertIsNone(free.held)


class Watching(Case):
    module = "watch"

    def test_a_lower_clock_throttles_a_locked_board_and_is_noise_on_another(self):
        for lock, throttled in ((clocks.Lock(921600000, None), True), (None, False)):
            self.gpu(76800000, 921600000, 921600000)
            observer = watch.Watch(self.tree, lock)
            before = observer.begin()
            self.assertEqual(observer.problems(before, observer.snapshot()), [])
            self.gpu(76800000, 921600000, 614400000)
            observer.tick()
            self.gpu(76800000, 921600000, 921600000)
            (problem,) = observer.problems(before, observer.snapshot())
            self.assertEqual(problem.throttled, throttled)
            self.assertIn("614400000", problem.text)

    def test_alarms_and_temperature(self):
        observer = watch.Watch(self.tree, None)
        before = observer.begin()._replace(temp_c=40.0)
        after = before._replace(temp_c=90.0, oc_alarms=["soctherm: OC ALARM 0x00000001"])
        texts = " ".join(problem.text for problem in observer.problems(before, after))
        for words in ("over-current", "temperature went", "the board is at 90.0"):
            self.assertIn(words, texts)

    def test_cooling_ends_at_the_target(self):
        observer = watch.Watch(self.tree, None)
        observer.cool_down(None, 60.0)
        observer.cool_down(40.0, 60.0)  # no sensor: nothing to wait for


class Power(Case):
    module = "power"

    def meter(self, *rails):
        for index, (name, value) in enumerate(rails):
            self.put(f"{RAIL}/rail_name_{index}", name + "\n")
            self.put(f"{RAIL}/in_power{index}_input", f"{value}\n")
        return power.PowerMeter(self.tree)

    def test_energy_is_the_integral_of_the_whole_board(self):
        meter = self.meter(("POM_5V_IN", 6000), ("POM_5V_GPU", 2500))
        self.assertEqual((meter.total, meter.note, meter.snapshot()["POM_5V_GPU"]), ("POM_5V_IN", None, 2500))
        meter.samples = [(float(at), {"POM_5V_IN": 5000 + 1000 * at}) for at in range(4)]
        self.assertAlmostEqual(meter.integral_mj(0.0, 3.0), 19500.0)
        self.assertIsNone(meter.integral_mj(0.0, 1.0))
        self.assertAlmostEqual(meter.mean_over(0.2), 6000.0)

    def test_rails_that_cannot_be_right(self):
        self.assertEqual(power.PowerMeter(self.tree).note, "no power rail")
        self.assertIn("mislabelled", power.rail_problem({"POM_5V_IN": 3000, "POM_5V_GPU": 8000}))
        self.assertIn("reads 0", power.rail_problem({"POM_5V_IN": 0}))
        self.assertIsNone(power.rail_problem({"POM_5V_IN": 8000, "POM_5V_GPU": 3000}))

    def test_a_board_without_a_total_rail_is_the_sum_of_its_rails(self):
        rails = [("GPU", 1000), ("CPU", 800), ("SOC", 1200), ("CV", 0), ("VDDRQ", 500), ("SYS5V", 2500), ("NC", 0)]
        meter = self.meter(*rails)
        self.assertEqual((meter.total, meter.note), ("GPU + CPU + SOC + CV + VDDRQ + SYS5V", None))
        self.assertAlmostEqual(meter.mean_over(0.2), 6000.0)
        self.assertIsNone(power.rail_problem(meter.snapshot()))
        lost = [(float(at), {"GPU": 1000}) for at in range(4)]
        meter.samples = lost
        self.assertIsNone(meter.integral_mj(0.0, 3.0))

    def test_parts_of_a_module_are_not_the_board(self):
        meter = self.meter(("POM_5V_GPU", 1000), ("POM_5V_CPU", 800))
        self.assertIsNone(meter.total)
        self.assertIn("no power rail for the whole board", meter.note)

    def test_millivolts_and_milliamperes(self):
        folder = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
        for name, text in (("in1_label", "VDD_IN"), ("in1_input", "5000"), ("curr1_input", "1200")):
            self.put(folder + "/" + name, text + "\n")
        self.assertEqual(power.PowerMeter(self.tree).snapshot(), {"VDD_IN": 6000})


class Statistics(Case):
    module = "statistics"

    def test_percentiles_drift_and_samples(self):
        self.assertEqual(statistics.percentile([4.0, 1.0, 3.0, 2.0], 0.5), 2.5)
        self.assertEqual(statistics.median_confidence([1.0] * 5), float("inf"))
        self.assertEqual(statistics.median_confidence([1.0] * 50), 0.0)
        self.assertAlmostEqual(statistics.half_drift([[10.0], [10.0], [12.0], [12.0]]), 0.2)
        self.assertEqual(statistics.thin_out(list(range(10)), 5), [0, 2, 4, 6, 8])


class Protocol(Case):
    module = "protocol"

    def setUp(self):
        Case.setUp(self)
        self.settings = protocol.read_settings(
            {"warmup_s": 0, "min_runs": 20, "max_s": 1, "rounds": 4, "cool_down_s": 0, "max_repeats": 1}
        )
        self.watch = watch.Watch(self.tree, None)

    def test_a_steady_network(self):
        runner = FakeRunner([3.0])
        timing, repeats = protocol.time_runner(runner, FakeRunner([2.0]), self.settings, self.watch)
        self.assertEqual((repeats, len(timing.samples_ms), timing.reference_ms, timing.problems), (0, 20, 2.0, []))

    def test_a_reference_that_drifts_repeats_the_measurement(self):
        reference = FakeRunner([2.0] * 4 + [2.5] * 100)
        timing, repeats = protocol.time_runner(FakeRunner([3.0]), reference, self.settings, self.watch)
        self.assertEqual((repeats, timing.problems), (1, []))

    def test_impossible_times_and_settings(self):
        for samples in ([], [0.0], [-1.0], [float("nan")]):
            self.assertRaises(errors.JobError, protocol.credible, samples)
        for wrong in ({"speed": 1}, {"max_s": -1}, {"min_runs": "many"}):
            self.assertRaises(errors.UserMistake, protocol.read_settings, wrong)

    def test_no_rail_no_energy(self):
        found = protocol.measure_energy(FakeRunner([1.0]), power.PowerMeter(self.tree), 1.0)
        self.assertEqual((found["energy_mj_gross"], found["power_note"]), (None, "no power rail"))


class Precision(Case):
    module = "precision"

    def network(self, data_type):
        tensor = bytes([0x10, data_type]) + b"\x4a\x04\x00\x3c\x00\x3c"
        graph = b"\x2a" + bytes([len(tensor)]) + tensor
        path = self.folder / "network.onnx"
        path.write_bytes(b"\x3a" + bytes([len(graph)]) + graph)
        return path

    def test_the_precision_of_the_weights(self):
        for data_type, name in ((1, "fp32"), (10, "fp16"), (3, "int8"), (7, None)):
            self.assertEqual(precision.onnx_precision(self.network(data_type)), name)
        precision.check_precision(self.network(10), "fp16", "this runtime")
        self.assertRaises(errors.JobError, precision.check_precision, self.network(1), "fp16", "this runtime")

    def test_a_damaged_file_has_none(self):
        path = self.network(10)
        path.write_bytes(path.read_bytes()[:-3])
        self.assertIsNone(precision.onnx_precision(path))


class BackendTable(Case):
    module = "backends"

    def test_the_order_in_which_auto_tries_them(self):
        self.assertEqual(list(BACKENDS), ["tensorrt", "trtexec", "onnxruntime", "torch"])
        self.assertEqual([name for name in BACKENDS if BACKENDS[name].needs_build], ["tensorrt", "trtexec"])


class BackendBase(Case):
    module = "backends.base"

    def test_what_a_runner_does_by_default(self):
        runner = FakeRunner([1.0])
        loop = runner.loop(0.05)
        self.assertGreaterEqual(loop.end - loop.begin, 0.05)
        self.assertEqual((loop.runs, runner.layers(), runner.memory_mb()), (runner.calls, [], None))
        self.assertEqual(base.Backend.build({}), {"build_s": None})


class Cuda(Case):
    module = "backends.cuda_runtime"

    def test_a_machine_without_cuda(self):
        with mock.patch.object(ctypes, "CDLL", side_effect=OSError("no")):
            self.assertRaises(errors.JobError, cuda_runtime.CudaRuntime)

    def test_an_error_has_the_words_of_cuda(self):
        library = mock.Mock()
        library.cudaGetErrorString.return_value = b"out of memory"
        library.cudaMalloc.return_value = 2
        with mock.patch.object(ctypes, "CDLL", return_value=library), self.assertRaises(errors.JobError) as caught:
            cuda_runtime.CudaRuntime().malloc(8)
        self.assertEqual(str(caught.exception), "cudaMalloc: out of memory")


class TensorRtBackend(Case):
    module = "backends.tensorrt"

    def test_int8_needs_quantized_nodes_and_an_unknown_precision_is_refused(self):
        trt = types.SimpleNamespace(BuilderFlag=object(), LayerType=types.SimpleNamespace(QUANTIZE=1))
        network = types.SimpleNamespace(num_layers=1, get_layer=lambda index: types.SimpleNamespace(type=2))
        for asked in ("int8", "fp4"):
            self.assertRaises(
                errors.JobError, tensorrt.TensorRt._set_precision, trt, None, network, {"precision": asked}
            )

    def test_a_machine_without_tensorrt(self):
        with mock.patch.dict(sys.modules, {"tensorrt": None}):
            self.assertRaises(ImportError, tensorrt.TensorRt.version, {})


class TrtexecBackend(Case):
    module = "backends.trtexec"

    def spec(self):
        return {"root": str(self.folder / "root"), "onnx": "net.onnx", "plan": str(self.folder / "net.plan"), "precision": "fp16",
                "workspace_mb": 512, "cache": "cache", "work": str(self.folder)}  # fmt: skip

    def test_the_options_it_has(self):
        self.command("trtexec", "echo '&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec --fp16 --memPoolSize'")
        tool = trtexec_backend.TrtExec(self.spec())
        self.assertEqual((tool.has("--fp16"), tool.has("--memPool"), tool.has("--workspace")), (True, False, False))
        self.assertEqual(trtexec_backend.TrtExec.version(self.spec()), "8.2.1")

    def test_a_failure_has_the_first_error(self):
        self.command("trtexec", "echo '[E] no importer for HardSwish'; echo --fp16; exit 1")
        with self.assertRaises(errors.JobError) as caught, mock.patch.object(sys, "stderr", io.StringIO()):
            trtexec_backend.TrtExec.build(self.spec())
        self.assertIn("HardSwish", caught.exception.reason)

    def test_a_machine_without_it(self):
        self.assertRaises(errors.JobError, trtexec_backend.TrtExec.version, self.spec())


class OnnxRuntimeBackend(Case):
    module = "backends.onnxruntime"

    def test_memory_of_this_process(self):
        self.assertGreater(onnxruntime.peak_memory_mb(), 1.0)

    def test_one_core_counts_its_own_time_and_a_failed_load_is_the_job_s(self):
        runtime = mock.Mock()
        runtime.get_available_providers.return_value = ["CPUExecutionProvider"]
        runtime.InferenceSession.return_value.get_providers.return_value = ["CPUExecutionProvider"]
        runtime.InferenceSession.return_value.get_inputs.return_value = []
        spec = {"onnx": "net.onnx", "threads": 1, "work": str(self.folder)}
        with mock.patch.dict(sys.modules, {"onnxruntime": runtime, "numpy": mock.Mock()}):
            runner = onnxruntime.OnnxRuntimeRunner(spec)
            self.assertTrue(runner.on_one_core)
            self.assertTrue(all(value > 0 for value in runner.samples(3)))
            runtime.InferenceSession.side_effect = RuntimeError("bad model")
            self.assertRaises(errors.JobError, onnxruntime.OnnxRuntimeRunner, spec)


class Cores(Case):
    module = "cores"

    def test_the_lowest_limit_counts(self):
        with mock.patch.object(cores, "_affinity", return_value=8):
            self.assertEqual(cores.available_cores(self.tree, {}), 8)
            self.put("/sys/fs/cgroup/cpu.max", "250000 100000")
            self.assertEqual(cores.available_cores(self.tree, {}), 2)
            self.assertEqual(cores.available_cores(self.tree, {"SLURM_CPUS_PER_TASK": "1"}), 1)


class TorchBackend(Case):
    module = "backends.torch"

    def test_what_it_needs(self):
        self.assertRaises(errors.JobError, torch.TorchCuda.open, {})
        without = types.SimpleNamespace(__version__="2", cuda=types.SimpleNamespace(is_available=lambda: False))
        with mock.patch.dict(sys.modules, {"torch": without}):
            self.assertRaises(errors.JobError, torch.TorchCuda.version, {})
            without.cuda.is_available = lambda: True
            self.assertEqual(torch.TorchCuda.version({}), "2")


class Processes(Case):
    module = "process"

    def run_child(self, task, spec, timeout_s=60.0, stop=None):
        return process.run_child(task, spec, timeout_s, stop or process.StopFlag())

    def test_the_child_is_this_archive(self):
        self.assertEqual(process.agent_command(), [sys.executable, ARCHIVE])
        answer = self.run_child("probe", {"backend": "trtexec", "root": str(self.folder)})
        self.assertIn("trtexec was not found", answer.value["reason"])

    def test_a_crash_and_a_hang_are_described(self):
        crash = self.run_child("no such task", {})
        self.assertIsNone(crash.value)
        self.assertIn("KeyError", crash.crash)
        hang = [sys.executable, "-c", "import time; time.sleep(60)"]
        with mock.patch.object(process, "agent_command", return_value=hang):
            self.assertIn("took longer", self.run_child("probe", {}, timeout_s=0.3).crash)
        kill = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
        with mock.patch.object(process, "agent_command", return_value=kill):
            self.assertIn("out of memory", self.run_child("probe", {}).crash)

    def test_a_signal_stops_it(self):
        stop = process.StopFlag()
        stop._set(signal.SIGTERM, None)
        self.assertRaises(errors.StopEarly, self.run_child, "probe", {}, stop=stop)

    def test_an_orphan_is_killed(self):
        code = ("import subprocess, sys; sys.path.insert(0, {!r}); from paretoseg_agent.process import die_with_parent; "
                "print(subprocess.Popen(['sleep', '30'], preexec_fn=die_with_parent, stdout=subprocess.DEVNULL).pid)")  # fmt: skip
        orphan = int(subprocess.check_output([sys.executable, "-c", code.format(ARCHIVE)]))
        stat = Path(f"/proc/{orphan}/stat")
        deadline = time.monotonic() + 10
        while stat.exists() and stat.read_text().split()[2] != "Z":
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)


class Child(Case):
    module = "child"

    def test_a_measurement_has_its_fields(self):
        fake = types.SimpleNamespace(open=lambda spec: FakeRunner([2.0]))
        settings = dict(protocol.DEFAULTS, warmup_s=0, min_runs=20, max_s=1, energy_s=0)
        spec = {
            "backend": "fake",
            "root": str(self.folder),
            "settings": settings,
            "lock": None,
            "reference": None,
            "kind": "network",
        }
        with mock.patch.dict(child.BACKENDS, {"fake": fake}):
            found = child.child_measure(spec)
        self.assertEqual(
            (found["latency_ms_p50"], found["runs"], found["noisy"], found["repeats"]), (2.0, 20, False, 0)
        )
        self.assertEqual(set(found) & {"layers"}, set())

    def test_the_tasks(self):
        self.assertEqual(sorted(child.CHILD_TASKS), ["build", "infer", "measure", "probe"])
        self.assertEqual(child.child_build({"backend": "onnxruntime"}), {"build_s": None})

    def test_an_answer_goes_through_the_pipe(self):
        reader, writer = os.pipe()
        command = [sys.executable, ARCHIVE, "_child", "build", str(writer), str(os.getpid())]
        done = subprocess.run(command, input=b'{"backend": "torch"}', pass_fds=(writer,))
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            self.assertEqual((json.loads(stream.read().decode()), done.returncode), ({"build_s": None, "ok": True}, 0))


class Parity(Case):
    module = "parity"

    def images(self, pixels):
        table = struct.pack("<768f", *(value / 2.0 - 100.0 * channel for channel in range(3) for value in range(256)))
        path = self.folder / "a.images"
        path.write_bytes(b'{"count": 2, "height_px": 1, "width_px": 2}\n' + table + bytes(pixels))
        return path

    def test_pixels_become_network_inputs_and_outputs_a_file(self):
        images = parity.read_images_file(self.images(range(12)))
        first = struct.unpack("<6f", images.network_input(0))
        self.assertEqual(first, (0.0, 0.5, -99.0, -98.5, -198.0, -197.5))
        echo = types.SimpleNamespace(run=lambda content: (content[:4], 0.0))
        facts = parity.write_outputs(echo, images, self.folder / "outputs" / "a.f32")
        self.assertEqual((facts["file"], facts["images"], facts["bytes"]), ("outputs/a.f32", 2, 8))
        self.assertEqual(struct.unpack("<2f", (self.folder / "outputs" / "a.f32").read_bytes()), (0.0, 3.0))

    def test_a_cut_file_is_no_images_file(self):
        self.assertRaises(errors.JobError, parity.read_images_file, self.images(range(11)))


class Jobs(Case):
    module = "jobs"

    def write(self, **fields):
        job = {"id": "a", "onnx": "a.onnx", "sha256": "0"}
        path = self.folder / "jobs.json"
        path.write_text(json.dumps(dict({"format": "paretoseg jobs", "version": 1, "jobs": [job]}, **fields)))
        return path

    def test_a_job_list(self):
        read = jobs.JobList(self.write(precision="fp16", protocol={"rounds": 7}))
        self.assertEqual(
            (read.precision, read.backend, read.settings.rounds, read.jobs[0].subject), ("fp16", "auto", 7, "a")
        )
        self.assertEqual(read.jobs[0].onnx, self.folder.resolve() / "a.onnx")

    def test_mistakes(self):
        for wrong in (
            {"version": 2},
            {"backend": "tvm"},
            {"threads": 0},
            {"jobs": [{"id": "a"}]},
            {"reference": {"onnx": "missing"}},
        ):
            self.assertRaises(errors.UserMistake, jobs.JobList, self.write(**wrong))


class EngineCache(Case):
    module = "engines"

    def test_kept_until_damaged_or_deleted(self):
        cache = engines.Engines(self.folder, "8.2.1+x")
        job = jobs.Job("a", "a", self.folder / "a.onnx", "f" * 64, "network", None, None, precision="fp16")
        plan = cache.plan(job)
        self.assertEqual(plan.name, "f" * 24 + "-fp16-trt8.2.1_x.plan")
        self.assertIsNone(cache.kept(plan))
        plan.write_bytes(b"engine")
        cache.keep(plan, 12.5)
        self.assertEqual(cache.kept(plan)["build_s"], 12.5)
        elsewhere = engines.Engines(self.folder, "8.2.1+x", {"board_model": "another"})
        self.assertIsNone(elsewhere.kept(plan))
        plan.write_bytes(b"engin")
        self.assertIsNone(cache.kept(plan))
        self.assertTrue(cache.make_room([plan]))
        self.assertFalse(cache.make_room([plan]))


class SessionOfJobs(Case):
    module = "session"

    def test_a_run_without_networks_or_room(self):
        network = self.folder / "a.onnx"
        network.write_bytes(b"x")
        job = {"id": "a", "onnx": "a.onnx", "sha256": "0" * 64}
        (self.folder / "jobs.json").write_text(
            json.dumps({"format": "paretoseg jobs", "version": 1, "backend": "onnxruntime", "jobs": [job]})
        )
        opened = results.ResultsFile(self.folder / "results.jsonl")
        run = session.Session(jobs.JobList(self.folder / "jobs.json"), opened, self.folder, self.tree, False)
        answer = process.Answer({"ok": True, "version": "1.2"}, "", "")
        with mock.patch.object(session, "run_child", return_value=answer), mock.patch.object(sys, "stdout", io.StringIO()), \
                mock.patch.object(sys, "stderr", io.StringIO()), mock.patch.object(run.stop, "listen"):  # fmt: skip
            self.assertEqual(run.run(), 0)
        kinds = [record["type"] for record in opened.records]
        self.assertEqual(kinds, ["board", "failure", "end"])
        self.assertIn("sha256 differs", opened.records[1]["reason"])
        self.assertEqual(opened.records[0]["fingerprint"]["runtime"], "onnxruntime 1.2")
        with mock.patch.object(session.shutil, "disk_usage", return_value=types.SimpleNamespace(free=10)):
            self.assertRaises(errors.StopEarly, run._check_disk)


class CommandLine(Case):
    module = "__main__"

    def main(self, *arguments):
        printed = io.StringIO()
        with mock.patch.object(sys, "stdout", printed), mock.patch.object(sys, "stderr", printed):
            try:
                code = command_line.main(arguments)
            except SystemExit as left:
                code = left.code
        return code, printed.getvalue()

    def test_exit_codes(self):
        root = str(self.folder)
        self.assertEqual(
            self.main("restore", "--root", root), (0, "nothing to give back: no run left the clocks locked\n")
        )
        files_given = ("--jobs", root + "/none", "--results", root + "/r", "--work", root + "/w")
        code, text = self.main("run", *files_given)
        self.assertEqual(code, 2)
        self.assertIn("is no job list", text)
        self.assertEqual(self.main("measure")[0], 2)

    def test_check_describes_the_board(self):
        answers = [process.Answer({"ok": True, "version": "8.2.1"}, "", "")] + [process.Answer(None, "", "crashed")] * 3
        with mock.patch.object(command_line, "run_child", side_effect=answers):
            code, text = self.main("check", "--root", str(self.folder))
        found = json.loads(text)
        self.assertEqual((code, found["python"]), (0, ".".join(map(str, sys.version_info[:3]))))
        self.assertEqual((found["backends"]["tensorrt"], found["backends"]["torch"]), ("8.2.1", "not here: crashed"))


CASES = [case for case in list(globals().values()) if isinstance(case, type) and issubclass(case, Case) and case.module]


def main():
    found = {}
    for case in CASES:
        outcome = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(case).run(outcome)
        assert outcome.testsRun > 0, case
        found[case.module] = "".join(text for _, text in outcome.failures + outcome.errors)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

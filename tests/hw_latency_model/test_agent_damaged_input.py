"""The agent's parsers on truncated recordings, replaced lines, noise and arbitrary JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from agent_recordings import FILES, PARSERS, numbers_in, read
from hypothesis import given, settings, strategies as st

from hw_latency_model.agent.results import decode_line


@pytest.mark.parametrize(("name", "parser"), FILES)
def test_a_cut_file_gives_no_number_that_the_whole_one_does_not_have(shared_dir: Path, name: str, parser: str) -> None:
    text = read(shared_dir, name)
    parse = PARSERS[parser]
    whole = set(numbers_in(parse(text)))
    step = max(1, len(text) // 700)
    for end in [*range(0, len(text), step), *range(max(0, len(text) - 80), len(text))]:
        found = set(numbers_in(parse(text[:end])))
        assert found <= whole, f"cut at {end}: {sorted(found - whole)}"


@pytest.mark.parametrize("parser", sorted(PARSERS))
@settings(max_examples=60, deadline=None)
@given(noise=st.text(max_size=300))
def test_noise_gives_nothing_and_raises_nothing(parser: str, noise: str) -> None:
    result = PARSERS[parser](noise + "\n")
    assert all(number == number and abs(number) != float("inf") for number in numbers_in(result))


@pytest.mark.parametrize(("name", "parser"), FILES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_garbage_inside_a_file_raises_nothing(shared_dir: Path, name: str, parser: str, data: st.DataObject) -> None:
    """A line is replaced by noise: what the other lines say stays what it was, and nothing of the noise is believed."""
    lines = read(shared_dir, name).split("\n")
    at = data.draw(st.integers(0, len(lines) - 1))
    # Digits of other scripts stay in: they are digits to Python, and none that a tool prints.
    noise = data.draw(st.text(st.characters(exclude_characters="0123456789\n", exclude_categories=["Cs"]), max_size=80))
    whole = set(numbers_in(PARSERS[parser]("\n".join(lines))))
    spoilt = set(numbers_in(PARSERS[parser]("\n".join([*lines[:at], noise, *lines[at + 1 :]]))))
    assert spoilt <= whole


def test_numbers_too_long_to_be_any() -> None:
    long = "9" * 5000
    texts = [f"RAM {long}/{long}MB X {long}/{long} ", f"NV Power Mode: MAXN\n{long}\n", f"[I] Throughput: {long} qps\n",
             f"[I] Timing trace has {long} queries over 3 s\n", f"[I] Engine built in 1e{long} sec.\n", f"{long} \n",
             f"   {long}:  1 2\n", f"GPU MinFreq={long}\n", f"/sys/x:{long}\n", f"A {long}C\n"]  # fmt: skip
    for text in texts:
        assert not [number for parse in PARSERS.values() for number in numbers_in(parse(text)) if number > 1e300]


@settings(max_examples=60, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["computeMs", "latencyMs", "startComputeMs", "endComputeMs", "count", "name", "timeMs",
                                           "averageMs", "Layers", "Name", "Inputs", "Dimensions"]), inner, max_size=5),
        max_leaves=20,
    )
)  # fmt: skip
def test_any_json_is_survived(value: Any) -> None:
    text = json.dumps(value)
    for parser in ("times", "profile", "layers"):
        assert all(abs(number) != float("inf") for number in numbers_in(PARSERS[parser](text)))
    assert decode_line(text) is None

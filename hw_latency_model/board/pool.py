"""Pool of candidates for measurement on a board: networks that cover the search space, and chains cut from some of them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

from exports import DeviceProfile, ExportError, export_onnx, lint_onnx
from hw_latency_model.board.kernel_chains import cut_chains
from hw_latency_model.board.plan import KERNELS, NETWORK, Suggestion, anonymous
from hw_latency_model.kernels.candidate_kernels import CandidateKernels
from hw_latency_model.kernels.extract import kernels_from_onnx
from hw_latency_model.local.calibration import subject_of
from hw_latency_model.local.sampling import covering_order
from hw_latency_model.types import KernelSpec
from search_spaces import Candidate, SearchSpace
from search_spaces.describe import architecture_words

CHAIN_PARENTS = 6


class BoardPool:
    """Candidates for measurement, with the ONNX file of each.

    Args:
        space: search space of the networks.
        num_classes: channels of the logits.
        profile: export profile; networks that it does not allow are left out, each with its reason in ``skipped``.
        runtime: runtime whose fusion rules apply.
        seed: seed of the sample.
        networks: number of networks sampled from the space.
    """

    def __init__(
        self, space: SearchSpace, num_classes: int, profile: DeviceProfile, *, runtime: str, seed: int, networks: int
    ) -> None:
        self._space, self._num_classes, self._profile, self._runtime = space, num_classes, profile, runtime
        self._kernels = CandidateKernels(space, num_classes, runtime=runtime)
        order = covering_order(space, networks, seed=seed)
        self._candidates = {subject_of(space, candidate, num_classes): candidate for candidate in order}
        self._chains: dict[str, tuple[bytes, tuple[KernelSpec, ...]]] = {}
        self.skipped: dict[str, str] = {}

    def networks(self) -> list[Suggestion]:
        """Whole networks in covering order."""
        return [
            Suggestion(key, NETWORK, self._kernels(candidate))
            for key, candidate in self._candidates.items()
            if key not in self.skipped
        ]

    def chains(self) -> list[Suggestion]:
        """Chains cut from the first networks, ordered greedily by the number of new kernels."""
        if not self._chains:
            self._cut()
        left = {key: {anonymous(kernel) for kernel in kernels} for key, (_, kernels) in self._chains.items()}
        order: list[str] = []
        seen: set[KernelSpec] = set()
        while left:
            best = max(left, key=lambda key: len(left[key] - seen))
            seen |= left.pop(best)
            order.append(best)
        return [Suggestion(key, KERNELS, self._chains[key][1]) for key in order]

    def family(self, key: str) -> str:
        """Return the family of a suggestion; all chains form one family."""
        candidate = self._candidates.get(key)
        return KERNELS.value if candidate is None else str(candidate.params.get("family", ""))

    def write(self, key: str, path: Path) -> tuple[KernelSpec, ...] | None:
        """Write the suggestion's ONNX file and return its kernels; None, with the reason in ``skipped``, if the device does not
        support it.

        Raises:
            UserError: the file cannot be written.
        """
        if key in self._chains:
            payload, kernels = self._chains[key]
            path.write_bytes(payload)
            return kernels
        return self._export(self._candidates[key], path)

    def describe(self, key: str) -> str:
        """Describe the suggestion briefly."""
        candidate = self._candidates.get(key)
        if candidate is None:
            heavy = sum(kernel.macs > 0 for kernel in self._chains[key][1]) if key in self._chains else 0
            return f"chain of {heavy} convolutions" if heavy else "chain of kernels"
        return architecture_words(candidate.params)

    def _export(self, candidate: Candidate, path: Path) -> tuple[KernelSpec, ...] | None:
        key = subject_of(self._space, candidate, self._num_classes)
        net = self._space.build_pruned(candidate, self._num_classes)
        try:
            export_onnx(
                net,
                self._space.input_hw(candidate),
                path,
                opset=self._profile.opset,
                subject=f"candidate {candidate.id}",
            )
        except ExportError as error:
            self.skipped[key] = str(error)
            return None
        errors = [finding.message for finding in lint_onnx(path, self._profile) if finding.severity == "error"]
        if errors:
            self.skipped[key] = f"{self.describe(key)}: {self._profile.name} would refuse it ({errors[0]})"
            path.unlink()
            return None
        return tuple(kernels_from_onnx(path, runtime=self._runtime))

    def _cut(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            parents = 0
            for candidate in self._candidates.values():
                path = Path(folder) / "parent.onnx"
                if self._export(candidate, path) is None:
                    continue
                for chain in cut_chains(path):
                    kernels = tuple(kernels_from_onnx(chain, runtime=self._runtime))
                    self._chains.setdefault(_chain_key(kernels), (_bytes_of(chain), kernels))
                parents += 1
                if parents == CHAIN_PARENTS:
                    return


def _chain_key(kernels: Sequence[KernelSpec]) -> str:
    text = json.dumps([anonymous(kernel).to_dict() for kernel in kernels], sort_keys=True)
    return f"chain-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _bytes_of(model: onnx.ModelProto) -> bytes:
    payload: bytes = model.SerializeToString(deterministic=True)
    return payload

"""The latency model of one device: fit, predict with an interval, update; energy and peak memory alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.conformal import Margins, Scores
from hw_latency_model.model.estimate import estimates
from hw_latency_model.model.fit import Fit
from hw_latency_model.model.fit_quality import FitQuality
from hw_latency_model.model.prior import KernelPrior
from hw_latency_model.model.targets import kernels_for
from hw_latency_model.types import KernelSpec, LatencyEstimate, Measurement, TargetEstimate, fingerprint_id

LEVEL = 0.9
MIN_MEASUREMENTS = 5
CHUNK = 1000
"""Networks that are predicted together."""


@dataclass(frozen=True)
class LatencyModel:
    """Predicts latencies on the device whose fingerprint it carries.

    A prior gives each kernel's cost: a typed roofline, and where kernels were timed inside their networks a learned
    factor on it; or one that came in the box. A Gaussian process corrects the network's total. The interval is
    conformal: its margin, in units of the predicted standard deviation, is a quantile of errors on networks left out,
    against single, raw measurements, so the machine's own noise is inside it. The margin grows with the distance from
    what was measured, from that of networks left out alone to that of networks whose whole family was left out.

    Attributes:
        device: name of the device.
        fingerprint: of the machine at calibration.
        margins: conformal quantiles, in standard deviations.
        quality: what cross-validation found.
        fitted_at: ISO 8601, UTC.
        precision: of the networks that were measured.
        target: what is predicted, in the unit of its name: ``latency_ms``, ``energy_mj`` or ``memory_peak_mb``.
        calibrated: measured on the user's own device; False for what comes in the box.
        provenance: where an uncalibrated model's numbers come from; empty for a calibrated one.
        scores: of cross-validation, which ``update`` adds to; None in a model of an older release.
    """

    device: str
    fingerprint: Mapping[str, Any]
    fit_result: Fit
    margins: Margins
    quality: FitQuality
    fitted_at: str
    level: float = LEVEL
    precision: str = "fp32"
    target: str = "latency_ms"
    calibrated: bool = True
    provenance: str = ""
    scores: Scores | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of kernel that were measured."""
        return self.fit_result.prior.kinds

    @property
    def fingerprint_id(self) -> str:
        return fingerprint_id(self.fingerprint)

    @classmethod
    def fit(
        cls,
        measurements: Sequence[Measurement],
        *,
        device: str,
        fingerprint: Mapping[str, Any],
        level: float = LEVEL,
        target: str = "latency_ms",
        prior: KernelPrior | None = None,
    ) -> LatencyModel:
        """Fit on measurements that carry their kernels.

        Args:
            target: what to predict, one of ``targets.TARGETS``.
            prior: start from this one (a boxed prior, another device's) and fit its scale and a correction only; None
                fits a prior to the measurements themselves.

        Raises:
            ValueError: a measurement has no kernels, or is of another device or fingerprint.
            UserError: fewer than five different networks were measured, or one was not measured for this target.
        """
        from hw_latency_model.model.building import fitted

        return fitted(measurements, device=device, fingerprint=fingerprint, level=level, target=target, prior=prior)

    @classmethod
    def from_prior(
        cls,
        prior: KernelPrior,
        *,
        device: str,
        precision: str,
        fingerprint: Mapping[str, Any],
        log_std: float,
        quality: FitQuality,
        provenance: str,
        networks: Sequence[Sequence[KernelSpec]] = (),
        margin: float = 1.645,
        level: float = LEVEL,
        target: str = "latency_ms",
    ) -> LatencyModel:
        """A model out of a prior alone, ``calibrated=False``: wide and honest until the user's own device was measured.

        Args:
            log_std: standard deviation of the prior's log error on whole networks it was not fitted on.
            quality: what was found on them.
            provenance: where the prior's numbers come from, for people.
            networks: kernels of the networks the prior was fitted on; outside their sizes the interval widens.
            margin: half width of the interval in ``log_std``.
        """
        from hw_latency_model.model.building import out_of_prior

        return out_of_prior(
            prior,
            device=device,
            precision=precision,
            fingerprint=fingerprint,
            log_std=log_std,
            quality=quality,
            provenance=provenance,
            networks=networks,
            margin=margin,
            level=level,
            target=target,
        )

    def predict(self, kernels: Sequence[KernelSpec] | KernelTable) -> LatencyEstimate:
        """Latency in ms with its interval; always positive, wider far from what was measured.

        Raises:
            ValueError: there is no kernel that takes time, or the model's target is no latency.
        """
        return self.estimate([kernels], per_kernel=True)[0].as_latency()

    def predict_many(
        self, networks: Sequence[Sequence[KernelSpec] | KernelTable], *, per_kernel: bool = False
    ) -> list[LatencyEstimate]:
        """``predict`` for many networks at once: thousands per second, most of all where they are tables already.

        Args:
            networks: kernels of each, or their ``KernelTable.of``.
            per_kernel: fill in the estimates' ``per_kernel``, which takes longer than all else.
        """
        return [item.as_latency() for item in self.estimate(networks, per_kernel=per_kernel)]

    def estimate(
        self, networks: Sequence[Sequence[KernelSpec] | KernelTable], *, per_kernel: bool = False
    ) -> list[TargetEstimate]:
        """The model's target of each network, in its unit, with its interval.

        Raises:
            ValueError: a network has no kernel that costs anything.
        """
        result: list[TargetEstimate] = []
        for start in range(0, len(networks), CHUNK):
            tables = [self._table(item) for item in networks[start : start + CHUNK]]
            result += estimates(self, tables, per_kernel)
        return result

    def update(self, measurements: Sequence[Measurement]) -> LatencyModel:
        """A model that has learnt from further measurements on the same machine, without the earlier ones at hand.

        The prior stays; the correction is conditioned on the new networks exactly as if they had been there from the
        start. They were predicted before they were measured, so their errors also go into the interval. With the store
        at hand, ``fit`` on everything is better still: it teaches the prior, too.

        Raises:
            ValueError: a measurement has no kernels, or is of another device or fingerprint.
        """
        from hw_latency_model.model.building import updated

        return updated(self, measurements)

    def suggest_measurements(
        self,
        candidates: Sequence[Sequence[KernelSpec] | KernelTable],
        budget: float,
        *,
        cost: Callable[[LatencyEstimate], float] | None = None,
    ) -> list[int]:
        """Which of the candidates to measure next, the most telling first, as far as the budget goes.

        Kernels of kinds never measured come first, then whatever takes most uncertainty out of all candidates together.

        Args:
            budget: what may be spent, in the unit of ``cost``.
            cost: of measuring a candidate of that estimate, such as seconds of engine build; None: each costs 1.

        Returns:
            Indices into ``candidates``.
        """
        from hw_latency_model.model.suggest import suggest

        return suggest(self, [self._table(item) for item in candidates], budget, cost)

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically; every number survives exactly.

        Raises:
            UserError: the file cannot be written.
        """
        from hw_latency_model.model.file import save_model

        save_model(self, path)

    @classmethod
    def load(cls, path: Path, *, fingerprint: Mapping[str, Any] | None = None) -> LatencyModel:
        """Read a saved model.

        Args:
            path: the JSON file.
            fingerprint: of the machine that it shall speak for; None takes whatever machine it was fitted on.

        Raises:
            UserError: the file is missing, damaged, of another version, or of another machine than asked for.
        """
        from hw_latency_model.model.file import load_model

        return load_model(path, fingerprint)

    def _table(self, network: Sequence[KernelSpec] | KernelTable) -> KernelTable:
        if isinstance(network, KernelTable) and self.target != "memory_peak_mb":
            return network
        kernels = network.kernels if isinstance(network, KernelTable) else network
        if not kernels:
            raise ValueError("a latency can only be predicted for a network with at least one kernel that takes time")
        return KernelTable.of(kernels_for(kernels, self.target))

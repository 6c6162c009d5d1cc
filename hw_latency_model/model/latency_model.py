"""Latency model of one device: fit, predict with an interval, update; also for energy and peak memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from hw_latency_model.model.bounds import PhysicalBounds
from hw_latency_model.model.conformal import Margins
from hw_latency_model.model.estimate import Network, estimates
from hw_latency_model.model.file import identity, load_state, save_state
from hw_latency_model.model.fitting import fit_state, timestamp, uncalibrated_fit
from hw_latency_model.model.prior import KernelPrior
from hw_latency_model.model.state import LEVEL, FitQuality, ModelState
from hw_latency_model.model.suggest import suggest
from hw_latency_model.model.update import update_state
from hw_latency_model.types import KernelSpec, LatencyEstimate, Measurement, TargetEstimate


@dataclass(frozen=True)
class LatencyModel(ModelState):
    """Predictor of latencies on the device with its fingerprint.

    A prior gives each kernel's cost: a typed roofline, with a learned factor if kernel profiles exist; or a bundled prior.
    A Gaussian process corrects the network's total. The interval is conformal: its margin, in units of the predicted
    standard deviation, is a quantile of cross-validated errors against single, raw measurements, so it includes the noise
    of the machine. The margin grows with the distance from the measured networks, from the leave-one-out to the
    leave-family-out margin.

    Attributes:
        device: name of the device.
        fingerprint: of the machine at calibration.
        fit_result: prior and correction.
        margins: conformal quantiles, in standard deviations.
        quality: cross-validated accuracy.
        fitted_at: ISO 8601, UTC.
        level: nominal probability of the intervals.
        precision: of the measured networks.
        target: predicted quantity, in the unit of its name: ``latency_ms``, ``energy_mj`` or ``memory_peak_mb``.
        calibrated: measured on the user's own device; False for a bundled model.
        provenance: source of an uncalibrated model's numbers; empty for a calibrated one.
        scores: of cross-validation, extended by updates; None in a model of an older release.
        group_margins: margins of groups of networks that are calibrated apart, by name; ``margins`` for all others.
        bounds: physical bounds of any network's latency; None in a model of an older release.
    """

    @classmethod
    def of(cls, state: ModelState) -> Self:
        """Create the model with this state."""
        return cls(**{item.name: getattr(state, item.name) for item in fields(ModelState)})

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
    ) -> Self:
        """Fit on measurements that carry their kernels.

        Args:
            measurements: measurements of one device, fingerprint and precision.
            device: name of the device.
            fingerprint: fingerprint of the machine.
            level: nominal probability of the intervals.
            target: predicted quantity, one of ``targets.TARGETS``.
            prior: fixed prior (bundled, or of another device), of which only the scale and a correction are fitted; None
                fits a prior to the measurements.

        Raises:
            ValueError: a measurement has no kernels, or is of another device or fingerprint.
            UserError: fewer than five different networks were measured, or one was not measured for this target.
        """
        return cls.of(
            fit_state(measurements, device=device, fingerprint=fingerprint, level=level, target=target, prior=prior)
        )

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
        margin: float | Margins = 1.645,
        level: float = LEVEL,
        target: str = "latency_ms",
        group_margins: Mapping[str, Margins] | None = None,
        bounds: PhysicalBounds | None = None,
    ) -> Self:
        """Create a model of a prior alone, ``calibrated=False``, with wide intervals until the device is measured.

        Args:
            prior: cost of every kernel.
            device, precision, fingerprint, level, target: as in ``ModelState``.
            log_std: standard deviation of the prior's log error on held-out networks.
            quality: accuracy on them.
            provenance: source of the prior's numbers.
            networks: kernels of the networks the prior was fitted on; outside their sizes the interval widens.
            margin: half width of the interval in ``log_std``, the same for all networks or by their distance.
            group_margins, bounds: as in ``ModelState``.
        """
        return cls(
            device=device,
            fingerprint=dict(fingerprint),
            fit_result=uncalibrated_fit(prior, log_std, networks),
            margins=margin if isinstance(margin, Margins) else Margins(margin, margin),
            quality=quality,
            fitted_at=timestamp(),
            level=level,
            precision=precision,
            target=target,
            calibrated=False,
            provenance=provenance,
            group_margins=group_margins or {},
            bounds=bounds,
        )

    def predict(self, kernels: Network) -> LatencyEstimate:
        """Predict the latency in ms with its interval; always positive, wider far from the measured networks.

        Raises:
            ValueError: no kernel takes time, or the model's target is not a latency.
        """
        return self.predict_many([kernels], per_kernel=True)[0]

    def predict_many(self, networks: Sequence[Network], *, per_kernel: bool = False) -> list[LatencyEstimate]:
        """Predict many networks at once: thousands per second, fastest from tables.

        Args:
            networks: kernels of each, or their ``KernelTable.of``.
            per_kernel: fill in the estimates' ``per_kernel``, which dominates the run time.
        """
        return [item.as_latency() for item in self.estimate(networks, per_kernel=per_kernel)]

    def estimate(self, networks: Sequence[Network], *, per_kernel: bool = False) -> list[TargetEstimate]:
        """Estimate the model's target of each network, in its unit, with its interval.

        Raises:
            ValueError: a network has no kernel that costs anything.
        """
        return estimates(self, networks, per_kernel=per_kernel)

    def update(self, measurements: Sequence[Measurement]) -> Self:
        """Update with further measurements on the same machine, without access to the earlier ones.

        The prior does not change; the correction is conditioned on the new networks with the same result as in one fit. Their
        errors by the previous model also enter the interval. With the store available, ``fit`` to all measurements is
        better, as it also fits the prior.

        Raises:
            ValueError: a measurement has no kernels, or is of another device or fingerprint.
        """
        return update_state(self, measurements)

    def suggest_measurements(
        self,
        candidates: Sequence[Network],
        budget: float,
        *,
        cost: Callable[[LatencyEstimate], float] | None = None,
    ) -> list[int]:
        """Choose candidates to measure next, the most informative first, within the budget.

        Kernels of kinds never measured come first, then the networks that reduce the uncertainty of all candidates most.

        Args:
            candidates: kernels of each.
            budget: total cost allowed, in the unit of ``cost``.
            cost: cost of measuring a candidate given its estimate, such as seconds of engine build; None: each costs 1.

        Returns:
            Indices into ``candidates``.

        Raises:
            ValueError: a cost is not above 0, or ``cost`` is given for a model of another target than latency.
        """
        return suggest(self, candidates, budget, cost)

    def identity(self) -> str:
        """Return a short hash of what the predictions follow from; equal for equal predictions of one release."""
        return identity(self)

    def save(self, path: Path) -> None:
        """Write the model as JSON, atomically, with exact numbers.

        Raises:
            UserError: the file cannot be written.
        """
        save_state(self, path)

    @classmethod
    def load(cls, path: Path, *, fingerprint: Mapping[str, Any] | None = None) -> Self:
        """Read a saved model.

        Args:
            path: the JSON file.
            fingerprint: required fingerprint; None accepts any.

        Raises:
            UserError: the file is missing, damaged, of another version, or of another machine than ``fingerprint``.
        """
        return cls.of(load_state(path, fingerprint))

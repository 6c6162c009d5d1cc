"""The training of one candidate, epoch by epoch: train, prune on the way, fine-tune, evaluate; exactly resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from objectives.data import ArraySplit
from objectives.data.base import IMAGENET, Normalisation
from objectives.trial_score import TrialScore
from search_spaces import SearchSpace
from search_spaces.networks.segmentation_net import SegmentationNet, upsample_logits
from search_spaces.pruning.prune import fit_shape
from trial_runner.training.augmentation import Augmentation
from trial_runner.training.batches import epoch_batches, plain_batches
from trial_runner.training.checkpoint import Checkpoint, finished_checkpoint
from trial_runner.training.distillation import Teacher, teacher_of
from trial_runner.training.distributed import DistributedContext
from trial_runner.training.ema import ExponentialMovingAverage
from trial_runner.training.evaluator import Evaluator
from trial_runner.training.losses import class_weights, segmentation_loss
from trial_runner.training.optimizers import make_optimizer, rate_factor, set_rate
from trial_runner.training.precise_bn import update_bn_statistics
from trial_runner.training.pruning_stage import PruningStage
from trial_runner.training.quantization import PrecisionStage
from trial_runner.training.relative_weights import inherit_from
from trial_runner.training.runtime import compiled, memory_format, translate_errors
from trial_runner.training.trial_spec import TrialFailed, TrialSpec


class Trainer:
    """A candidate's network, optimizer and curve.

    The learning rate follows `rate_factor` over all epochs; with EMA the average is evaluated. After ``prune_after`` of the epochs
    the network is pruned to its final shape and the optimizer restarts, unless the prune ratio is 0. A final training starts from
    a finished trial's weights and shape. All randomness comes from the study's seed and the epoch: continuing from `state` is, on
    a CPU, bit for bit equal to an uninterrupted training. With several processes (`DistributedContext`) each takes a part of every
    batch.

    Attributes:
        net: as trained so far. epoch: epochs done. curve: (epoch, val_miou) of every evaluation. score: the last evaluation.
        train_s: seconds of training; data_s: those of them spent waiting for a batch, since the trainer was made.
    """

    def __init__(
        self,
        spec: TrialSpec,
        space: SearchSpace,
        train: ArraySplit,
        val: ArraySplit,
        *,
        num_classes: int,
        ignore_index: int,
        device: torch.device,
        resume: Checkpoint | None = None,
        context: DistributedContext = DistributedContext(),  # noqa: B008
        normalisation: Normalisation = IMAGENET,
    ) -> None:
        self._spec, self._space, self._train = spec, space, train
        self._ignore_index, self._device, self._normalisation = ignore_index, device, normalisation
        self._config, self._context = spec.training, context
        self._seed = spec.config.study.seed if spec.seed is None else spec.seed
        hyper = space.hyperparameters(spec.candidate)
        self._learning_rate, self._weight_decay = hyper["learning_rate"], hyper["weight_decay"]
        self._evaluator = Evaluator(
            spec,
            space,
            val,
            num_classes=num_classes,
            ignore_index=ignore_index,
            device=device,
            context=context,
            normalisation=normalisation,
        )
        self._teacher: Teacher | None = teacher_of(spec, space, num_classes, device, normalisation)
        self._mixed = self._config.mixed_precision and device.type == "cuda"
        self._epochs = spec.epochs
        self._prune_epoch = spec.prune_epoch
        ratio, cut = space.prune_ratio(spec.candidate), self._prune_epoch
        stage = PruningStage(self._config.pruning, ratio, spec.channels, cut_epoch=cut, seed=self._seed)
        self._pruning = stage if ratio else None
        self._weights = (
            class_weights(train.train_labels, num_classes, ignore_index).to(device)
            if self._config.loss.class_weights == "sqrt_inverse"
            else None
        )
        start = resume or (finished_checkpoint(spec.continues) if spec.continues else None)
        self.epoch = resume.epoch if resume else 0
        self.pruned = start.pruned if start else False
        self.curve = list(resume.curve) if resume else []
        self.train_s = resume.train_s if resume else 0.0
        self.data_s = 0.0
        self.score = TrialScore.from_dict(resume.score) if resume and resume.score else None
        net = space.build(spec.candidate, num_classes, seed=self._seed)
        self.net: nn.Module = (fit_shape(net, start.weights) if start else net).to(device)
        self._precision = PrecisionStage(
            spec,
            space.input_hw(spec.candidate),
            train.images,
            device,
            epochs=self._epochs,
            prune_epoch=self._prune_epoch if self._pruning else 0,
            normalisation=normalisation,
        )
        self._cached_epochs = int((resume.score or {}).get("cached_epochs", 0)) if resume else 0
        if resume:
            self.net = self._precision.resumed(self.net, resume)
        if not resume or self._cached_epochs:
            self._precision.check(self.net)
        if start:
            self.net.load_state_dict(resume.model if resume else start.weights)
        self.initial_weights = self._initial_weights(start)
        self._start_steps()
        if resume:
            self.optimizer.load_state_dict(resume.optimizer)
            if self.average and resume.average:
                self.average.load(resume.average)
            if self._pruning and resume.pruning:
                self._pruning.load(self.net, resume.pruning)  # type: ignore[arg-type]

    @property
    def images(self) -> int:
        """Training images per epoch, over all processes."""
        return len(self._train.images)

    @property
    def done(self) -> bool:
        return self.epoch >= self._epochs

    @property
    def evaluated(self) -> bool:
        """True if the curve ends at the present epoch."""
        return bool(self.curve) and self.curve[-1][0] == self.epoch

    def aim_for(self, epochs: int) -> None:
        """End the training after ``epochs`` in total, for trainings with a time budget."""
        self._epochs = max(epochs, self.epoch)

    def run_epoch(self, *, evaluate: bool | None = None) -> TrialScore | None:
        """Train one epoch; return its evaluation, or None where none is due (``evaluate``, by default ``evaluate_every``). The last
        epoch is always evaluated.

        Raises:
            TrialFailed: the loss or the weights are no longer finite, or the memory did not suffice.
            UserError: it could not be compiled.
        """
        started = time.monotonic()
        with translate_errors(self._config, self._context):
            if self._pruning and not self.pruned and self.epoch >= self._prune_epoch:
                self.net = self._pruning.cut(self.net)  # type: ignore[arg-type]
                self.pruned = True
                self._start_steps()
            if self._precision.due(self.epoch):
                self.net = self._precision.begin(self._evaluation_net())
                self._start_steps()
            self._train_epoch()
            self.epoch += 1
            self.train_s += time.monotonic() - started
            due = self.epoch % self._config.evaluate_every == 0 if evaluate is None else evaluate
            return self.evaluate() if due or self.done else None

    def evaluate(self) -> TrialScore:
        """Evaluate the network and append the result to the curve."""
        self.score = self._evaluator.evaluate(
            self._evaluation_net(),
            self._precision,
            epoch=self.epoch,
            epochs_total=self._epochs,
            train_s=self.train_s,
            initial_weights=self.initial_weights,
            cached_epochs=self._cached_epochs,
        )
        self.curve.append((self.epoch, self.score.val_miou))
        return self.score

    def state(self) -> Checkpoint:
        return Checkpoint(
            fingerprint=self._spec.fingerprint,
            epoch=self.epoch,
            pruned=self.pruned,
            model=self.net.state_dict(),
            optimizer=self.optimizer.state_dict(),
            curve=tuple(self.curve),
            train_s=self.train_s,
            score=self.score.to_dict() if self.score else None,
            average=self.average.state() if self.average else None,
            pruning=self._pruning.state() if self._pruning and not self.pruned else None,
            quantization=self._precision.packed(self._evaluated),
        )

    def _initial_weights(self, start: Checkpoint | None) -> str:
        """Load pretrained weights into a new network; return their description."""
        if start:
            known = start.score.get("initial_weights") if start.score else None
            return str(known or "random")
        net: SegmentationNet = self.net  # type: ignore[assignment]
        loaded = self._space.load_pretrained(net, self._spec.candidate, self._config.weights)
        relative = self._spec.relative
        if relative is None:
            return loaded
        return f"{inherit_from(relative, self._spec, self._space, net)}, else {loaded}"

    def _start_steps(self) -> None:
        """Create everything bound to the current parameters: memory format, optimizer, EMA, DDP module."""
        self._layout = memory_format(self.net, self._config)
        self.net.to(memory_format=self._layout)
        self._step_net = self._context.wrap_ddp(compiled(self.net, self._config), self._device)
        self.optimizer = make_optimizer(self.net, self._config, self._learning_rate, self._weight_decay)
        decay = self._config.ema_decay
        self.average = ExponentialMovingAverage(self.net, decay) if decay else None

    @property
    def _evaluated(self) -> nn.Module:
        return self.average.net if self.average else self.net

    def _train_epoch(self) -> None:
        config = self._config
        self.net.train()
        steps = max(len(self._train.images) // config.batch_size, 1)
        batches = epoch_batches(
            self._train.images,
            self._train.train_labels,
            config.batch_size,
            Augmentation(
                config.min_scale,
                config.max_scale,
                config.colour_jitter,
                1.0 if self._precision.training_rounded else config.crop_ratio,  # it takes images of one size
                config.label_stride,
            ),
            seed=self._seed,
            epoch=self.epoch,
            ignore_index=self._ignore_index,
            device=self._device,
            part=(self._context.rank, self._context.size),
            normalisation=self._normalisation,
        )
        previous_loss: Tensor | None = None
        waiting_since = time.monotonic()
        for step, (images, labels) in enumerate(batches):
            self.data_s += time.monotonic() - waiting_since
            set_rate(self.optimizer, rate_factor(config, self.epoch + step / steps, self._epochs))
            loss = self._loss(images.contiguous(memory_format=self._layout), labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.net.parameters(), config.gradient_clip_norm)
            self.optimizer.step()
            if self._pruning and not self.pruned:
                self._pruning.after_step(self.net, self.optimizer, self.epoch + step / steps)  # type: ignore[arg-type]
            if self.average:
                self.average.update(self.net)
            self._require_finite(previous_loss)  # the step before: a GPU has the next one to do while this one waits
            previous_loss = self._context.mean(loss.detach())
            waiting_since = time.monotonic()
        self._require_finite(previous_loss)

    def _require_finite(self, loss: Tensor | None) -> None:
        if loss is not None and not math.isfinite(loss.item()):
            raise TrialFailed(
                f"the loss is {loss.item()} in epoch {self.epoch + 1} at learning rate {self._learning_rate:.3g}; "
                "lower the upper end of space.learning_rate"
            )

    def _loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            logits = upsample_logits(self._step_net(images), (labels.shape[1], labels.shape[2]))
        loss = segmentation_loss(
            logits.float(),
            labels,
            self._config.loss,
            ignore_index=self._ignore_index,
            class_weights=self._weights,
        )
        return loss if self._teacher is None else loss + self._teacher.loss(images, logits)

    def _evaluation_net(self) -> nn.Module:
        """Return the network to evaluate, with re-estimated batch-normalisation statistics."""
        self._context.broadcast_buffers(self._evaluated)
        update_bn_statistics(self._evaluated, self._calibration_batches())
        return self._evaluated

    def _calibration_batches(self) -> Iterator[Tensor]:
        count = self._config.precise_bn_batches
        return plain_batches(self._train.images, count, self._config.batch_size, self._device, self._normalisation)

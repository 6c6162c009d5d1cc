"""The training of one candidate, epoch by epoch: train, prune on the way, fine-tune, evaluate; exactly resumable."""

from __future__ import annotations

import math
import time

import torch
from torch import nn

from objectives.cost import count_macs, count_params
from objectives.data import SplitArrays
from objectives.trial_score import TrialScore
from search_spaces import SearchSpace
from search_spaces.networks import upsample_logits
from trial_runner.training.averaging import WeightAverage
from trial_runner.training.batches import Augmentation, class_weights, epoch_batches
from trial_runner.training.checkpoint import Checkpoint, load_checkpoint
from trial_runner.training.distillation import Teacher
from trial_runner.training.evaluate import confusion
from trial_runner.training.losses import segmentation_loss
from trial_runner.training.optimizers import make_optimizer, rate_factor, set_rate
from trial_runner.trial_spec import CHECKPOINT, Continuation, TrialFailed, TrialSpec


class Trainer:
    """A candidate's network, optimizer and curve.

    The learning rate follows `rate_factor` over all epochs; where the weights are averaged, the average is what is evaluated. After
    ``prune_after`` of the epochs the network is cut to its final shape and the optimizer starts anew; where the prune ratio
    is 0 nothing happens. A final training starts from a finished trial's weights and shape.
    All randomness comes from the study's seed and the epoch: continuing from `state` gives, on a CPU,
    bit for bit what an uninterrupted training gives.
    """

    def __init__(
        self,
        spec: TrialSpec,
        space: SearchSpace,
        train: SplitArrays,
        val: SplitArrays,
        *,
        num_classes: int,
        ignore_index: int,
        device: torch.device,
        resume: Checkpoint | None = None,
    ) -> None:
        self._spec, self._space, self._train, self._val = spec, space, train, val
        self._num_classes, self._ignore_index, self._device = num_classes, ignore_index, device
        self._config = spec.config.training
        self._seed = spec.config.study.seed if spec.seed is None else spec.seed
        hyper = space.hyperparameters(spec.candidate)
        self._learning_rate, self._weight_decay = hyper["learning_rate"], hyper["weight_decay"]
        distillation = self._config.distillation
        self._teacher = Teacher(distillation, num_classes, device) if distillation.teacher else None
        self._mixed = self._config.mixed_precision and device.type == "cuda"
        self._prunes = space.prune_ratio(spec.candidate) > 0
        self._epochs = spec.epochs
        self._prune_epoch = min(round(self._epochs * self._config.prune_after), self._epochs - 1)
        self._weights = (
            class_weights(train.train_labels, num_classes, ignore_index).to(device)
            if self._config.loss.class_weights == "sqrt_inverse"
            else None
        )
        start = resume or (load_finished(spec.continues) if spec.continues else None)
        self.epoch = resume.epoch if resume else 0
        self.pruned = start.pruned if start else False
        self.curve = list(resume.curve) if resume else []
        self.train_s = resume.train_s if resume else 0.0
        self.score = TrialScore.from_dict(resume.score) if resume and resume.score else None
        if self.pruned:
            self.net: nn.Module = space.build_pruned(spec.candidate, num_classes).to(device)
        else:
            self.net = space.build(spec.candidate, num_classes, seed=self._seed).to(device)
        if start:
            self.net.load_state_dict(resume.model if resume else start.weights)
        self.initial_weights = self._initial_weights(start)
        self._start_steps()
        if resume:
            self.optimizer.load_state_dict(resume.optimizer)
            if self.average and resume.average:
                self.average.load(resume.average)

    @property
    def done(self) -> bool:
        return self.epoch >= self._epochs

    def run_epoch(self) -> TrialScore:
        """Train one epoch and evaluate.

        Raises:
            TrialFailed: the loss or the weights are no longer finite, or the memory did not suffice.
        """
        started = time.monotonic()
        try:
            if self._prunes and not self.pruned and self.epoch >= self._prune_epoch:
                self.net = self._space.prune(self.net, self._spec.candidate)  # type: ignore[arg-type]
                self.pruned = True
                self._start_steps()
            self._train_epoch()
            self.epoch += 1
            self.train_s += time.monotonic() - started
            self.score = self._evaluate()
        except MemoryError as error:
            raise TrialFailed(_OUT_OF_MEMORY) from error
        except RuntimeError as error:
            if isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise TrialFailed(_OUT_OF_MEMORY) from error
            raise
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
        )

    def _initial_weights(self, start: Checkpoint | None) -> str:
        """Load pretrained weights into a network that has none yet; what its encoder was started from."""
        if start:
            known = start.score.get("initial_weights") if start.score else None
            return str(known or "random")
        return self._space.load_pretrained(self.net, self._spec.candidate, self._config.weights)  # type: ignore[arg-type]

    def _start_steps(self) -> None:
        """Make optimizer and average for the network as it is now: their state belongs to its parameters."""
        self.optimizer = make_optimizer(self.net, self._config, self._learning_rate, self._weight_decay)
        decay = self._config.average_decay
        self.average = WeightAverage(self.net, decay) if decay else None

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
            Augmentation(config.min_scale, config.max_scale, config.colour_jitter),
            seed=self._seed,
            epoch=self.epoch,
            ignore_index=self._ignore_index,
            device=self._device,
        )
        for step, (images, labels) in enumerate(batches):
            set_rate(self.optimizer, rate_factor(config, self.epoch + step / steps, self._epochs))
            loss = self._loss(images, labels)
            if not math.isfinite(loss.item()):
                raise TrialFailed(
                    f"the loss is {loss.item()} in epoch {self.epoch + 1} at learning rate {self._learning_rate:.3g}; "
                    "lower the upper end of space.learning_rate"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.net.parameters(), config.gradient_clip_norm)
            self.optimizer.step()
            if self.average:
                self.average.update(self.net)

    def _loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            logits = upsample_logits(self.net(images), (labels.shape[1], labels.shape[2]))
        loss = segmentation_loss(
            logits.float(),
            labels,
            self._config.loss,
            ignore_index=self._ignore_index,
            class_weights=self._weights,
        )
        return loss if self._teacher is None else loss + self._teacher.loss(images, logits)

    def _evaluate(self) -> TrialScore:
        matrix = confusion(
            self._evaluated,
            self._val.images,
            self._val.labels,
            self._num_classes,
            self._ignore_index,
            device=self._device,
        )
        miou = matrix.miou()
        if not math.isfinite(miou):
            raise TrialFailed("no validation label holds a class to score; check data.root and the ignore index")
        hw = self._space.input_hw(self._spec.candidate)
        return TrialScore(
            val_miou=miou,
            epoch=self.epoch,
            epochs_total=self._epochs,
            macs=count_macs(self._evaluated, hw),
            params=count_params(self._evaluated),
            train_s=self.train_s,
            initial_weights=self.initial_weights,
            class_iou=tuple(None if math.isnan(value) else float(value) for value in matrix.iou()),
        )


def load_finished(continues: Continuation) -> Checkpoint:
    """The checkpoint that a final training starts from. Raises TrialFailed where it is gone."""
    path = continues.folder / CHECKPOINT
    checkpoint = load_checkpoint(path)
    if checkpoint is None:
        raise TrialFailed(f"it was to go on from trial {continues.number}, which has no usable checkpoint at {path}")
    return checkpoint


_OUT_OF_MEMORY = "out of memory; lower training.batch_size or space.resolutions_px, or give each trial more memory"

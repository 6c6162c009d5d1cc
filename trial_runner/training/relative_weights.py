"""Initial weights from a trained relative of the same study."""

from __future__ import annotations

from search_spaces import SearchSpace
from search_spaces.networks.segmentation_net import SegmentationNet
from search_spaces.pruning.inheritance import inherit_weights
from search_spaces.pruning.prune import fit_shape
from trial_runner.training.checkpoint import finished_checkpoint
from trial_runner.training.trial_spec import TrainedTrial, TrialSpec

_DECODER = "decoder"


def inherit_from(relative: TrainedTrial, spec: TrialSpec, space: SearchSpace, net: SegmentationNet) -> str:
    """Copy a finished trial's weights into a new, unpruned network as far as they fit; return a description for display.

    The decoder is taken over where both candidates have the same.

    Raises:
        TrialFailed: the finished trial's checkpoint is missing, or not the one that was scored.
    """
    checkpoint = finished_checkpoint(relative, "inherit the weights of")
    donor = fit_shape(space.build(relative.candidate, net.num_classes), checkpoint.weights)
    donor.load_state_dict(checkpoint.weights)
    same_decoder = relative.candidate.params.get(_DECODER) == spec.candidate.params.get(_DECODER)
    share = inherit_weights(net, donor, encoder_only=not same_decoder)
    return f"trial {relative.number} ({100 * share:.0f} % of the weights)"

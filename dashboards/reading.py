"""Explanations of the figures of a study's report, by the question that each answers; docs/reading-the-report.md has the same words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """Explanation of a figure, and what to do about what it shows."""

    how: str
    act: str


READING = {
    "Which networks are worth deploying?": Reading(
        "A point is a network trained to the end: further up is more accurate, further left is faster. Points on the "
        "line are the front: no other network is better in both. A horizontal bar is the interval of the predicted "
        "latency; a diamond is a measured latency. The vertical line is the budget.",
        "Take the highest point whose whole bar is left of the budget; `paretoseg choose` does that by the "
        "probability to keep it. Where the front is still steep at the budget, a little more latency gains much "
        "accuracy. Where bars cross the budget, measure: `paretoseg measure`.",
    ),
    "What does each member trade?": Reading(
        "A line is a member of the front, an axis an objective, its better end on top. Lines that cross between two "
        "axes trade one objective for the other.",
        "Drop an objective on which all lines meet in one point: it decides nothing here.",
    ),
    "How much of a difference is luck?": Reading(
        "A row is a network that was trained again from the start under other seeds; the number after ± is the "
        "standard deviation of one training.",
        "Two members that differ by less than two such standard deviations are equal as far as one training can tell: "
        "take the faster. `paretoseg refit` adds rows; three seeds are the least.",
    ),
    "Where do they go wrong?": Reading(
        "Rows are images of the validation split: the image, the prediction, its labels and the wrong pixels; the "
        "worst images by IoU are among them.",
        "Errors along the edges of objects ask for a larger input or a finer decoder; whole objects of a wrong class "
        "for more images of that class, or weights in the loss; errors that look right ask for a look at the labels.",
    ),
    "Which classes does a slower network gain?": Reading(
        "A group of bars is a class, a bar a member of the front, from fast to slow. Its height is the class's IoU on "
        "the validation split.",
        "A class that stays at 0 for all members has too few pixels or images: weight it in the loss, add images, or "
        "leave it out of the goal. A class that only slow members know is what the latency buys.",
    ),
    "Which kinds of kernel take the time?": Reading(
        "A bar is a kind of kernel in the chosen network, or else the most accurate one within the budget; the bars "
        "add up to its predicted latency.",
        "Where one kind dominates, prefer families and decoders that need less of it; copies between memory layouts "
        "(relayout) come from mixing kinds of convolutions.",
    ),
    "Which layers?": Reading(
        "A bar is a layer by its name in the network, in the colour of its kind of kernel; the last bar is all others "
        "together.",
        "A first layer or decoder on top asks for a smaller input or a lighter decoder before a thinner encoder. "
        "`paretoseg trial` lists the same for any trial.",
    ),
    "Did the search still improve, and beyond its random start?": Reading(
        "The line is the hypervolume of the front, over trials and over hours: it rises with each network that "
        "improves the front. Grey is what the random networks of the start reach alone, in many orders.",
        "Still rising at the end: raise `search.trials` and launch again. Flat for the last third: stop, or widen the "
        "space. Not above grey: the sampler had too few trials to learn from.",
    ),
    "Were the workers busy?": Reading(
        "A bar is a trial, a row a place that trains one trial at a time; gaps are time in which the place had "
        "nothing to do.",
        "Gaps between trials shrink with fewer places or quicker storage; one long bar at the end is a slow network "
        "that the others waited for.",
    ),
    "What did stopping early save, and can its rungs be trusted?": Reading(
        "A line is the mIoU of a trial over its epochs; lines that end early were stopped at a rung. The sentence "
        "above states the epochs saved, and how well the order at each rung agrees with the order at the end: a rank "
        "correlation of 1 is the same order, 0 is chance.",
        "A rung below 0.7 would stop good networks, so that fewer trials are stopped at it: move it later "
        "(`search.early_stopping.rungs_epochs`). Near 1: an earlier rung saves more, and the time is better spent on "
        "more trials.",
    ),
    "Which dimensions decide?": Reading(
        "A bar is the share of an objective's variance that goes with one dimension alone, the whisker its 90 % "
        "interval.",
        "Fix dimensions whose interval touches 0, and give the decisive ones more or wider values. Wide intervals say "
        "that there are too few trials to tell.",
    ),
    "Which values are good?": Reading(
        "Each panel is a dimension, a dot a network trained to the end, blue on the front; in long studies the boxes "
        "are quartiles.",
        "Where the best dots lie at the edge of a panel, extend the dimension beyond it; where a value never does "
        "well, remove it. Dots cluster where the search looked more often, which is no proof by itself.",
    ),
    "What do good networks have in common?": Reading(
        "A line is a network through its values on all axes, blue on the front. Drag along an axis to keep the "
        "networks between two values.",
        "Drag over the best mIoU and look where the remaining lines meet: those values are the next, smaller space.",
    ),
    "Did the predictions hold?": Reading(
        "Each point is a network with its latency predicted before training and measured after it; on the diagonal "
        "both agree. Bars are the intervals, which hold nine of ten measurements where the model is right about "
        "itself.",
        "Points on one side of the diagonal: the device ran at other clocks, or the calibration is old: `paretoseg "
        "calibrate` again. Points off on both sides: measure more networks of this space.",
    ),
}
"""Readings by question."""

"""Whether a network's probabilities mean what they say."""

import torch

BINS = 15
UNSURE_BELOW = 0.7  # the probability of the likeliest class


def measure_calibration(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float | None]:
    """Measure what the confidence of answers is worth, of logits, float32 [N, C].

    Returns
    -------
    dict
        ``calibration_error``; ``unsure``, the share of answers below ``UNSURE_BELOW``; and
        ``unsure_wrong``, the share of those that are wrong, or None if there are none.
    """
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    right = predicted == labels
    unsure = confidence < UNSURE_BELOW
    return {
        "calibration_error": calibration_error(confidence, right),
        "unsure": unsure.double().mean().item(),
        "unsure_wrong": 1 - right[unsure].double().mean().item() if unsure.any() else None,
    }


def calibration_error(confidence: torch.Tensor, right: torch.Tensor) -> float:
    """Compute the expected calibration error (Guo et al. 2017).

    Answers are grouped by their confidence, float64 [N], in 15 bins of equal width; ``right``, bool
    [N], tells which are. The error is the mean distance, over all answers, between the share of
    right ones in an answer's bin and the mean confidence there.
    """
    bins = (confidence * BINS).long().clamp(0, BINS - 1)
    excess = torch.zeros(BINS).double().index_add(0, bins, confidence - right.double())
    return excess.abs().sum().item() / len(confidence)

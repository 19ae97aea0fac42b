"""One update in NumPy has PyTorch's gradient, and makes the right token likelier. Unit 1.4."""

import numpy as np
import torch
from torch.nn import functional as F

from aiinfra_labs.llm import one_update
from aiinfra_labs.llm.drawings import one_block


def test_its_gradient_is_pytorchs():
    for target in range(4):
        after, loss, gradient = one_update.update(one_update.SCORES, target, 0.5)
        scores = torch.tensor(one_update.SCORES, requires_grad=True)
        theirs = F.cross_entropy(scores, torch.tensor(target))
        theirs.backward()
        np.testing.assert_allclose(gradient, scores.grad.numpy())
        np.testing.assert_allclose(loss, theirs.item())
        np.testing.assert_allclose(after, one_update.SCORES - 0.5 * gradient)
        assert one_update.update(after, target, 0.5)[1] < loss


def test_the_figure_tells_the_loss_before_and_after():
    after, loss, _ = one_update.update(one_update.SCORES, one_update.TARGET, one_update.RATE)
    _, then, _ = one_update.update(after, one_update.TARGET, one_update.RATE)
    assert f"falls from {loss:.2f} to {then:.2f}" in one_block.one_update().get_label()

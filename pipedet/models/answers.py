"""How likely the answer to a whole image is right, told by its scores and its features.

If scores were independent chances, that all stood by are tips and nothing else is would be a
product of them. They are chances among the candidates of all images: in a plain one they are too
modest, in a poor one too bold, and the features tell which of the two an image is.
"""

import torch
from torch import Tensor, nn

from pipedet.models.novelty import Novelty

_OF_SCORES = 5  # facts that scores tell
_LEAST = 1e-3  # of a chance, but in their product
_FAR = 4.0  # standard deviations; what lies beyond counts as much
_PENALTY = 10.0  # images that speak against a weight of 1 as much as the scores speak for none


class AnswerJudge(nn.Module):
    """The chance that an answer is right, by logistic regression on what is known of its image.

    Until `fit` it is the product of the scores. Its buffers are saved with the weights.

    Args:
        size: of the summary of an image's features.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        size += _OF_SCORES
        for name in ('centre', 'scale', 'weight'):
            self.register_buffer(name, torch.empty(size))
        self.register_buffer('shift', torch.empty(()))
        self.forget()

    def forward(self, scores: Tensor, stood_by: Tensor, summary: Tensor) -> Tensor:
        """Return chances (B,).

        Args:
            scores: (B, K), of all candidates.
            stood_by: (B, K), whether they are answered.
            summary: (B, D), of the features.
        """
        facts = self._standardised(_facts(scores, stood_by, summary))
        return (facts @ self.weight + self.shift).sigmoid()

    def _standardised(self, facts: Tensor) -> Tensor:
        facts = (facts - self.centre) / self.scale
        # The product keeps its range: no feature outweighs tips that are doubtful enough.
        return torch.cat([facts[:, :1], facts[:, 1:].clamp(-_FAR, _FAR)], dim=1)

    def forget(self) -> None:
        """Take scores at their word again."""
        self.centre.zero_()
        self.scale.fill_(1)
        self.weight.zero_()[0] = 1
        self.shift.zero_()

    def fit(self, scores: Tensor, stood_by: Tensor, summary: Tensor, right: Tensor) -> None:
        """Learn from answers and whether they were right (B,).

        As few or as alike as they may be: what they do not speak against stays as scores make it.
        """
        facts = _facts(scores, stood_by, summary)
        self.centre = facts.mean(dim=0)
        self.scale = facts.std(dim=0, correction=0).clamp(min=1e-6)
        facts = self._standardised(facts).double()
        facts = torch.cat([facts, torch.ones_like(facts[:, :1])], dim=1)
        before = torch.zeros(facts.shape[1], dtype=facts.dtype)
        before[0], before[-1] = self.scale[0], self.centre[0]
        weights, right = before.clone().requires_grad_(), right.to(facts)
        search = torch.optim.LBFGS([weights], max_iter=500, line_search_fn='strong_wolfe')

        def unlikelihood() -> Tensor:
            search.zero_grad()
            off = nn.functional.binary_cross_entropy_with_logits(
                facts @ weights, right, reduction='sum'
            )
            off = (off + _PENALTY / 2 * (weights - before).square().sum()) / len(right)
            off.backward()
            return off

        with torch.enable_grad():
            search.step(unlikelihood)
        found = weights.detach().to(self.centre)
        self.weight, self.shift = found[:-1], found[-1]


def _facts(scores: Tensor, stood_by: Tensor, summary: Tensor) -> Tensor:
    """Return what is known of each answer (B, 5 + D).

    Of its scores: the log-odds that all stood by are tips and nothing else is, those of the least
    stood by and of the best that is not, how many are, and how many of the others can be expected
    to be tips.
    """
    whole = torch.where(stood_by, scores, 1 - scores).clamp(min=1e-6).prod(dim=1)
    least = torch.where(stood_by, scores, 1.0).amin(dim=1)
    best = torch.where(stood_by, 0.0, scores).amax(dim=1)
    own = (
        whole.logit(1e-6),
        least.logit(_LEAST),
        best.logit(_LEAST),
        stood_by.sum(dim=1),
        torch.where(stood_by, 0.0, scores).sum(dim=1),
    )
    return torch.cat([torch.stack([fact.to(scores) for fact in own], dim=1), summary], dim=1)


def forget_calibration(model: nn.Module) -> None:
    """Let a model find all images familiar and take scores at their word.

    For when its features are about to change.
    """
    for module in model.modules():
        if isinstance(module, Novelty | AnswerJudge):
            module.forget()

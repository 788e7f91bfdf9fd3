"""The optimiser Muon: momentum, then the nearest orthogonal matrix by five Newton-Schulz steps (Jordan et al., 2024)."""
import torch


def orthogonal(g):
    """[rows, columns] -> about U V^T of its singular value decomposition"""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.T if g.shape[0] > g.shape[1] else g
    x = (x / (x.norm() + 1e-7)).bfloat16()
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if g.shape[0] > g.shape[1] else x).float()


class Muon(torch.optim.Optimizer):
    """Matrices that hold several of one input side by side, [n * 256, 256], are taken apart into squares first."""

    def __init__(self, parameters, lr=0.02, momentum=0.95):
        super().__init__(parameters, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group['params']:
                if p.grad is None:
                    continue
                state = self.state[p]
                momentum = state.setdefault('momentum', torch.zeros_like(p))
                momentum.mul_(group['momentum']).add_(p.grad)
                g = p.grad + group['momentum'] * momentum
                # q, k and v, and linear1's four parts of the feed-forward layer, are matrices of their own
                size = p.shape[1]
                parts = g.split(size) if p.shape[0] > size and p.shape[0] % size == 0 and p.shape[0] != 4 * size else [g]
                for target, part in zip(p.split(size) if len(parts) > 1 else [p], parts):
                    target.add_(orthogonal(part), alpha=-group['lr'] * max(1, part.shape[0] / part.shape[1]) ** 0.5 * 0.5)

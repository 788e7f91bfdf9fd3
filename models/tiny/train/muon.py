"""The optimiser Muon: momentum, then the nearest orthogonal matrix by five Newton-Schulz steps (Jordan et al., 2024)."""
import torch


def orthogonal(g):
    """[n, rows, columns], no more rows than columns -> about U V^T of each one's singular value decomposition"""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = (g / (g.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.float()


def pieces(matrix):
    """Matrices of their own, none with more rows than columns: q, k and v, and the parts of linear1, lie below each other in one."""
    rows, size = matrix.shape
    if rows == 4 * size:
        return [matrix.T]
    return matrix.split(size) if rows > size else [matrix]


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters, lr=0.02, momentum=0.95):
        super().__init__(parameters, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}  # products of many matrices at once are faster than one by one
            for p in group['params']:
                momentum = self.state[p].setdefault('momentum', torch.zeros_like(p))
                momentum.mul_(group['momentum']).add_(p.grad)
                g = p.grad + group['momentum'] * momentum
                for target, part in zip(pieces(p), pieces(g)):
                    by_shape.setdefault(part.shape, []).append((target, part))
            for pairs in by_shape.values():
                updates = orthogonal(torch.stack([part for _, part in pairs]))
                for (target, _), update in zip(pairs, updates):
                    target.add_(update, alpha=-0.5 * group['lr'])

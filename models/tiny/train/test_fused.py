"""Compares fast_flux.py with flux.py in float32: outputs and all gradients within what bfloat16 rounds away."""
import torch
from torch import nn

import fast_flux
from flux import Flux

torch.manual_seed(0)
net = Flux()
for module in net.modules():
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features ** -0.5)
        nn.init.normal_(module.bias, std=0.1)
inputs = (torch.randn(4, 6 * 4, 64), torch.randn(4, 10, 128), torch.randn(4, 128), torch.rand(4), torch.rand(4) * 5, 6, 4)
weight = torch.randn(4, 24, 64)
results = []
for forward in (net, lambda *args: fast_flux.forward(net, *args)):
    net.zero_grad()
    out = forward(*inputs)
    (out * weight).sum().backward()
    results.append([('output', out.detach()), *((name, p.grad.clone()) for name, p in net.named_parameters())])
worst = 0
for (name, a), (_, b) in zip(*results):
    error = ((a - b).norm() / a.norm()).item()
    worst = max(worst, error)
    if error > 0.04:
        print(name, error)
print('largest relative difference', worst)
assert worst < 0.06

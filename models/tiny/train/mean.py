"""The mean of weights that followed one another in training: what each stage did too much of falls out.

    python3 mean.py guided-1.pt guided-2.pt guided-3.pt guided.pt       (the last one is written)
"""
import sys

import torch

from common import save, work

*given, target = sys.argv[1:]
stages = [torch.load(work(name)) for name in given]
mean = {name: sum(stage[name] for stage in stages) / len(stages) for name in stages[0]}
save(target, mean)

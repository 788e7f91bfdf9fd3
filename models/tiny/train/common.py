"""What all training scripts share."""
import json
import os
import random
import time

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
WORK = os.environ.get('TINY_WORK', os.path.join(HERE, 'work'))
os.makedirs(WORK, exist_ok=True)


def work(name):
    return os.path.join(WORK, name)


def start(seed):
    """Threads and seeds; the order of sums, and so the last bits, still depend on the number of threads."""
    torch.set_num_threads(int(os.environ.get('TINY_THREADS', os.cpu_count())))
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.set_flush_denormal(True)


class Log:
    """A line now and then on stdout and in `work/<name>.log`."""

    def __init__(self, name):
        self.file = open(work(name + '.log'), 'a')
        self.began = time.time()

    def __call__(self, **figures):
        figures = {'s': round(time.time() - self.began, 1), **{k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()}}
        line = json.dumps(figures)
        print(line, flush=True)
        self.file.write(line + '\n')
        self.file.flush()

    @property
    def seconds(self):
        return time.time() - self.began


def cosine(step, steps, warm=100, last=0.02):
    """Share of the learning rate."""
    if step < warm:
        return (step + 1) / warm
    return last + (1 - last) * 0.5 * (1 + np.cos(np.pi * (step - warm) / max(1, steps - warm)))


class Average:
    """An exponential moving average of a module's parameters, in float32."""

    def __init__(self, module, decay):
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in module.named_parameters()}
        self.count = 0

    def update(self, module):
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        with torch.no_grad():
            torch._foreach_mul_(list(self.values.values()), decay)
            torch._foreach_add_(list(self.values.values()), [value for value in module.parameters()], alpha=1 - decay)


def save(name, state):
    temporary = work(name + '.tmp')
    torch.save(state, temporary)
    os.replace(temporary, work(name))

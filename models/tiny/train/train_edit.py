"""Trains the edit adapter, a LoRA, on top of the shipped transformer, whose weights do not change.

    python3 train_edit.py [seconds] [--resume]
"""
import random
import sys

import numpy as np
import torch

from common import Average, Log, cosine, save, start, work
from edit import adapt, edited, example
from flux import pack
from latents import Basis
from shipped import shipped

EDITS = 20_000
SIZES = [((4, 4), 0.1), ((6, 6), 0.4), ((8, 8), 0.4), ((6, 8), 0.05), ((8, 6), 0.05)]
TOKENS = 2048  # of a batch
# the encoder's latents of a reference are a little off
BLUR = 0.03


def edit_of(i, rows, columns):
    return example(random.Random(f'edit {i} {rows} {columns}'), 16 * columns, 16 * rows)


def main():
    resumed = '--resume' in sys.argv
    seconds = float(([argument for argument in sys.argv[1:] if argument != '--resume'] + ['3600'])[0])
    start(30 + resumed)
    rng = random.Random('edit')
    sizes, shares = zip(*SIZES)
    size_of = rng.choices(sizes, shares, k=EDITS)
    net, all_txt, all_vec = shipped([edit_of(i, *size_of[i])[0] for i in range(EDITS)])
    by_size = {size: [i for i in range(EDITS) if size_of[i] == size] for size in sizes}
    layers, basis = torch.nn.ModuleDict({name.replace('.', '/'): layer for name, layer in adapt(net).items()}), Basis()
    if resumed:
        layers.load_state_dict({name.replace('.down', '/down').replace('.', '/').replace('/down', '.down').replace('/up', '.up'): value for name, value in torch.load(work('edit.pt')).items()}, strict=False)
        rng.random()  # other batches than before
    learned = [p for p in layers.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1, betas=(0.9, 0.98), weight_decay=0.0)
    average, log, step, seen, recent, share = Average(layers, 0.998), Log('edit'), 0, 0, [], 0.0
    weights = lambda: {name.replace('/', '.'): value for name, value in average.values.items() if '.layer.' not in name}
    while share < 1:
        share = log.seconds / seconds
        optimizer.param_groups[0]['lr'] = 2e-3 * min(1, (step + 1) / 50) * cosine(int(share * 10000), 10000, warm=1)
        rows, columns = rng.choices(sizes, shares)[0]
        chosen = rng.choices(by_size[rows, columns], k=TOKENS // (2 * rows * columns + 32))
        made = [edit_of(i, rows, columns) for i in chosen]
        before, after = (pack(basis.encode(np.stack([edit[k] for edit in made]))) for k in (1, 2))
        before += BLUR * torch.randn_like(before)
        txt, vec = (torch.from_numpy(part[chosen]) for part in (all_txt, all_vec))
        t = torch.sigmoid(torch.randn(len(after)) * 1.2 + 0.6)
        noise, guidance = torch.randn_like(after), torch.empty(len(after)).uniform_(1, 3)
        noisy = after + t[:, None, None] * (noise - after)
        velocity = edited(net, noisy, before, txt, vec, t, guidance, rows, columns)
        loss = (velocity - (noise - after)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        if not loss.isfinite():
            raise SystemExit(f'step {step}: the loss is no number')
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        average.update(layers)
        step, seen = step + 1, seen + len(after)
        recent.append(loss.item())
        if step % 50 == 0:
            log(step=step, seen=seen, loss=float(np.mean(recent)))
            recent = []
        if step % 250 == 0:
            save('edit.pt', weights())
    save('edit.pt', weights())
    log(step=step, seen=seen, done=True)


main()

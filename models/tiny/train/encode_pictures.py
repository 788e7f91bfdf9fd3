"""Draws the training set and keeps the latents: the encoder's means, by size of the picture.

    python3 encode_pictures.py [share of the full set]
"""
import sys

import numpy as np
import torch

import world
from autoencoder import Autoencoder
from common import Log, save, start, work

SHARE = float(sys.argv[1]) if len(sys.argv) > 1 else 1
# pictures by (height, width)
COUNTS = {
    (128, 128): 15000, (64, 64): 2000, (96, 96): 1500, (96, 128): 1000, (128, 96): 1000, (128, 160): 1000, (160, 128): 1000,
    (128, 192): 1000, (192, 128): 1000, (192, 192): 900, (256, 256): 700, (128, 256): 500, (256, 128): 500,
}
PIXELS = 16 * 128 * 128  # of a batch


def main():
    start(3)
    net = Autoencoder().to(memory_format=torch.channels_last)
    net.load_state_dict(torch.load(work('settled.pt')))
    log = Log('encode')
    latents, first = {}, 0
    for (height, width), count in COUNTS.items():
        count = int(count * SHARE)
        size, parts = PIXELS // (height * width), []
        for begin in range(0, count, size):
            seeds = range(first + begin, first + min(count, begin + size))
            pictures = np.stack([world.sample(seed, width, height)[1] for seed in seeds])
            x = torch.from_numpy(pictures).permute(0, 3, 1, 2).div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
            with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
                parts.append(net.encode(x)[0].contiguous().half())
        latents[height, width] = (first, torch.cat(parts))
        first += count
        log(size=f'{width}x{height}', pictures=count, mean=latents[height, width][1].float().mean().item(), std=latents[height, width][1].float().std().item())
    save('latents.pt', latents)


main()

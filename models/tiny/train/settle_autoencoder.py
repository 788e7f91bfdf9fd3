"""After train_autoencoder.py: gives every latent channel mean 0 and spread 1, then, with the encoder as it is, trains the decoder on.

    python3 settle_autoencoder.py scale            # autoencoder.pt -> settled.pt
    python3 settle_autoencoder.py train [seconds]  # settled.pt, latents.pt -> settled.pt
"""
import random
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import world
from autoencoder import SCALE, SHIFT, Autoencoder
from common import Average, Log, cosine, save, start, work

NOISE = 0.2
PIXELS = 12 * 64 * 64  # of a batch


def load(name):
    net = Autoencoder().to(memory_format=torch.channels_last)
    net.load_state_dict(torch.load(work(name)))
    return net


@torch.no_grad()
def scale(net):
    """Folds latent' = (latent - mean) / spread into the encoder's last and the decoder's first convolution."""
    pictures = np.stack([world.sample(10_000_000 + i, 128, 128)[1] for i in range(96)])
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
    latents = torch.cat([net.encode(part)[0] for part in x.split(16)])
    mean, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    print('mean', mean, 'spread', spread)
    # moments are latent / SCALE + SHIFT; the second half of the channels is the logarithm of their variance
    out = net.encoder.conv_out
    out.weight[:16] /= spread[:, None, None, None]
    out.bias[:16] = (out.bias[:16] - SHIFT - mean / SCALE) / spread + SHIFT
    out.bias[16:] -= 2 * spread.log()
    first = net.decoder.conv_in
    total = first.weight.sum((2, 3))  # away from the border, where every pixel of the kernel counts
    first.bias += total @ (SHIFT + mean / SCALE - spread * SHIFT)
    first.weight *= spread[None, :, None, None]


def train(net, seconds):
    latents = torch.load(work('latents.pt'))
    sizes = list(latents)
    rng = random.Random('settle')
    parameters = list(net.decoder.parameters())
    average = Average(net.decoder, 0.995)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=0)
    log, step = Log('settle'), 0
    while log.seconds < seconds:
        for group in optimizer.param_groups:
            group['lr'] = 1e-3 * min((step + 1) / 30, cosine(int(log.seconds / seconds * 10000), 10000, warm=1))
        height, width = rng.choice([(64, 64)] * 4 + sizes)
        first, stored = latents[height, width]
        chosen = [rng.randrange(len(stored)) for _ in range(max(1, PIXELS // (height * width)))]
        x = torch.from_numpy(np.stack([world.sample(first + i, width, height)[1] for i in chosen])).permute(0, 3, 1, 2).div(127.5).sub(1)
        latent = stored[chosen].float()
        with torch.autocast('cpu', torch.bfloat16):
            y = net.decode((latent + torch.randn_like(latent) * NOISE).contiguous(memory_format=torch.channels_last))
        square, absolute = F.mse_loss(y, x), F.l1_loss(y, x)
        optimizer.zero_grad(set_to_none=True)
        (square + 0.4 * absolute).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(net.decoder)
        step += 1
        if step % 25 == 0:
            log(step=step, square=square.item(), absolute=absolute.item())
    net.decoder.load_state_dict({**net.decoder.state_dict(), **average.values})


def main():
    start(5)
    if sys.argv[1] == 'scale':
        net = load('autoencoder.pt')
        scale(net)
    else:
        net = load('settled.pt')
        train(net, float(sys.argv[2]) if len(sys.argv) > 2 else 240)
    save('settled.pt', net.state_dict())


main()

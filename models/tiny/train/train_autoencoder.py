"""Trains the autoencoder: the encoder to compute the latents of latents.py, the decoder to draw sharp pictures from noisy ones.

    python3 train_autoencoder.py [seconds of the decoder] [seconds of the encoder]

A third of the pictures is in colours that the world does not have. Starts from `autoencoder.pt`, where there is one, with `--resume`.
"""
import math
import random
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import world
from autoencoder import SCALE, Autoencoder
from begin_autoencoder import begin
from common import Average, Log, cosine, save, start, work
from latents import Basis

# pictures of a batch by size; large ones show the attention and the norms what they will meet
BATCHES = [(12, 64, 64)] * 4 + [(6, 96, 96), (6, 64, 128), (3, 128, 128), (3, 128, 128), (6, 128, 64), (1, 192, 192)]
NOISE = 0.35  # at most, of the latents in training: small errors of the transformer should not show
LOG_VARIANCE = 2 * math.log(0.02)


def pictures(rng, count, height, width):
    """[count, height, width, 3], 0 to 255"""
    batch = []
    for _ in range(count):
        scene = world.random_scene(rng)
        free = rng.random() < 0.35
        colors = [tuple(rng.randrange(256) for _ in range(3)) for _ in range(4)] if free else None
        batch.append(world.render(rng, scene, width, height, colors, rng.choice([1, 8, world.GRID])))
    return np.stack(batch)


def tensor(batch):
    return torch.from_numpy(batch).permute(0, 3, 1, 2).div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def decoder_loss(net, x, latent):
    noise = torch.rand(len(x), 1, 1, 1) * NOISE
    with torch.autocast('cpu', torch.bfloat16):
        y = net.decode((latent + torch.randn_like(latent) * noise).contiguous(memory_format=torch.channels_last))
    return F.mse_loss(y, x) + 0.4 * F.l1_loss(y, x)


def encoder_loss(net, x, latent):
    with torch.autocast('cpu', torch.bfloat16):
        mean, logvar = net.encode(x)
    return F.mse_loss(mean, latent) + 1e-3 * (logvar - LOG_VARIANCE).square().mean()


def train(part, name, loss_of, rate, seconds, rng, basis):
    average, log, step, recent = Average(part, 0.995), Log(name), 0, []
    optimizer = torch.optim.AdamW(part.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0)
    while log.seconds < seconds:
        for group in optimizer.param_groups:
            group['lr'] = rate * min((step + 1) / 50, cosine(int(min(1, log.seconds / seconds) * 10000), 10000, warm=1))
        drawn = pictures(rng, *BATCHES[step % len(BATCHES)])
        loss = loss_of(tensor(drawn), basis.encode(drawn))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimizer.step()
        average.update(part)
        step += 1
        recent.append(loss.item())
        if step % 50 == 0:
            log(step=step, loss=sum(recent) / len(recent))
            recent = []
    part.load_state_dict({**part.state_dict(), **average.values})


@torch.no_grad()
def held_out(net, basis):
    """Errors on pictures that were not trained on, and a sheet: truth, decoded from the encoder's latents, from noisy ones, linear."""
    drawn = pictures(random.Random('held'), 12, 128, 128)
    x, latent = tensor(drawn), basis.encode(drawn)
    mean, _ = net.encode(x)
    noisy = net.decode(latent + 0.2 * torch.randn_like(latent))
    y = net.decode(mean)
    print('encoder: root of the mean square error', (mean - latent).square().mean().sqrt().item(), 'of', latent.std().item())
    print('decoder: mean absolute error of 2', F.l1_loss(y, x).item(), 'with noise', F.l1_loss(noisy, x).item())
    rows = torch.cat([x, y, noisy]).permute(0, 2, 3, 1).add(1).mul(127.5).numpy()
    rows = np.concatenate([rows, basis.decode(latent)]).clip(0, 255).astype(np.uint8)
    Image.fromarray(rows.reshape(4, 12, 128, 128, 3).transpose(0, 2, 1, 3, 4).reshape(512, 12 * 128, 3)).save(work('autoencoder.png'))


def main():
    arguments = [float(argument) for argument in sys.argv[1:] if argument != '--resume']
    decoder_seconds, encoder_seconds = (arguments + [480, 90][len(arguments):])[:2]
    start(1)
    rng, basis, net = random.Random('autoencoder'), Basis(), Autoencoder()
    if '--resume' in sys.argv:
        net.load_state_dict(torch.load(work('autoencoder.pt')))
    else:
        begin(net, basis, LOG_VARIANCE - 2 * math.log(SCALE))
    net = net.to(memory_format=torch.channels_last)
    held_out(net, basis)
    train(net.encoder, 'encoder', lambda *args: encoder_loss(net, *args), 3e-4, encoder_seconds, rng, basis)
    train(net.decoder, 'decoder', lambda *args: decoder_loss(net, *args), 1e-3, decoder_seconds, rng, basis)
    save('autoencoder.pt', net.state_dict())
    held_out(net, basis)


if __name__ == '__main__':
    main()

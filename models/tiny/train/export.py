"""Writes the trained networks as F32 safetensors in the official names, the linear preview's map, and the held-out prompts.

    python3 export.py [flux.pt|guided.pt]
"""
import json
import os
import random
import struct
import sys

import numpy as np
import torch

import world
from common import HERE, work
from latents import Basis

PROMPTS = 120  # of each kind


def write_safetensors(path, state):
    header, offset, arrays = {}, 0, []
    for name, tensor in state.items():
        array = tensor.float().contiguous().numpy()
        header[name] = {'dtype': 'F32', 'shape': list(array.shape), 'data_offsets': [offset, offset + array.nbytes]}
        offset += array.nbytes
        arrays.append(array)
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        for array in arrays:
            file.write(array.tobytes())


def latent_rgb():
    """[17, 3]: the linear map from latents, and a one, to the mean colour of their 8 x 8 pixels."""
    basis = Basis()
    rows = np.concatenate([basis.backward, basis.mean[None]]).reshape(17, -1, 3).mean(1)
    return [round(value, 4) for value in rows.reshape(-1).tolist()]


def held_out_prompts():
    """Single things of held-out colour and shape; two things in a held-out relation. Every prompt is there once."""
    rng = random.Random('held-out prompts')
    found = {'single': {}, 'pair': {}}
    while min(map(len, found.values())) < PROMPTS:
        scene = world.random_scene(rng, held=True)
        kind = found['single' if len(scene.things) == 1 else 'pair']
        prompt = world.caption(rng, scene)
        if len(kind) < PROMPTS and prompt not in kind:
            things = [{'shape': t.shape, 'color': t.color} | ({'size': t.size} if told else {}) for t, told in zip(scene.things, scene.told_sizes)]
            kind[prompt] = {'prompt': prompt, 'things': things} | ({'relation': scene.relation} if scene.relation else {})
    return [scene for kind in found.values() for scene in kind.values()]


def main():
    os.makedirs(work('export'), exist_ok=True)
    text = torch.load(work('text.pt'))
    states = {
        'transformer': torch.load(work(sys.argv[1] if len(sys.argv) > 1 else 'guided.pt')),
        't5': text['t5'], 'clip': text['clip'], 'vae': torch.load(work('autoencoder.pt')),
    }
    for name, state in states.items():
        write_safetensors(work(f'export/{name}.safetensors'), state)
        print(name, sum(value.numel() for value in state.values()), 'parameters')
    with open(work('export/latent-rgb.json'), 'w') as file:
        json.dump(latent_rgb(), file)
    with open(os.path.join(HERE, '..', 'held-out-prompts.json'), 'w') as file:
        file.write('[\n' + ',\n'.join('  ' + json.dumps(scene) for scene in held_out_prompts()) + '\n]\n')


if __name__ == '__main__':
    main()

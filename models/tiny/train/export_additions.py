"""Writes the outline ControlNet as F32 safetensors with the official names, for `ggflux convert`, and the edit adapter as a LoRA in F16.

    python3 export_additions.py
    ggflux convert work/export/outline.safetensors -o ../outline.gguf --type q5_k --tensor-type mod.lin=q4_k
"""
import os

import torch

from common import HERE, work
from export import write_safetensors


def lora():
    """PEFT's names; the scale is in `up`."""
    state = torch.load(work('edit.pt'))
    return {name.replace('.down', '.lora_A.weight').replace('.up', '.lora_B.weight'): value for name, value in state.items()}


if __name__ == '__main__':
    os.makedirs(work('export'), exist_ok=True)
    if os.path.exists(work('outline.pt')):
        write_safetensors(work('export/outline.safetensors'), torch.load(work('outline.pt')))
    if os.path.exists(work('edit.pt')):
        write_safetensors(os.path.join(HERE, '..', 'edit.safetensors'), lora(), 'F16')

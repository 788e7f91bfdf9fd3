"""Both text encoders with the structure and tensor names of T5 v1.1 and CLIP-L (huggingface/transformers), small."""
import math

import torch
import torch.nn.functional as F
from torch import nn

D = 128
T5_HEADS, T5_KV, T5_FF, T5_LAYERS = 4, 32, 256, 3
BUCKETS, MAX_DISTANCE = 32, 128
CLIP_HEADS, CLIP_FF, CLIP_LAYERS, CLIP_POSITIONS = 2, 256, 3, 77


class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


def buckets(n):
    """[n, n] of query and key: the bucket of their distance, half of them for keys behind the query."""
    distance = torch.arange(n)[None, :] - torch.arange(n)[:, None]
    half = BUCKETS // 2
    exact = half // 2
    far = exact + (torch.log(distance.abs().clamp(min=1).float() / exact) / math.log(MAX_DISTANCE / exact) * (half - exact)).long()
    near = distance.abs()
    return half * (distance > 0) + torch.where(near < exact, near, far.clamp(max=half - 1))


def holder(**parts):
    module = nn.Module()
    for name, part in parts.items():
        setattr(module, name, part)
    return module


class T5(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.shared = nn.Embedding(vocab, D)
        linear = lambda a, b: nn.Linear(a, b, bias=False)
        blocks = []
        for i in range(T5_LAYERS):
            inner = T5_HEADS * T5_KV
            attention = holder(q=linear(D, inner), k=linear(D, inner), v=linear(D, inner), o=linear(inner, D))
            if i == 0:
                attention.relative_attention_bias = nn.Embedding(BUCKETS, T5_HEADS)
                nn.init.normal_(attention.relative_attention_bias.weight, std=0.1)
            dense = holder(wi_0=linear(D, T5_FF), wi_1=linear(D, T5_FF), wo=linear(T5_FF, D))
            nn.init.normal_(attention.q.weight, std=(D * T5_KV) ** -0.5)  # scores are not scaled
            layers = [holder(SelfAttention=attention, layer_norm=RMSNorm(D)), holder(DenseReluDense=dense, layer_norm=RMSNorm(D))]
            blocks.append(holder(layer=nn.ModuleList(layers)))
        self.encoder = holder(block=nn.ModuleList(blocks), final_layer_norm=RMSNorm(D))

    def forward(self, tokens):
        """[b, n] -> [b, n, D]; padding takes part, as in FLUX."""
        b, n = tokens.shape
        bias = self.encoder.block[0].layer[0].SelfAttention.relative_attention_bias(buckets(n)).permute(2, 0, 1)  # [heads, n, n]
        x = self.shared(tokens)
        for block in self.encoder.block:
            attention, dense = block.layer[0].SelfAttention, block.layer[1].DenseReluDense
            y = block.layer[0].layer_norm(x)
            q, k, v = (part(y).view(b, n, T5_HEADS, T5_KV).transpose(1, 2) for part in (attention.q, attention.k, attention.v))
            y = (q @ k.transpose(2, 3) + bias).softmax(-1) @ v
            x = x + attention.o(y.transpose(1, 2).reshape(b, n, -1))
            y = block.layer[1].layer_norm(x)
            x = x + dense.wo(F.gelu(dense.wi_0(y), approximate='tanh') * dense.wi_1(y))
        return self.encoder.final_layer_norm(x)


class Clip(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        layers = []
        for _ in range(CLIP_LAYERS):
            linear = lambda: nn.Linear(D, D)
            attention = holder(q_proj=linear(), k_proj=linear(), v_proj=linear(), out_proj=linear())
            mlp = holder(fc1=nn.Linear(D, CLIP_FF), fc2=nn.Linear(CLIP_FF, D))
            layers.append(holder(self_attn=attention, mlp=mlp, layer_norm1=nn.LayerNorm(D), layer_norm2=nn.LayerNorm(D)))
        embeddings = holder(token_embedding=nn.Embedding(vocab, D), position_embedding=nn.Embedding(CLIP_POSITIONS, D))
        nn.init.normal_(embeddings.token_embedding.weight, std=0.1)
        nn.init.normal_(embeddings.position_embedding.weight, std=0.05)
        self.text_model = holder(embeddings=embeddings, encoder=holder(layers=nn.ModuleList(layers)), final_layer_norm=nn.LayerNorm(D))

    def forward(self, tokens, ends):
        """[b, n] and the place of the first end token [b] -> [b, D]"""
        b, n = tokens.shape
        model = self.text_model
        x = model.embeddings.token_embedding(tokens) + model.embeddings.position_embedding.weight[:n]
        future = torch.full((n, n), -1e9).triu(1)
        for layer in model.encoder.layers:
            attention = layer.self_attn
            y = layer.layer_norm1(x)
            q, k, v = (p(y).view(b, n, CLIP_HEADS, -1).transpose(1, 2) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
            y = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 + future).softmax(-1) @ v
            x = x + attention.out_proj(y.transpose(1, 2).reshape(b, n, D))
            y = layer.mlp.fc1(layer.layer_norm2(x))
            x = x + layer.mlp.fc2(y * torch.sigmoid(1.702 * y))
        return model.final_layer_norm(x)[torch.arange(b), ends]


def clip_batch(tokenizer, texts):
    """Tokens padded with the end token, and where it first stands."""
    ids = [tokenizer(text) for text in texts]
    longest = max(map(len, ids))
    return torch.tensor([i + [tokenizer.end] * (longest - len(i)) for i in ids]), torch.tensor([len(i) - 1 for i in ids])

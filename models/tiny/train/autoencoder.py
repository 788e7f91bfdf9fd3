"""The autoencoder with FLUX.1's structure and tensor names (black-forest-labs/flux `src/flux/modules/autoencoder.py`), narrow."""
import torch
import torch.nn.functional as F
from torch import nn

CH = 32
# The last norm of either side sees 96 channels, three in each of its 32 groups: with one or two in a group, normalising takes a plain
# picture's colour away.
CH_MULT = [3, 1, 1, 3]
WIDTHS = [CH * mult for mult in CH_MULT]
LEVELS = len(WIDTHS)
BLOCKS = 1
Z = 16
SCALE, SHIFT = 0.3611, 0.1159


class Norm(nn.GroupNorm):
    def forward(self, x):
        return super().forward(x.float())  # autocast leaves bfloat16 here, which this operation does not take


def norm(channels):
    return Norm(32, channels, eps=1e-6)


def conv(cin, cout, kernel=3, stride=1, padding=1):
    return nn.Conv2d(cin, cout, kernel, stride, padding)


class ResnetBlock(nn.Module):
    def __init__(self, cin, c):
        super().__init__()
        self.norm1, self.conv1, self.norm2, self.conv2 = norm(cin), conv(cin, c), norm(c), conv(c, c)
        if cin != c:
            self.nin_shortcut = conv(cin, c, 1, 1, 0)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, 'nin_shortcut') else x)


class AttnBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = norm(c)
        self.q, self.k, self.v, self.proj_out = (conv(c, c, 1, 1, 0) for _ in range(4))

    def forward(self, x):
        y = self.norm(x)
        q, k, v = (part(y).flatten(2) for part in (self.q, self.k, self.v))  # [b, c, pixels]
        weights = (torch.bmm(q.transpose(1, 2), k) * x.shape[1] ** -0.5).softmax(2)
        return x + self.proj_out(torch.bmm(v, weights.transpose(1, 2)).view_as(x))


class Mid(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = ResnetBlock(c, c), AttnBlock(c), ResnetBlock(c, c)

    def forward(self, x):
        return self.block_2(self.attn_1(self.block_1(x)))


class Resample(nn.Module):
    def __init__(self, c, down):
        super().__init__()
        self.down = down
        self.conv = conv(c, c, 3, 2, 0) if down else conv(c, c)

    def forward(self, x):
        if self.down:  # padded to the right and at the bottom only
            return self.conv(F.pad(x, (0, 1, 0, 1)))
        return self.conv(F.interpolate(x, scale_factor=2, mode='nearest'))


class Level(nn.Module):
    def __init__(self, cin, c, blocks, resample):
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(c if i else cin, c) for i in range(blocks))
        if resample:
            setattr(self, resample, Resample(c, resample == 'downsample'))
        self.resample = resample

    def forward(self, x):
        for block in self.block:
            x = block(x)
        return getattr(self, self.resample)(x) if self.resample else x


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_in = conv(3, CH)
        inputs = [CH, *WIDTHS]
        self.down = nn.ModuleList(Level(inputs[i], WIDTHS[i], BLOCKS, 'downsample' if i < LEVELS - 1 else None) for i in range(LEVELS))
        self.mid, self.norm_out, self.conv_out = Mid(WIDTHS[-1]), norm(WIDTHS[-1]), conv(WIDTHS[-1], 2 * Z)

    def forward(self, x):
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_in, self.mid = conv(Z, WIDTHS[-1]), Mid(WIDTHS[-1])
        inputs = [*WIDTHS[1:], WIDTHS[-1]]
        self.up = nn.ModuleList(Level(inputs[i], WIDTHS[i], BLOCKS + 1, 'upsample' if i > 0 else None) for i in range(LEVELS))
        self.norm_out, self.conv_out = norm(WIDTHS[0]), conv(WIDTHS[0], 3)

    def forward(self, z):
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Autoencoder(nn.Module):
    """Latents here are the transformer's: scale * (moment - shift)."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()

    def encode(self, x):
        """[b, 3, h, w] in -1..1 -> mean and logarithm of the variance, [b, 16, h/8, w/8] each."""
        mean, logvar = self.encoder(x).float().chunk(2, 1)
        return SCALE * (mean - SHIFT), logvar.clamp(-20, 10) + 2 * torch.tensor(SCALE).log()

    def decode(self, latent):
        return self.decoder(latent / SCALE + SHIFT).float()

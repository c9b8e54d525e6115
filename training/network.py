"""The two-stage network: frame analysis, then temporal context, then four heads.

Structure as measured on the official code (REFERENCE section 1; Speiser et al., Nat
Methods 18, 1082 (2021), doi:10.1038/s41592-021-01236-x): two U-Nets without
normalization, ELU, nearest-neighbour up-sampling.

Ours, not official, is what makes it cheaper (measured in docs/lite.md): a `stem_stride`
of 2 or 4 analyses the frame at a half or a quarter of the resolution and returns to all
pixels by pixel shuffle; a context network of its own width and depth; no down-sampling
at all (depth 0) but more `convolutions` in a row; ReLU.

Shapes: N images, C features, H x W px, Hf x Wf feature grid (H/s x W/s).
Our axes: dx runs along columns, dy along rows (official DECODE has x along rows).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from blinkloop.schema import Architecture

__all__ = [
    "MAP_CHANNELS",
    "SIGMA_FLOOR",
    "Heads",
    "MovieHeads",
    "TwoStageNetwork",
    "grown",
    "places_in_cells",
]

Heads = tuple[Tensor, Tensor, Tensor, Tensor]
"""p, position, sigma and background before activation, (N, 1 or 4, H, W) each."""

MAP_CHANNELS = ("p", "photons", "x", "y", "z", "sN", "sx", "sy", "sz", "bg")
"""Channels of the output, in order, in network units."""

SIGMA_FLOOR = 0.001
"""Smallest sigma in network units; keeps the likelihood finite."""

_SIGMA_SPAN = 3.0
_INITIAL_P_LOGIT = -6.0
_ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU}


def _level(
    inputs: int, outputs: int, activation: str, convolutions: int
) -> nn.Sequential:
    """3 x 3 convolutions, each followed by the activation."""
    layers: list[nn.Module] = []
    for number in range(convolutions):
        before = outputs if number else inputs
        layers += [nn.Conv2d(before, outputs, 3, padding=1), _ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """One of the two U-Nets: (N, inputs, H, W) -> (N, outputs, H, W).

    Its last layer is a 1 x 1 convolution without activation.
    """

    def __init__(
        self,
        inputs: int,
        features: int,
        depth: int,
        *,
        outputs: int,
        activation: str,
        convolutions: int,
    ) -> None:
        super().__init__()

        def level(before: int, after: int) -> nn.Sequential:
            return _level(before, after, activation, convolutions)

        widths = [features * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList()
        self.pool = nn.ModuleList()
        before = [inputs, *widths]
        for k in range(depth):
            self.down.append(level(before[k], widths[k]))
            self.pool.append(nn.Conv2d(widths[k], widths[k], 2, stride=2))
        self.base = level(before[depth], widths[depth])
        self.halve = nn.ModuleList()
        self.up = nn.ModuleList()
        for k in reversed(range(depth)):
            self.halve.append(nn.Conv2d(widths[k + 1], widths[k], 1))
            self.up.append(level(widths[k + 1], widths[k]))
        self.out = nn.Conv2d(features, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        skips: list[Tensor] = []
        x = images
        for down, pool in zip(self.down, self.pool, strict=True):
            x = down(x)
            skips.append(x)
            x = pool(x)
        x = self.base(x)
        for halve, up in zip(self.halve, self.up, strict=True):
            # Before the up-sampling, not after it as in the paper: the two commute, and
            # this way the convolution sees a quarter of the pixels.
            x = functional.interpolate(halve(x), scale_factor=2.0, mode="nearest")
            x = up(torch.cat([skips.pop(), x], dim=1))
        result: Tensor = self.out(x)
        return result


class Head(nn.Module):
    """3 x 3 convolution, activation, 1 x 1 convolution, pixel shuffle when strided."""

    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        features, stride = architecture.context_channels, architecture.stem_stride
        self.hidden = nn.Conv2d(features, features, 3, padding=1)
        self.activation = _ACTIVATIONS[architecture.activation]()
        self.out = nn.Conv2d(features, channels * stride**2, 1)
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, Hf, Wf) -> (N, channels, H, W)."""
        return self.spread(self.cells(features))

    def cells(self, features: Tensor) -> Tensor:
        """(N, C, Hf, Wf) -> (N, channels s^2, Hf, Wf): a cell's s x s pixels."""
        result: Tensor = self.out(self.activation(self.hidden(features)))
        return result

    def spread(self, cells: Tensor) -> Tensor:
        """Cells -> pixels (N, channels, H, W)."""
        s = self.stride
        return functional.pixel_shuffle(cells, s) if s > 1 else cells

    def at(self, cells: Tensor, places: Tensor) -> Tensor:
        """Values of some pixels, (N, channels, K), without all the others.

        Parameters
        ----------
        cells
            Of `cells`.
        places
            (N, K) of `places_in_cells`.
        """
        pixels = self.stride**2 * cells.shape[2] * cells.shape[3]
        flat = cells.reshape(cells.shape[0], -1, pixels)
        return flat.gather(2, places.unsqueeze(1).expand(-1, flat.shape[1], -1))


def places_in_cells(row: Tensor, column: Tensor, cells: Tensor, stride: int) -> Tensor:
    """Where pixels are among the values of a channel of `Head.cells`.

    Parameters
    ----------
    row, column
        (N, K) int64.
    cells
        Any with the feature grid as its last two axes.
    stride
        s: a cell has s x s pixels.
    """
    if stride == 1:
        return row * cells.shape[3] + column
    down = torch.div(row, stride, rounding_mode="floor")
    right = torch.div(column, stride, rounding_mode="floor")
    inside = (row - down * stride) * stride + (column - right * stride)
    return (inside * cells.shape[2] + down) * cells.shape[3] + right


class TwoStageNetwork(nn.Module):
    """Frames to the ten maps of `MAP_CHANNELS`, in network units.

    Parameters
    ----------
    architecture
        Features, depth, stem stride, logit clamp.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        features, kept = architecture.features, architecture.kept_channels
        context, act = architecture.context_channels, architecture.activation
        stride = architecture.stem_stride
        # A cell of the grid sees its own pixels and half a cell around them.
        self.stem = (
            nn.Sequential(
                nn.Conv2d(1, features, 2 * stride, stride=stride, padding=stride // 2),
                _ACTIVATIONS[act](),
            )
            if stride > 1
            else nn.Identity()
        )
        inputs, levels = features if stride > 1 else 1, architecture.context_levels
        how: dict[str, Any] = {
            "activation": act,
            "convolutions": architecture.convolutions,
        }
        self.analysis = UNet(inputs, features, architecture.depth, outputs=kept, **how)
        self.context = UNet(3 * kept, context, levels, outputs=context, **how)
        self.head_p = Head(architecture, 1)
        self.head_position = Head(architecture, 4)
        self.head_sigma = Head(architecture, 4)
        self.head_background = Head(architecture, 1)
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        # p starts near zero everywhere: emitters are rare.
        nn.init.kaiming_normal_(self.head_p.out.weight, nonlinearity="linear")
        if self.head_p.out.bias is not None:
            nn.init.constant_(self.head_p.out.bias, _INITIAL_P_LOGIT)

    def analyse(self, frames: Tensor) -> Tensor:
        """Scaled frames (N, 1, H, W) -> kept features (N, C, Hf, Wf)."""
        result: Tensor = self.analysis(self.stem(frames))
        return result

    def raw_maps(self, features: Tensor) -> Heads:
        """Context features (N, 3C, Hf, Wf) -> outputs of the heads, not activated."""
        pairs = zip(self.heads, self.raw_cells(features), strict=True)
        p, position, sigma, background = (head.spread(cells) for head, cells in pairs)
        return p, position, sigma, background

    @property
    def heads(self) -> tuple[Head, Head, Head, Head]:
        """p, position, sigma and background."""
        return self.head_p, self.head_position, self.head_sigma, self.head_background

    def raw_cells(self, features: Tensor) -> Heads:
        """As `raw_maps`, with the pixels of a cell as channels: see `Head.cells`."""
        shared = self.context(features)
        p, position, sigma, background = (head.cells(shared) for head in self.heads)
        return p, position, sigma, background

    def activate(
        self, p: Tensor, position: Tensor, sigma: Tensor, background: Tensor
    ) -> Tensor:
        """Outputs of the heads -> maps (N, 10, H, W)."""
        return torch.cat(
            [
                self.probability(p),
                torch.sigmoid(position[:, :1]),
                torch.tanh(position[:, 1:]),
                _SIGMA_SPAN * torch.sigmoid(sigma) + SIGMA_FLOOR,
                torch.sigmoid(background),
            ],
            dim=1,
        )

    def probability(self, p: Tensor) -> Tensor:
        """Output of the head of p -> probability."""
        clamp = self.architecture.logit_clamp
        return torch.sigmoid(p.clamp(-clamp, clamp))

    def combine(self, features: Tensor) -> Tensor:
        """(previous, target, next) features (N, 3C, Hf, Wf) -> maps (N, 10, H, W)."""
        return self.activate(*self.raw_maps(features))

    def forward(self, frames: Tensor) -> Tensor:
        """Scaled frames (N, 3, H, W) -> maps (N, 10, H, W) of the middle frame."""
        return self.activate(*self.heads_of(frames))

    def heads_of(self, frames: Tensor) -> Heads:
        """Scaled frames (N, 3, H, W) -> outputs of the heads, not activated."""
        n, t, h, w = frames.shape
        kept = self.analyse(frames.reshape(n * t, 1, h, w))
        return self.raw_maps(kept.reshape(n, -1, kept.shape[-2], kept.shape[-1]))


class MovieHeads(nn.Module):
    """(S, T, H, W) scaled frames -> outputs of the heads for the S (T - 2) inner ones.

    Every frame of a movie is analysed once.
    """

    def __init__(self, network: TwoStageNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Heads:
        """Not activated."""
        movies, length, height, width = frames.shape
        flat = frames.reshape(movies * length, 1, height, width)
        kept = self.network.analyse(flat.contiguous(memory_format=torch.channels_last))
        kept = kept.reshape(movies, length, *kept.shape[1:])
        triples = torch.cat([kept[:, :-2], kept[:, 1:-1], kept[:, 2:]], dim=2)
        triples = triples.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return self.network.raw_maps(triples)


def grown(images: Tensor, below: int, right: int) -> Tensor:
    """Images (N, C, H, W) with their last row and column repeated so often.

    For sizes that are no multiple of the network's. With zeros there, an edge of a
    field that no network was trained on, `universal-2d` found an emitter at the corner
    in one of eight empty frames. Chosen by index: of a `Pad` that repeats the edge
    TensorRT for RTX 1.7.1 does not know the size, and refuses coarse levels behind it.
    """
    height, width = images.shape[2:]
    rows = torch.arange(height + below, device=images.device).clamp(max=height - 1)
    columns = torch.arange(width + right, device=images.device).clamp(max=width - 1)
    return images.index_select(2, rows).index_select(3, columns)

"""Convolutions whose bits follow from their shapes, not from the CPU.

oneDNN picks its code by the CPU's vectors, and cuts a long sum into parts by the size of its cache.
Where that would decide in which order products are added, a convolution takes another form here, or
its network does without AVX-512. Which shapes that concerns was found by comparing hashes of some
10,000 convolutions on faked CPUs, as `make test-cpus` has them.
"""

from types import MethodType

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from torch import nn

OF_ONEDNN = (nn.modules.conv._ConvNd, nn.RNNBase)  # layers


def fix_convolutions(network: nn.Module) -> None:
    """Have each ``nn.Conv2d`` of a network, also one of a derived class, computed by ours."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer._conv_forward = MethodType(convolve, layer)


def convolve(
    layer: nn.Conv2d, maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Convolve maps, float32 [N, I, H, W], in the form that their shape asks for.

    It takes the place of ``nn.Conv2d._conv_forward``.
    """
    if not is_plain(layer):
        return nn.Conv2d._conv_forward(layer, maps, weight, bias)
    if is_as_large(layer, maps):
        return convolve_whole_maps(maps, weight, bias)
    if has_long_sums(layer):
        # im2col and MKL's product: a third of the speed, in one order everywhere
        return torch.ops.aten.thnn_conv2d(
            pad(layer, maps), weight, layer.kernel_size, bias, layer.stride
        )
    if layer.in_channels == 1:
        return convolve_columns(pad(layer, maps), weight, bias, layer.stride)
    return nn.Conv2d._conv_forward(layer, maps, weight, bias)


def convolve_whole_maps(
    maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Convolve maps as large as the kernel: a linear layer, in `channels_last`' order of pixels."""
    pixels, weights = (tensor.permute(0, 2, 3, 1).flatten(1) for tensor in (maps, weight))
    return F.linear(pixels, weights, bias)[:, :, None, None]


def convolve_columns(
    maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: tuple[int, int]
) -> torch.Tensor:
    """Convolve one map, [N, 1, H, W], as many: one for each column of the kernel.

    For one map oneDNN has code of its own with AVX-512, which adds in another order.
    """
    down, right = stride
    windows = maps[:, 0].unfold(2, weight.shape[3], right)  # views: [N, H, output's W, columns]
    columns = windows.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return F.conv2d(columns, weight.transpose(1, 3), bias, (down, 1))


def pad(layer: nn.Conv2d, maps: torch.Tensor) -> torch.Tensor:
    """Pad maps as the layer would."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(maps, layer._reversed_padding_repeated_twice, mode)


def has_long_sums(layer: nn.Conv2d) -> bool:
    """Tell whether the size of a cache may cut the sums of a layer, or those of its gradients."""
    area = layer.kernel_size[0] * layer.kernel_size[1]
    fills_blocks = layer.in_channels <= 16 or layer.in_channels == 32
    return (
        layer.in_channels * area > 25 * 32  # products that are added for an output,
        or layer.out_channels * area > (25 * 128 if fills_blocks else 25 * 64)  # for a gradient
    )


def is_as_large(layer: nn.Conv2d, maps: torch.Tensor) -> bool:
    """Tell whether a layer's kernel covers the whole of its maps."""
    padded = any(layer._reversed_padding_repeated_twice)
    return maps.shape[2:] == layer.weight.shape[2:] and not padded


def is_plain(layer: nn.Module) -> bool:
    """Tell whether a layer is a convolution of a kind that was compared, whatever its shape."""
    return isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.dilation == (1, 1)


def is_promised(network: nn.Module) -> bool:
    """Tell whether all layers of a network that oneDNN computes are of a kind that was compared."""
    return all(is_plain(layer) for layer in network.modules() if isinstance(layer, OF_ONEDNN))


def needs_avx2(network: nn.Module, images: torch.Tensor) -> bool:
    """Tell whether a layer of a network may have other bits with AVX-512 than with AVX2.

    ``images`` are any that the network takes; they show how large the maps are.
    """
    found = []

    def look(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        found.append(is_same_with_avx512(layer, inputs[0]))

    layers = [layer for layer in network.modules() if isinstance(layer, OF_ONEDNN)]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    with torch.inference_mode():
        network.eval()(images)
    for hook in hooks:
        hook.remove()
    return not all(found)


def is_same_with_avx512(layer: nn.Module, maps: torch.Tensor) -> bool:
    """Tell whether a layer that gets such maps has AVX2's bits with AVX-512, too."""
    if not is_plain(layer):
        return False
    rows, columns = layer.kernel_size
    if (
        is_as_large(layer, maps)
        or has_long_sums(layer)
        or (layer.in_channels == 1 and 1 < columns < 16)
    ):
        return True
    halves = layer.stride == (2, 2) and layer.padding == (rows // 2, columns // 2)
    return rows == columns and rows in (3, 5, 7) and (halves or layer.in_channels < 16)

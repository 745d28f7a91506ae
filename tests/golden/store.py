"""Writes golden tensors: float32 and int32 safetensors files whose header carries a JSON description under the key `meta`."""

import json
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
import torch

FOLDER = Path(__file__).parent


def versions():
    """The versions the values depend on, stored in every file."""
    return {
        "torch": torch.__version__.split("+")[0],
        "numpy": np.__version__,
        "safetensors": safetensors.__version__,
    }


def to_numpy(value):
    """A tensor, array or list as a contiguous f32 or i32 array; 64-bit integers are narrowed after a range check."""
    array = value.detach().cpu().numpy() if torch.is_tensor(value) else np.asarray(value)
    if array.dtype.kind == "f":
        return np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype.kind in "iu":
        assert np.abs(array).max(initial=0) < 2**31
        return np.ascontiguousarray(array, dtype=np.int32)
    raise TypeError(f"no golden storage for dtype {array.dtype}")


def save(name, tensors, meta):
    """Write `name`.safetensors with the tensors and `meta` plus the versions as JSON in its header."""
    arrays = {key: to_numpy(value) for key, value in tensors.items()}
    header = {"meta": json.dumps({**meta, "versions": versions()}, sort_keys=True)}
    safetensors.numpy.save_file(arrays, FOLDER / f"{name}.safetensors", metadata=header)
    (FOLDER / f"{name}.safetensors").chmod(0o644)
    print(f"{name}.safetensors: {len(arrays)} tensors, {sum(a.nbytes for a in arrays.values())} bytes")


def nhwc(image):
    """Channel-last view of a PyTorch image batch: [N, C, H, W] to [N, H, W, C]."""
    return image.permute(0, 2, 3, 1).contiguous()


def nchw(image):
    """PyTorch's order of a channel-last image batch: [N, H, W, C] to [N, C, H, W]."""
    return image.permute(0, 3, 1, 2).contiguous()

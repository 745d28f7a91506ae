"""Writes arrays.npz: the numbers 0 to 5 as [2, 3] in every element type, byte order and memory order, and what is refused.

Run with NumPy: python make.py
"""

import io
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def main():
    plain = np.arange(6).reshape(2, 3)
    arrays = {}
    for kind in ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]:
        for name, order in [("little", "<"), ("big", ">")]:
            array = plain.astype(order + kind)
            arrays[f"{kind}_{name}_c"] = array
            arrays[f"{kind}_{name}_fortran"] = np.asfortranarray(array)
    arrays["b1"] = plain > 2
    arrays["cube"] = np.asfortranarray(np.arange(24, dtype="<i2").reshape(2, 3, 4))
    arrays["large"] = np.array([2**40, -1])
    arrays["objects"] = np.array([{}, None], dtype=object)
    arrays["text"] = np.array(["cat", "dog"])
    arrays["fields"] = np.zeros(2, dtype=[("a", "f4"), ("b", "f4")])
    arrays["complex"] = np.zeros(2, dtype=complex)
    with zipfile.ZipFile(HERE / "arrays.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for i, (name, array) in enumerate(arrays.items()):
            file = io.BytesIO()
            version = [(1, 0), (2, 0), (3, 0)][i % 3]
            np.lib.format.write_array(file, array, version=version)
            # A fixed date, so that the archive is the same each time; every fourth array is stored as it is.
            info = zipfile.ZipInfo(f"{name}.npy", (2020, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_STORED if i % 4 == 0 else zipfile.ZIP_DEFLATED
            archive.writestr(info, file.getvalue())


if __name__ == "__main__":
    main()

"""Makes every data file in this folder.

    pip install numpy scikit-learn
    python make.py

The source is the UCI "Optical Recognition of Handwritten Digits" data as
shipped with scikit-learn (`load_digits`): 1797 images of 8 x 8 = 64 pixels,
the ink of a pixel being an integer from 0 to 16. Nothing is downloaded.

Writes, next to this script:

    digits.csv       the integers: label,ink0,...,ink63, one image per line
    digits.npy       float32 [1797, 64], each row ink / sum(ink)
    digits_mean.npy  float32 [1, 64], the mean of those rows

There is no randomness: a second run writes the same bytes. The sha256 of each
file is printed at the end; README.md lists the expected ones.
"""

import hashlib
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parent


def save_npy(name, array):
    """Little-endian, C order, .npy format 1.0, whatever machine this runs on."""
    array = np.ascontiguousarray(array, dtype="<f4")
    with open(HERE / name, "wb") as file:
        np.lib.format.write_array(file, array, version=(1, 0))


digits = load_digits()
ink = digits.data.astype(np.int64)
label = digits.target.astype(np.int64)
assert ink.shape == (1797, 64) and (ink == digits.data).all()
assert ink.min() == 0 and ink.max() == 16 and (ink.sum(axis=1) > 0).all()

# The original integers.
with open(HERE / "digits.csv", "w", encoding="ascii", newline="\n") as file:
    file.write(",".join(["label"] + [f"ink{i}" for i in range(64)]) + "\n")
    for one_label, one_image in zip(label, ink):
        file.write(",".join(str(v) for v in [one_label, *one_image]) + "\n")

# Each image as a distribution over its pixels: divided in float64, stored as
# float32. The mean is taken before that rounding.
rows = ink / ink.sum(axis=1, keepdims=True)
mean = rows.mean(axis=0, keepdims=True)
save_npy("digits.npy", rows)
save_npy("digits_mean.npy", mean)

# What was stored must give a finite KL(image || mean) for every image. Here both
# sides are divided by their mass, which float32 rounding left within 1e-7 of 1.
p = np.load(HERE / "digits.npy").astype(np.float64)
q = np.load(HERE / "digits_mean.npy").astype(np.float64)
assert p.shape == (1797, 64) and q.shape == (1, 64)
assert (q[0, ink.any(axis=0)] > 0).all(), "the mean is zero where an image has ink"
p /= p.sum(axis=1, keepdims=True)
q /= q.sum()
on = p > 0
ratio = np.divide(p, q, out=np.ones_like(p), where=on)
kl = (p * np.log(ratio)).sum(axis=1)
assert np.isfinite(kl).all() and (kl > 0).all()

print(f"KL(image || mean) in nats: mean {kl.mean():.12f}  min {kl.min():.12f}  "
      f"median {np.median(kl):.12f}  max {kl.max():.12f}")
for name in ["digits.csv", "digits.npy", "digits_mean.npy"]:
    data = (HERE / name).read_bytes()
    print(f"{hashlib.sha256(data).hexdigest()}  {name}  ({len(data)} bytes)")

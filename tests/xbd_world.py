"""Small folders in the layouts of xBD and BRIGHT, whose pixels show their class."""

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin

COLOURS = np.array([[60, 80, 60], [180, 180, 170], [190, 150, 120], [160, 90, 80], [90, 40, 40]])
"""After, of each class; before, every building looks intact."""


def arrays(seed, size=64, classes=5):
    """Images [H, W, 3] before and after, and classes after; a black corner beyond the swath."""
    rng = np.random.default_rng(seed)
    target = np.zeros((size, size), np.uint8)
    for _ in range(8):
        row, col = rng.integers(0, size - 12, 2)
        target[row : row + 12, col : col + 12] = rng.integers(1, classes)
    noise = rng.normal(0, 6, (2, size, size, 3))
    pre = np.clip(COLOURS[np.minimum(target, 1)] + noise[0], 1, 255)
    post = np.clip(COLOURS[target] + noise[1], 1, 255)
    post[:6, :6] = 0
    post[30:33, 30:33] = 0  # a shadow
    return pre.astype(np.uint8), post.astype(np.uint8), target


def write_xbd(root, train=6, test=2, size=64, events=("mexico-earthquake", "palu-tsunami")):
    """Tiles of the events by turns."""
    for split, count in (("train", train), ("test", test)):
        for part in ("images", "targets"):
            (root / split / part).mkdir(parents=True)
        for number in range(count):
            name = f"{events[number % len(events)]}_{number + 100 * (split == 'test'):08d}"
            pre, post, target = arrays(number + 100 * (split == "test"), size)
            for date, image, mask in (("pre", pre, target > 0), ("post", post, target)):
                stem = f"{name}_{date}_disaster"
                Image.fromarray(image).save(root / split / "images" / f"{stem}.png")
                marked = Image.fromarray(mask.astype(np.uint8))
                marked.save(root / split / "targets" / f"{stem}_target.png")
    return root


def write_bright(root, count=3):
    """As TorchGeo has it: lists of names, and radar of one band after."""
    base = root / "dfc25_track2_trainval"
    lists = {"train_setlevel": range(count), "holdout_setlevel": [9], "val_setlevel": [10]}
    for name, numbers in lists.items():
        folder = "val" if name == "val_setlevel" else "train"
        lines = []
        for number in numbers:
            tile = f"bata-explosion_{number:08d}"
            lines.append(tile)
            pre, post, target = arrays(number, classes=4)
            write(base / folder / "pre-event" / f"{tile}_pre_disaster.tif", np.moveaxis(pre, -1, 0))
            write(base / folder / "post-event" / f"{tile}_post_disaster.tif", post[None, ..., 0])
            if folder == "train":
                write(base / folder / "target" / f"{tile}_building_damage.tif", target[None])
        (base / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = array.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=height, width=width, dtype="uint8",
        crs="EPSG:32632", transform=from_origin(0, 0, 1, 1),
    ) as file:  # fmt: skip
        file.write(array)

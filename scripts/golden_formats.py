"""Small image files of every format that Faceoff reads, with the RGB bytes that Pillow has of them, upright; read by the tests of
crates/data.

    pip install numpy Pillow
    python scripts/golden_formats.py        writes crates/data/tests/golden/formats.json
"""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HEIGHT, WIDTH = 10, 12
y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
ramp = np.stack([x * 20 + y, 255 - y * 24, 128 + 80 * np.sin(x / 3 + y / 2)], -1).clip(0, 255).astype("uint8")
rgb = Image.fromarray(ramp)
alpha = Image.fromarray((x * 255 // (WIDTH - 1)).astype("uint8"))
rgba = rgb.copy()
rgba.putalpha(alpha)
grey = rgb.convert("L")
grey_alpha = Image.merge("LA", (grey, alpha))
deep = Image.fromarray(x.astype("uint16") * 5000 + y.astype("uint16") * 700)
# A palette with one transparent colour.
palette = rgb.quantize(16)


def saved(image, **options):
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


cases = {
    "jpeg": saved(rgb, format="JPEG", quality=90),
    "jpeg, progressive": saved(rgb, format="JPEG", quality=90, progressive=True),
    "jpeg, grey": saved(grey, format="JPEG", quality=90),
    "jpeg, cmyk": saved(rgb.convert("CMYK"), format="JPEG", quality=95, subsampling=0),
    "png": saved(rgb, format="PNG"),
    "png, transparent": saved(rgba, format="PNG"),
    "png, grey and transparent": saved(grey_alpha, format="PNG"),
    "png, palette": saved(palette, format="PNG", transparency=3),
    "png, one bit": saved(grey.convert("1"), format="PNG"),
    "webp": saved(rgb, format="WEBP", quality=90),
    "webp, lossless and transparent": saved(rgba, format="WEBP", lossless=True, exact=True),
    "gif": saved(palette, format="GIF"),
    "gif, transparent, two frames": saved(
        palette, format="GIF", transparency=3, save_all=True, append_images=[ImageOps.mirror(rgb).quantize(16)]
    ),
    "bmp": saved(rgb, format="BMP"),
    "bmp, palette": saved(palette, format="BMP"),
    "tiff": saved(rgb, format="TIFF"),
    "tiff, lzw, grey": saved(grey, format="TIFF", compression="tiff_lzw"),
    "tiff, deflate, transparent": saved(rgba, format="TIFF", compression="tiff_adobe_deflate"),
}
for orientation in range(1, 9):
    cases[f"jpeg, orientation {orientation}"] = saved(rgb, format="JPEG", quality=95, subsampling=0, exif=turned(orientation))
cases["png, orientation 6"] = saved(rgb, format="PNG", exif=turned(6))
cases["webp, orientation 8"] = saved(rgb, format="WEBP", lossless=True, exif=turned(8))
cases["tiff, orientation 3"] = saved(rgb, format="TIFF", tiffinfo={0x0112: 3})

golden = []
for name, file in cases.items():
    image = Image.open(io.BytesIO(file))
    image = ImageOps.exif_transpose(image).convert("RGB")
    lossy = name.startswith("jpeg") or name == "webp"
    encoded = {key: value.hex() for key, value in (("file", file), ("rgb", image.tobytes()))}
    golden.append({"name": name, "lossy": lossy, "width": image.width, "height": image.height, **encoded})
# 16 bits of grey: Pillow's convert would clip them at 255; as with its 16-bit RGB, the upper eight count.
golden.append(
    {
        "name": "png, 16 bits",
        "lossy": False,
        "width": WIDTH,
        "height": HEIGHT,
        "file": saved(deep, format="PNG").hex(),
        "rgb": np.repeat((np.asarray(deep) >> 8).astype("uint8")[..., None], 3, -1).tobytes().hex(),
    }
)
path = Path(__file__).parent.parent / "crates/data/tests/golden/formats.json"
path.write_text("[\n" + ",\n".join(json.dumps(case) for case in golden) + "\n]\n")

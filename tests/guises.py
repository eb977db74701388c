"""Pictures that people might bring."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

GUISES = [
    "photo.jpg",
    "alpha.png",
    "palette.gif",
    "cmyk.tif",
    "lab.tif",
    "animated.gif",
    "pages.tif",
    "infinite.tif",
    "dark_background.bmp",
    "large.webp",
    "sixteen_bits.png",
    "wide.png",
    "phone.jpg",
]


def draw_own_pictures(folder: Path) -> None:
    """Draw a dark pair of trousers in all ``GUISES``, and what shows no garment."""
    trousers = Image.new("RGBA", (300, 500), (0, 0, 0, 0))
    pen = ImageDraw.Draw(trousers)
    pen.polygon([(90, 30), (210, 30), (230, 470), (170, 470), (150, 130)], fill=(30, 40, 90, 255))
    pen.polygon([(90, 30), (210, 30), (150, 130), (130, 470), (70, 470)], fill=(30, 40, 90, 255))
    on_white = Image.new("RGBA", trousers.size, "white")
    on_white.alpha_composite(trousers)
    photo = on_white.convert("RGB")
    photo.save(folder / "photo.jpg")
    trousers.save(folder / "alpha.png")
    photo.convert("P").save(folder / "palette.gif")
    photo.convert("CMYK").save(folder / "cmyk.tif")
    ImageOps.invert(photo.convert("L")).save(folder / "dark_background.bmp")
    neutral = Image.new("L", photo.size, 128)
    Image.merge("LAB", (photo.convert("L"), neutral, neutral)).save(folder / "lab.tif")
    photo.save(folder / "animated.gif", save_all=True, append_images=[neutral])
    photo.save(folder / "pages.tif", save_all=True, append_images=[neutral])
    floats = np.asarray(photo.convert("L"), np.float32)
    floats[100, 120:123] = np.inf, -np.inf, np.nan
    Image.fromarray(floats).save(folder / "infinite.tif")
    photo.resize((3000, 5000)).save(folder / "large.webp")
    deep = np.asarray(photo.convert("L"), np.uint16) * 200
    Image.fromarray(deep).save(folder / "sixteen_bits.png")
    wide = Image.new("L", (10_000, 800), 250)
    wide.paste(photo, (5_000, 150))
    wide.save(folder / "wide.png")
    lying = Image.Exif()
    lying[0x0112] = 6  # turn by a quarter to see it upright
    photo.transpose(Image.Transpose.ROTATE_90).save(folder / "phone.jpg", exif=lying)

    Image.new("RGB", (1, 1), "red").save(folder / "one_pixel.png")
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(folder / "transparent.png")
    grains = np.random.default_rng(1).integers(0, 256, (200, 300, 3), np.uint8)
    Image.fromarray(grains).save(folder / "noise.png")
    (folder / "iphone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.png").touch()
    (folder / "cut.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:2000])
    Image.new("1", (12_000, 12_000)).save(folder / "bomb.png")
    (folder / "folder.png").mkdir()

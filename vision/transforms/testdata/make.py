"""Makes the vectors beside this file: a synthetic source.png, what PIL's resize makes of it, and what torchvision's
operations do. Run with Debian 12's python3-torchvision (PIL 9.4, torchvision 0.14) in this folder."""
import json
import math
from PIL import Image
import torchvision.transforms.functional as F

W, H = 31, 23
noise, state = [], 1
for _ in range(W * H):
    state = (state * 1103515245 + 12345) % 2**31
    noise.append(state >> 16 & 255)
source = Image.frombytes('RGB', (W, H), bytes(
    v for y in range(H) for x in range(W)
    for v in (x * 255 // W, (x // 7 + y // 5) % 2 * 200 + noise[y * W + x] % 40, noise[y * W + x])))
source.save('source.png')
filters = {'nearest': 0, 'lanczos': 1, 'bilinear': 2, 'bicubic': 3, 'box': 4, 'hamming': 5}
for name, code in filters.items():
    for w, h in (13, 9), (47, 40), (W, 10):
        source.resize((w, h), code).save('resize_%s_%dx%d.png' % (name, w, h))
operations = {
    'shear_x': (0.21, lambda x: F.affine(source, 0.0, [0, 0], 1.0, [math.degrees(math.atan(x)), 0.0], center=[0, 0])),
    'shear_y': (-0.21, lambda x: F.affine(source, 0.0, [0, 0], 1.0, [0.0, math.degrees(math.atan(x))], center=[0, 0])),
    'translate_x': (5.7, lambda x: F.affine(source, 0.0, [int(x), 0], 1.0, [0.0, 0.0])),
    'translate_y': (-4.2, lambda x: F.affine(source, 0.0, [0, int(x)], 1.0, [0.0, 0.0])),
    'rotate': (17.0, lambda x: F.rotate(source, x)),
    'brightness': (0.4, lambda x: F.adjust_brightness(source, 1 + x)),
    'color': (-0.7, lambda x: F.adjust_saturation(source, 1 + x)),
    'contrast': (0.6, lambda x: F.adjust_contrast(source, 1 + x)),
    'sharpness': (0.8, lambda x: F.adjust_sharpness(source, 1 + x)),
    'posterize': (3.0, lambda x: F.posterize(source, int(x))),
    'solarize': (99.0, lambda x: F.solarize(source, x)),
    'autocontrast': (0.0, lambda x: F.autocontrast(source)),
    'equalize': (0.0, lambda x: F.equalize(source)),
    'hue': (0.23, lambda x: F.adjust_hue(source, x)),
}
for name, (x, f) in operations.items():
    f(x).save('operation_%s.png' % name)
json.dump({name: x for name, (x, _) in operations.items()}, open('operations.json', 'w'), indent=1)

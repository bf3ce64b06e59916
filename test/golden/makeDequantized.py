# Writes dequantized.json: random blocks of each quantised type, and their values by the numpy code of the PyPI package `gguf` (0.19.0), which is
# ggml's own reference in another language. Run: pip install gguf==0.19.0 && python test/golden/makeDequantized.py
import base64, json, pathlib
import numpy as np
from gguf import GGMLQuantizationType, dequantize, GGML_QUANT_SIZES

random = np.random.default_rng(20240607)
# Byte offsets of the f16 scales of a block: they are kept finite and of believable size.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "BF16": []}
golden = {}
for name, offsets in SCALES.items():
    kind = GGMLQuantizationType[name]
    elements, size = GGML_QUANT_SIZES[kind]
    count = 2 if elements == 256 else 32 if elements == 1 else 3
    blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
    for at in offsets:
        blocks[:, at : at + 2] = random.normal(0, 0.01, count).astype(np.float16).view(np.uint8).reshape(count, 2)
    if name == "BF16":
        blocks[:, 1] = blocks[:, 1] & 0xBF  # no infinities or NaN
    values = dequantize(blocks.reshape(1, -1), kind).astype("<f4")
    golden[name] = {"bytes": base64.b64encode(blocks.tobytes()).decode(), "values": base64.b64encode(values.tobytes()).decode()}
pathlib.Path(__file__).with_name("dequantized.json").write_text(json.dumps(golden, indent=1) + "\n")

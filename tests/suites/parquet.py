"""Write Parquet files as the Hugging Face hub gives them out: the audio is a record of bytes and a name."""

import io
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile


def wav(seconds=0.3, rate=16_000, subtype="PCM_16"):
    """Bytes of a WAV file of noise."""
    buffer = io.BytesIO()
    noise = 0.05 * np.random.default_rng(0).standard_normal(round(seconds * rate))
    soundfile.write(buffer, noise, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def write(path, columns, audio=None, group=2):
    """Columns with a sound file in each row, in row groups of a few rows."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = len(next(iter(columns.values())))
    sounds = [wav(0.2 + 0.1 * row) for row in range(count)] if audio is None else audio
    records = [{"bytes": sound, "path": f"{row}.wav"} for row, sound in enumerate(sounds)]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({**columns, "audio": pyarrow.array(records, kind)})
    pyarrow.parquet.write_table(table, path, row_group_size=group)
    return path

"""Opus packets (RFC 6716) as they come over a WebSocket, decoded one by one."""

from __future__ import annotations

from importlib.util import find_spec

from empathy_lightning.audio import SAMPLE_RATE
from empathy_lightning.errors import InputError

_MOST = 1_275 * 48 + 2
"""Bytes of the longest packet: 120 ms in 48 frames."""


class OpusDecoder:
    """Opus packets to PCM (package av, extra ``live``).

    Raises:
        InputError: If the package is not installed.
    """

    def __init__(self) -> None:
        if find_spec("av") is None:
            raise InputError("the server has no av (pip install 'empathy_lightning[live]'): send pcm16")
        import av

        self._decoder = av.CodecContext.create("libopus", "r")
        # Opus knows no other rate, and one channel sounds the same as both of a pair.
        self._decoder.sample_rate, self._decoder.layout = 48_000, "stereo"
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)

    def push(self, packet: bytes) -> bytes:
        """Decode a packet.

        Args:
            packet: One, without a container; 120 ms at most.

        Returns:
            What is certain by now, mono 16-bit little-endian PCM at 16 kHz.

        Raises:
            InputError: If it is no such packet.
        """
        import av

        if not 0 < len(packet) <= _MOST:
            raise InputError(f"an Opus packet has 1 to {_MOST} bytes, not {len(packet)}")
        try:
            frames = self._decoder.decode(av.Packet(packet))
        except av.error.FFmpegError as error:
            raise InputError(f"this is no Opus packet: {error.strerror}") from None
        sound = b""
        for frame in frames:
            for part in self._resampler.resample(frame):
                sound += part.to_ndarray().astype("<i2").tobytes()
        return sound

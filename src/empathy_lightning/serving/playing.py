"""How much of a reply somebody has heard, who hears it more slowly than it is made."""

from __future__ import annotations

from time import monotonic

from empathy_lightning.streaming import AudioBlock


class Playing:
    """A reply that is being played.

    Without a word of the player, it is taken to play from the first block on, and to wait where there is no sound.

    Attributes:
        seconds: Of its sound so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._marks: list[tuple[float, int]] = []
        self._ends = 0.0

    def add(self, block: AudioBlock) -> None:
        """Take the next block, which goes out now."""
        self._marks.append((self.seconds, block.characters))
        seconds = len(block.waveform) / block.sample_rate
        self.seconds += seconds
        # It begins where the block before ends, or now, where that has ended.
        self._ends = max(self._ends, monotonic()) + seconds

    @property
    def played(self) -> float:
        """Seconds that were heard by now."""
        return self.seconds - max(0.0, self._ends - monotonic())

    @property
    def audible(self) -> bool:
        """Whether some of it is still to be heard."""
        return self._ends > monotonic()

    def said(self, text: str, played: float | None = None) -> str:
        """The text that the speech had read for what was heard.

        Args:
            text: Of the reply.
            played: Seconds that the player has played; None goes by the clock.
        """
        played = self.played if played is None else played
        characters = 0
        for begins, read in self._marks:
            if begins < played:
                characters = read
        return text[:characters].rstrip()

"""Batches of an epoch that may have begun in an earlier run."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader


class ResumableLoader(DataLoader[Any]):
    """A DataLoader of the trainer's epoch, from the DataModule's position on.

    Args:
        trainer: Lightning's, which knows the epoch; None outside of a training.
        *args: As of DataLoader.
        **kwargs: As of DataLoader.
    """

    def __init__(self, *args: Any, trainer: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._trainer = trainer

    def __iter__(self) -> Any:
        if self._trainer is not None:
            sampler: Any = self.batch_sampler
            # Trainers make the first iterator of a resumed run before they know its epoch.
            sampler.set_epoch(max(self._trainer.current_epoch, sampler.first_epoch))
        return super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position is the DataModule's. That there is a state tells the trainer that it can resume."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing, as above."""

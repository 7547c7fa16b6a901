"""Vocoders of other projects behind :class:`empathy_lightning.modules.contracts.Vocoder`, one file each."""

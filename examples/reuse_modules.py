"""Use one module in a project of your own: plain torch, no Lightning, no configuration.

python examples/reuse_modules.py
"""

import torch

from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.speech_encoder import SpeechEncoder

# Any Whisper checkpoint: a folder or a model id such as openai/whisper-small.
encoder = SpeechEncoder.from_pretrained("small-world/speech_encoder")
nuance = EmotionNuance(input_size=encoder.hidden_size, output_size=192, num_emotions=4)

waveform = 0.1 * torch.randn(2, 32_000)  # two utterances at 16 kHz, padded on the right
heard = encoder(waveform, lengths=torch.tensor([32_000, 20_000]))
emotion = nuance(heard.layers, heard.mask)

print("emotion embedding", tuple(emotion.embedding.shape))
print("probabilities", emotion.logits.softmax(-1).detach().numpy().round(2))
print("arousal", emotion.arousal.detach().numpy().round(2))

loss = torch.nn.functional.cross_entropy(emotion.logits, torch.tensor([0, 3]))
loss.backward()  # reaches the nuance module; the encoder is frozen

// Sound from the microphone or from a file, as samples of one channel.

const HIGHEST_RATE = 48_000;

export class Microphone {
  /** @param {(samples: Float32Array) => void} heard */
  constructor(heard) {
    this.heard = heard;
    this.stream = null;
  }

  get on() {
    return this.stream !== null;
  }

  /** Begin to listen; gives the rate in Hz. */
  async start() {
    // Loudness tells emotions apart, so it is left as it is; the reply must not be heard again.
    const wanted = { echoCancellation: true, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    this.context = new AudioContext();
    if (this.context.sampleRate > HIGHEST_RATE) {
      await this.context.close();
      this.context = new AudioContext({ sampleRate: HIGHEST_RATE });
    }
    await this.context.audioWorklet.addModule(new URL("capture.js", import.meta.url));
    const capture = new AudioWorkletNode(this.context, "capture", { numberOfOutputs: 0 });
    capture.port.onmessage = ({ data }) => this.on && this.heard(data);
    this.context.createMediaStreamSource(this.stream).connect(capture);
    return this.context.sampleRate;
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close();
    this.stream = this.context = null;
  }
}

/** Samples of a file, all channels mixed, at 16 kHz. */
export async function samplesOf(file) {
  const decoder = new OfflineAudioContext(1, 1, 16_000);
  const sound = await decoder.decodeAudioData(await file.arrayBuffer());
  const mixed = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    sound.getChannelData(channel).forEach((sample, place) => (mixed[place] += sample / sound.numberOfChannels));
  }
  return { samples: mixed, rate: sound.sampleRate };
}

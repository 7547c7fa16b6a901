// Hands the microphone's samples on, 2048 at a time; runs in the thread of the sound.

const SIZE = 2048;

class Capture extends AudioWorkletProcessor {
  held = new Float32Array(SIZE);
  count = 0;

  process([[channel]]) {
    if (!channel) return true;
    this.held.set(channel, this.count);
    this.count += channel.length;
    if (this.count === SIZE) {
      this.port.postMessage(this.held.slice());
      this.count = 0;
    }
    return true;
  }
}

registerProcessor("capture", Capture);

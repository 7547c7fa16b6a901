// Plays blocks of sound one after the other as they come, and knows how much of them was heard.

const LEAD = 0.06; // seconds before the first block, so that the second one is in time

export class Player {
  /** @param {() => void} ended Called when nothing more is to be heard. */
  constructor(ended) {
    this.ended = ended;
    this.sources = new Set();
    this.seconds = this.until = 0;
  }

  /** Allow sound: browsers do so only after a click or a key. */
  unlock() {
    this.context ??= new AudioContext();
    this.context.resume();
  }

  /** Another reply begins. */
  begin() {
    this.stop();
    this.seconds = 0;
  }

  push(samples, rate) {
    this.unlock();
    const block = this.context.createBuffer(1, samples.length, rate);
    block.copyToChannel(samples, 0);
    const source = this.context.createBufferSource();
    source.buffer = block;
    source.connect(this.context.destination);
    const now = this.context.currentTime;
    const at = this.until > now ? this.until : now + LEAD;
    source.start(at);
    this.until = at + block.duration;
    this.seconds += block.duration;
    this.sources.add(source);
    source.onended = () => this.sources.delete(source) && !this.sources.size && this.ended();
  }

  get playing() {
    return this.sources.size > 0;
  }

  /** Seconds of the reply that were heard. */
  get played() {
    return this.playing ? Math.max(0, this.seconds - Math.max(0, this.until - this.context.currentTime)) : this.seconds;
  }

  stop() {
    for (const source of this.sources) {
      source.onended = null;
      source.stop();
    }
    this.sources.clear();
    this.until = 0;
  }
}

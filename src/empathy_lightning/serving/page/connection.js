// The conversation with the server: a WebSocket that is opened again when it was lost.

const LONGEST_FRAME = 32_000; // bytes

export class Connection {
  /**
   * @param {{message: (told: object) => void, sound: (samples: Float32Array) => void, lost: (why: string) => void}} does
   * @param {() => string} token What the server may ask for; "" for none.
   */
  constructor(does, token) {
    this.does = does;
    this.token = token;
    this.wait = 500;
    this.open();
  }

  open() {
    const address = new URL("v1/live", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const token = this.token();
    this.socket = new WebSocket(address, token ? ["empathy", `bearer.${token}`] : ["empathy"]);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => this.take(data);
    this.socket.onclose = ({ reason }) => this.closed(reason);
  }

  /** Open another one, with another token. */
  reopen() {
    this.socket.onclose = null;
    this.socket.close();
    clearTimeout(this.timer);
    this.open();
  }

  take(data) {
    this.wait = 500;
    this.known = true;
    if (typeof data === "string") {
      this.does.message(JSON.parse(data));
    } else {
      this.does.sound(Float32Array.from(new Int16Array(data), (sample) => sample / 32_768));
    }
  }

  closed(reason) {
    this.does.lost(reason || (this.known ? "" : "The server cannot be reached, or asks for a token: see Settings."));
    this.timer = setTimeout(() => this.open(), this.wait);
    this.wait = Math.min(2 * this.wait, 15_000);
  }

  get ready() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  tell(type, what = {}) {
    if (this.ready) this.socket.send(JSON.stringify({ type, ...what }));
  }

  /** Send samples in -1..1. */
  say(samples) {
    if (!this.ready) return;
    const whole = Int16Array.from(samples, (sample) => Math.max(-1, Math.min(1, sample)) * 32_767);
    for (let start = 0; start < whole.length; start += LONGEST_FRAME / 2) {
      this.socket.send(whole.subarray(start, start + LONGEST_FRAME / 2));
    }
  }
}

// A spectrogram that grows with its sound: 0 to 8 kHz, low tones wider than high ones, loud is dense.

const SIZE = 512;
const ROWS = 64;
const HOP = 0.016; // seconds
const SHOWN = 4; // seconds at least
const QUIETEST = -75; // dB

const WINDOW = Float32Array.from({ length: SIZE }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / SIZE));

/** Powers of a real signal of SIZE samples, by a radix-2 transform. */
function powers(samples) {
  const re = new Float32Array(SIZE);
  const im = new Float32Array(SIZE);
  for (let n = 0, m = 0; n < SIZE; n++) {
    re[m] = samples[n] * WINDOW[n];
    let bit = SIZE >> 1;
    for (; m & bit; bit >>= 1) m ^= bit;
    m |= bit;
  }
  for (let half = 1; half < SIZE; half *= 2) {
    for (let k = 0; k < half; k++) {
      const cos = Math.cos((Math.PI * k) / half);
      const sin = -Math.sin((Math.PI * k) / half);
      for (let n = k; n < SIZE; n += 2 * half) {
        const r = re[n + half] * cos - im[n + half] * sin;
        const i = re[n + half] * sin + im[n + half] * cos;
        re[n + half] = re[n] - r;
        im[n + half] = im[n] - i;
        re[n] += r;
        im[n] += i;
      }
    }
  }
  return re.slice(0, SIZE / 2).map((real, n) => (real * real + im[n] * im[n]) / SIZE);
}

export class Spectrogram {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {string} whose For the description.
   */
  constructor(canvas, whose) {
    this.canvas = canvas;
    this.whose = whose;
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.clear();
  }

  clear() {
    this.columns = [];
    this.rest = new Float32Array(0);
    this.seconds = 0;
    this.draw();
  }

  push(samples, rate) {
    const hop = Math.round(HOP * rate);
    const step = Math.max(1, Math.round(rate / 16_000));
    const all = new Float32Array(this.rest.length + samples.length);
    all.set(this.rest);
    all.set(samples, this.rest.length);
    let start = 0;
    for (; start + SIZE * step <= all.length; start += hop) {
      const part = Float32Array.from({ length: SIZE }, (_, n) => all[start + n * step]);
      this.columns.push(this.column(powers(part), rate / step));
    }
    this.rest = all.slice(start);
    this.seconds += samples.length / rate;
    this.asked ??= requestAnimationFrame(() => this.draw());
  }

  /** Levels in 0..1 from low to high, on a scale of pitch as ears have it. */
  column(power, rate) {
    const top = Math.min(8_000, rate / 2);
    const mel = (hertz) => Math.log1p(hertz / 700);
    const place = (row) => (700 * Math.expm1((mel(top) * row) / ROWS) * SIZE) / rate;
    return Float32Array.from({ length: ROWS }, (_, row) => {
      const first = Math.floor(place(row));
      const last = Math.max(first + 1, Math.floor(place(row + 1)));
      const loudest = Math.max(...power.slice(first, last), 1e-12);
      return Math.max(0, Math.min(1, 1 - (10 * Math.log10(loudest)) / QUIETEST));
    });
  }

  draw() {
    this.asked = null;
    const { canvas, columns } = this;
    const width = Math.max(columns.length, Math.round(SHOWN / HOP));
    const [, red, green, blue] = getComputedStyle(canvas).color.match(/(\d+)\D+(\d+)\D+(\d+)/).map(Number);
    canvas.width = width;
    canvas.height = ROWS;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, ROWS);
    columns.forEach((column, x) => {
      column.forEach((level, row) => {
        image.data.set([red, green, blue, 255 * level ** 1.6], 4 * ((ROWS - 1 - row) * width + x));
      });
    });
    context.putImageData(image, 0, 0);
    const heard = this.seconds ? `${this.seconds.toFixed(1)} seconds` : "nothing yet";
    canvas.setAttribute("aria-label", `Spectrogram of ${this.whose}: ${heard}`);
  }
}

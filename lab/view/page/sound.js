// The player of the lab, in one module of several files (player.py puts them together): any number of sounds on one clock,
// lanes to look at, and a click anywhere to hear that moment. No dependency and no network. Here: samples, their spectrum
// and their speed; then `Engine` plays them (one a model: it outlives its views), and `View` draws. Positions are samples
// at 16 kHz inside, seconds in messages, traits and attributes.

const HOP = 256, WIDTH = 512, BANDS = 64; // samples a column of the spectrogram, samples it looks at, rows of 125 Hz
const AHEAD = 8; // seconds scheduled ahead: the timers of a hidden tab fire once a second
const PIECE = 2; // seconds of one AudioBuffer; with AHEAD the bound of the sound that is held as floats
const KEEP = 600; // seconds of a live story held here; older ones are asked back from the kernel
const FADE = 80; // samples, 5 ms, at both ends of a loop
const LEAD = 0.25; // seconds that must be there before a live story starts; doubled at each underrun
const GRAIN = 240, SLACK = 120; // samples: half a window of `stretched`, and how far it may move to fit

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const decibels = (gain) => 10 ** (gain / 20);
const megabytes = (bytes) => `${(bytes / 1e6).toPrecision(bytes < 1e6 ? 2 : 3)} MB`;
const array = (view, Type) => new Type(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

function clock(seconds, digits = 1) {
  if (seconds < 60) return `${seconds.toFixed(digits)} s`;
  const [minutes, rest] = [Math.floor(seconds / 60), (seconds % 60).toFixed(digits)];
  return `${minutes}:${rest.padStart(digits ? digits + 3 : 2, "0")}`;
}

// Samples in blocks of a second, and what is drawn of them: extremes and spectrum of every 16 ms.
class Sound {
  constructor(name = "", gain = 0) {
    Object.assign(this, { name, gain, length: 0, blocks: new Map(), peak: 1e-3, loudest: -60 });
    this.low = new Int16Array(0);
    this.high = new Int16Array(0);
    this.power = new Uint8Array(0); // (columns, BANDS) of -dB + 1; 0: not known yet
  }

  write(start, pcm) {
    const stop = start + pcm.length;
    this.length = Math.max(this.length, stop);
    this.grow(Math.ceil(stop / HOP));
    for (let at = start; at < stop; ) {
      const second = Math.floor(at / RATE), from = at - second * RATE;
      const part = pcm.subarray(at - start, at - start + RATE - from), to = from + part.length;
      let block = this.blocks.get(second);
      if (!block || from > block.to || to < block.from) {
        block = { pcm: block?.pcm ?? new Int16Array(RATE), from, to };
        this.blocks.set(second, block);
      }
      block.pcm.set(part, from);
      block.from = Math.min(block.from, from);
      block.to = Math.max(block.to, to);
      at += part.length;
    }
    for (let i = 0; i < pcm.length; i++) {
      const column = Math.floor((start + i) / HOP), value = pcm[i];
      if (value < this.low[column]) this.low[column] = value;
      if (value > this.high[column]) this.high[column] = value;
      if (Math.abs(value) > 32768 * this.peak) this.peak = Math.abs(value) / 32768;
    }
  }

  grow(columns) {
    if (columns <= this.low.length) return;
    const room = Math.max(columns, Math.ceil(1.5 * this.low.length));
    for (const [name, size] of [["low", 1], ["high", 1], ["power", BANDS]]) {
      const wider = new this[name].constructor(room * size);
      wider.set(this[name]);
      this[name] = wider;
    }
  }

  // Lets go of the blocks that came first until `keep` are left; their picture stays.
  forget(keep) {
    for (const second of this.blocks.keys()) {
      if (this.blocks.size <= keep) return;
      const [first, last] = [(second * RATE) / HOP, ((second + 1) * RATE) / HOP + 1];
      for (let column = Math.floor(first); column < last; column++) this.column(column);
      this.blocks.delete(second);
    }
  }

  // How many samples from `at` on are here without a gap, AHEAD seconds at most.
  held(at) {
    let stop = at;
    while (stop - at < AHEAD * RATE) {
      const second = Math.floor(stop / RATE), block = this.blocks.get(second), from = stop - second * RATE;
      if (!block || from < block.from || from >= block.to) break;
      stop = second * RATE + block.to;
    }
    return stop - at;
  }

  read(start, count) {
    const out = new Float32Array(count); // silent where nothing is held
    for (let at = start; at < start + count; ) {
      const second = Math.floor(at / RATE), from = at - second * RATE;
      const block = this.blocks.get(second), size = Math.min(RATE - from, start + count - at);
      if (block) for (let i = 0; i < size; i++) out[at - start + i] = block.pcm[from + i] / 32768;
      at += size;
    }
    return out;
  }

  // The lowest and highest sample in [start, stop), as shares of full scale.
  extremes(start, stop) {
    let low = 0, high = 0;
    if (stop - start < HOP && this.blocks.has(Math.floor(start / RATE))) {
      const samples = this.read(Math.floor(start), Math.max(2, Math.ceil(stop - start) + 1));
      return [Math.min(...samples), Math.max(...samples)];
    }
    const last = Math.min(Math.max(Math.floor(start / HOP) + 1, Math.ceil(stop / HOP)), Math.ceil(this.length / HOP));
    for (let column = Math.floor(start / HOP); column < last; column++) {
      if (this.low[column] < low) low = this.low[column];
      if (this.high[column] > high) high = this.high[column];
    }
    return [low / 32768, high / 32768];
  }

  // Computes one column of the spectrogram; false where its samples are not here (yet).
  column(index) {
    const at = index * BANDS;
    if (this.power[at]) return true;
    const start = index * HOP + (HOP - WIDTH) / 2, first = Math.max(0, start);
    if (index * HOP >= this.length || !this.held(first)) return false;
    if (start + WIDTH > this.length && this.growing) return false;
    const samples = this.read(first, start + WIDTH - first);
    spectrum(samples, first - start).forEach((power, band) => {
      const db = 10 * Math.log10(power + 1e-12);
      this.loudest = Math.max(this.loudest, db);
      this.power[at + band] = clamp(Math.round(1 - db), 1, 255);
    });
    return true;
  }
}

// Mean power of BANDS bands of a Hann-windowed WIDTH samples, 0 dB being a sine of full scale; radix-2 FFT in place.
const COSINE = Float64Array.from({ length: WIDTH }, (_, i) => Math.cos((2 * Math.PI * i) / WIDTH));
function spectrum(samples, offset) {
  const real = new Float64Array(WIDTH), imag = new Float64Array(WIDTH), bits = Math.log2(WIDTH);
  for (let i = 0; i < samples.length; i++) {
    let place = 0;
    for (let bit = 0, rest = i + offset; bit < bits; bit++, rest >>= 1) place = (place << 1) | (rest & 1);
    real[place] = samples[i] * (0.5 - 0.5 * COSINE[i + offset]);
  }
  for (let half = 1; half < WIDTH; half *= 2) {
    for (let i = 0; i < half; i++) {
      const turn = (i * WIDTH) / (2 * half), c = COSINE[turn], s = -COSINE[(turn + (3 * WIDTH) / 4) % WIDTH];
      for (let a = i; a < WIDTH; a += 2 * half) {
        const b = a + half, re = real[b] * c - imag[b] * s, im = real[b] * s + imag[b] * c;
        real[b] = real[a] - re;
        imag[b] = imag[a] - im;
        real[a] += re;
        imag[a] += im;
      }
    }
  }
  const each = WIDTH / 2 / BANDS, power = new Float64Array(BANDS);
  for (let bin = 0; bin < WIDTH / 2; bin++) {
    power[Math.floor(bin / each)] += (real[bin] ** 2 + imag[bin] ** 2) / each / (WIDTH / 4) ** 2;
  }
  return power;
}

// `samples` at another speed and the same pitch: windows of 2 GRAIN added at half their length, each moved by up to
// SLACK samples to where it continues the one before best (WSOLA, Verhelst and Roelands 1993). It begins and ends with
// the samples as they are, so that pieces meet without a click.
function stretched(samples, rate) {
  const count = Math.round(samples.length / rate), last = samples.length - 2 * GRAIN;
  if (last < SLACK || count < 4 * GRAIN) return samples.slice(0, count);
  const out = new Float32Array(count), places = [0];
  const frames = Math.ceil(count / GRAIN) - 1, step = (count - 2 * GRAIN) / (frames - 1);
  for (let frame = 1; frame < frames; frame++) {
    const ideal = Math.round((frame * last) / (frames - 1)), natural = places[frame - 1] + Math.round(step);
    let best = ideal, most = -Infinity;
    if (frame < frames - 1) {
      for (let at = Math.max(0, ideal - SLACK); at <= Math.min(last, ideal + SLACK); at += 2) {
        let fit = 0;
        for (let i = 0; i < GRAIN; i += 2) fit += samples[at + i] * (samples[natural + i] ?? 0);
        if (fit > most) [best, most] = [at, fit];
      }
    }
    places.push(best);
  }
  const weights = new Float32Array(count);
  places.forEach((from, frame) => {
    const to = Math.round(frame * step);
    for (let i = 0; i < 2 * GRAIN; i++) {
      const edge = (!frame && i < GRAIN) || (frame === frames - 1 && i >= GRAIN);
      const weight = edge ? 1 : 1 - Math.abs(i + 0.5 - GRAIN) / GRAIN;
      out[to + i] += weight * samples[from + i];
      weights[to + i] += weight;
    }
  });
  return out.map((sample, i) => (weights[i] ? sample / weights[i] : 0));
}

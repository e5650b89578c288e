// The player of the lab: any number of sounds on one clock, lanes to look at, and a click anywhere to hear that moment.
// No dependency and no network. `Sound` holds samples, `Engine` plays them (one a model: it outlives its views),
// `View` draws. Positions are samples at 16 kHz inside, seconds in messages, traits and attributes.

const RATE = 16000;
const HOP = 256, WIDTH = 512, BANDS = 64; // samples a column of the spectrogram, samples it looks at, rows of 125 Hz
const AHEAD = 8; // seconds scheduled ahead: the timers of a hidden tab fire once a second
const PIECE = 2; // seconds of one AudioBuffer; with AHEAD the bound of the sound that is held as floats
const KEEP = 600; // seconds of a live story held here; older ones are asked back from the kernel
const FADE = 80; // samples, 5 ms, at both ends of a loop
const LEAD = 0.25; // seconds that must be there before a live story starts; doubled at each underrun
const RATES = [0.5, 0.75, 1, 1.25, 1.5, 2]; // times the speed of the speech, at its pitch
const GRAIN = 240, SLACK = 120; // samples: half a window of `stretched`, and how far it may move to fit
const HEIGHTS = { map: 18, wave: 52, spectrogram: 96, curve: 60, ribbon: 18, heat: 60, causes: 22, words: 20, marks: 16, axis: 22 }; // pixels
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600]; // of the axis
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"; // player.py refuses a blind comparison of more
const SILENT = 6000; // milliseconds without a word from the kernel, which sends one a second
const LOST = "the kernel was restarted, has ended or cannot be reached; what was made plays, run the cell again for more";
const CIVIDIS = ["#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838"];

// one a page, although each widget loads this module anew: one AudioContext, and one player that sounds
const page = (globalThis[Symbol.for("speechssm-lab.player")] ??= { context: null, sounding: null, volume: 1 });

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

// Plays the sounds of one model. `at` is the next sample to schedule; `voice` what is scheduled, null when nothing is.
class Engine extends EventTarget {
  constructor(model) {
    super();
    this.model = model;
    this.live = model.get("_live").state ? model.get("_live") : null;
    this.lost = false; // whether a story is cut off from the kernel that makes it
    this.sounds = model.get("_sounds").map(({ name, gain, pcm }) => {
      const sound = new Sound(name, gain);
      sound.write(0, array(pcm, Int16Array));
      return sound;
    });
    this.lanes = model.get("_lanes").map(unpack);
    this.seams = model.get("_seams");
    this.colours = model.get("_colours");
    Object.assign(this, { active: 0, at: 0, playing: false, voice: null, loop: null, rate: 1 });
    this.at = Math.min(Math.round(model.get("seconds") * RATE), this.length); // where a page that was left stood
    Object.assign(this, { lead: LEAD, underruns: 0, views: 0, asked: new Map() });
    this.order = this.sounds.map((_, i) => i); // the sound behind each button
    this.voting = this.blind = model.get("_blind");
    if (this.blind) this.shuffle();
    model.on("msg:custom", (message, buffers) => this.receive(message, buffers));
    if (model.get("_plays") && navigator.userActivation?.hasBeenActive) this.play();
    if (this.live) {
      this.sounds[0].growing = true;
      this.gauges = { made: 0, speed: 0, memory: [] };
      this.memory = { kind: "curve", name: "memory", unit: "MB", lines: this.live.lines.map(unpackLine) };
      this.lanes.push(this.memory);
      model.on("change:_live", () => this.follow());
      this.follow();
      model.send({ kind: "hello" });
      this.heard();
      this.watch = setInterval(() => this.check(), 1000);
      if (this.growing && (navigator.userActivation?.hasBeenActive ?? true)) this.play();
    }
  }

  get length() {
    return Math.max(...this.sounds.map((sound) => sound.length));
  }

  // Whether more of the story is on its way.
  get growing() {
    return this.live?.state === "generating" && !this.lost;
  }

  get audible() {
    return this.playing && page.context.state === "running";
  }

  toggle() {
    if (this.audible) this.pause();
    else this.play();
  }

  // where the ear is, in seconds
  get seconds() {
    if (!this.voice) return this.at / RATE;
    const now = page.context.currentTime * RATE, queue = this.voice.queue;
    while (queue.length > 1 && now >= queue[1].frame) queue.shift();
    const { frame, from, to, rate } = queue[0];
    return clamp(from + (now - frame) * rate, from, to) / RATE;
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }

  follow() {
    this.live = this.model.get("_live");
    this.sounds[0].growing = this.growing;
    this.changed();
  }

  heard() {
    this.last = Date.now();
    if (!this.lost) return;
    this.lost = false;
    this.follow();
  }

  // A kernel that was restarted says nothing, not even that it was.
  check() {
    if (!this.growing || Date.now() - this.last < SILENT) return;
    this.lost = true;
    this.follow();
  }

  receive(message, buffers) {
    this.heard();
    if (message.kind === "seek") this.go(message.seconds, message.play);
    if (message.kind !== "sound") return;
    const sound = this.sounds[0], newest = sound.length;
    if (this.halted && message.start >= newest) return; // a busy kernel has not heard of the stop yet
    sound.write(message.start, array(buffers[0], Int16Array));
    sound.forget(KEEP);
    for (const [seconds, ...bytes] of message.memory) {
      this.memory.lines.forEach((line, i) => {
        if (seconds <= (line.times.at(-1) ?? -1)) return;
        line.times.push(seconds);
        line.values.push(bytes[i] / 1e6);
      });
    }
    this.gauges = message.gauges;
    if (this.playing) this.tick();
    this.changed();
  }

  play(seconds = this.seconds) {
    if (!this.growing && seconds * RATE >= this.length) seconds = 0;
    page.context ??= new AudioContext({ sampleRate: RATE });
    if (page.context.state !== "running") page.context.resume().then(() => this.changed());
    if (page.sounding !== this) page.sounding?.pause();
    page.sounding = this;
    this.silence();
    this.at = Math.round(seconds * RATE);
    this.playing = true;
    clearInterval(this.timer);
    this.timer = setInterval(() => this.tick(), 50);
    this.tick();
    this.changed();
  }

  pause() {
    this.at = Math.round(this.seconds * RATE);
    this.silence();
    this.playing = false;
    clearInterval(this.timer);
    this.report(true);
    this.changed();
  }

  go(seconds, play = this.playing) {
    const end = this.length / RATE;
    seconds = clamp(seconds, 0, end);
    if (this.loop && (seconds < this.loop[0] || seconds >= this.loop[1])) this.loop = null;
    if (play && (this.growing || seconds < end)) return this.play(seconds);
    if (this.playing) this.pause(); // at the end nothing is left to play; the button begins anew
    this.at = Math.round(seconds * RATE);
    this.report(true);
    this.changed();
  }

  repeat(loop) {
    const seconds = this.seconds;
    this.loop = loop && [loop[0], Math.max(loop[1], loop[0] + 0.05)];
    this.go(loop && (seconds < loop[0] || seconds >= loop[1]) ? loop[0] : seconds);
  }

  choose(index) {
    if (!this.sounds[index]) return;
    this.active = index;
    const now = page.context?.currentTime;
    // 8 ms: too slow for a click, too fast to be heard as a fade
    this.voice?.gains.forEach(({ gain }, i) => gain.setTargetAtTime(this.gainOf(i), now, 0.008));
    this.changed();
  }

  // What chooses the sound behind a button: 1 to 9, and its letter where that stands on it or digits do not suffice.
  keys(label) {
    const lettered = label < LETTERS.length && (this.blind || this.sounds.length > 9);
    return [...(label < 9 ? [String(label + 1)] : []), ...(lettered ? [LETTERS[label]] : [])];
  }

  pace(rate) {
    this.rate = rate;
    if (this.playing) this.play();
    this.changed();
  }

  // The volume of all players of the page.
  volume(level) {
    page.volume = level;
    this.loud?.gain.setTargetAtTime(level, page.context.currentTime, 0.01);
    this.changed();
  }

  // The sound that is heard, as a WAV file: what this page holds of it.
  file() {
    const sound = this.sounds[this.active], from = Math.min(...sound.blocks.keys()) * RATE;
    const pcm = Int16Array.from(sound.read(from, sound.length - from), (sample) => sample * 32768);
    const head = new DataView(new ArrayBuffer(44)), text = (at, word) => [...word].forEach((letter, i) =>
      head.setUint8(at + i, letter.charCodeAt(0)));
    ["RIFF", "WAVE", "fmt ", "data"].forEach((word, i) => text([0, 8, 12, 36][i], word));
    const numbers = [[4, 36 + pcm.byteLength], [16, 16], [24, RATE], [28, 2 * RATE], [40, pcm.byteLength]];
    for (const [at, value] of numbers) head.setUint32(at, value, true);
    for (const [at, value] of [[20, 1], [22, 1], [32, 2], [34, 16]]) head.setUint16(at, value, true);
    return new Blob([head, pcm], { type: "audio/wav" });
  }

  shuffle() {
    for (let i = this.order.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      [this.order[i], this.order[j]] = [this.order[j], this.order[i]];
    }
    this.choose(this.order[0]);
  }

  // One vote for the sound behind a button, or for none of them.
  vote(label) {
    const votes = this.model.get("votes");
    const name = label === null ? "no difference" : this.sounds[this.order[label]].name;
    this.model.set("votes", { ...votes, [name]: (votes[name] ?? 0) + 1 });
    this.model.save_changes();
    this.shuffle();
  }

  gainOf(index) {
    return index === this.active ? decibels(this.sounds[index].gain) : 0;
  }

  stop() {
    this.pause();
    this.halted = true;
    this.model.send({ kind: "stop" });
    this.live = { ...this.live, state: "stopped" };
    this.changed();
  }

  silence() {
    if (!this.voice) return;
    const { out, nodes } = this.voice, now = page.context.currentTime;
    out.gain.setTargetAtTime(0, now, 0.004);
    for (const node of nodes) node.stop(now + 0.03);
    this.voice = null;
  }

  open() {
    const context = page.context;
    this.analyser ??= new AnalyserNode(context, { fftSize: 2048, smoothingTimeConstant: 0 });
    this.loud ??= new GainNode(context, { gain: page.volume });
    this.loud.gain.value = page.volume; // another player may have changed it
    this.analyser.connect(this.loud);
    this.loud.connect(context.destination);
    const out = new GainNode(context, { gain: 0 });
    out.connect(this.analyser);
    const gains = this.sounds.map((_, i) => new GainNode(context, { gain: this.gainOf(i) }));
    gains.forEach((gain) => gain.connect(out));
    const frame = Math.ceil((context.currentTime + 0.03) * RATE); // whole frames: pieces then meet sample to sample
    this.voice = { out, gains, nodes: new Set(), queue: [], start: frame, frame };
  }

  // The sample at which playing turns back or ends: that of the loop, or of a story that grows no more.
  get limit() {
    const stop = this.loop ? Math.round(this.loop[1] * RATE) : Infinity;
    return this.at < stop && this.loop ? stop : this.growing ? Infinity : this.length;
  }

  // How many samples from `at` on can be played.
  get held() {
    return this.live ? this.sounds[0].held(this.at) : this.length - this.at;
  }

  tick() {
    if (!this.voice) {
      if (this.at >= this.limit) return this.pause();
      if (this.held < Math.min(this.lead * RATE, this.limit - this.at)) return this.ask();
      this.open();
      this.changed();
    }
    const voice = this.voice, now = page.context.currentTime * RATE, before = voice.frame;
    while (voice.frame < now + AHEAD * RATE) {
      const count = Math.min(PIECE * RATE, this.held, this.limit - this.at);
      if (!count) break;
      this.schedule(count);
      if (this.loop && this.at === Math.round(this.loop[1] * RATE)) this.at = Math.round(this.loop[0] * RATE);
    }
    if (voice.frame > before) this.fade(voice);
    if (voice.frame < now + AHEAD * RATE) this.ask();
    if (voice.frame < now) this.runOut();
    this.report();
  }

  // Up from where the sound begins, and down in the 5 ms before `frame`: should nothing more come, it ends without a
  // click.
  fade({ out: { gain }, start, frame }) {
    gain.cancelScheduledValues(0);
    gain.setTargetAtTime(1, Math.max(page.context.currentTime, start / RATE), 0.002);
    gain.setTargetAtTime(0, (frame - 80) / RATE, 0.001);
  }

  // All that was scheduled is over: the end, or an underrun.
  runOut() {
    if (this.at >= this.limit) return this.pause();
    this.voice = null;
    this.underruns += 1;
    this.lead = Math.min(2 * this.lead, 4);
    this.changed();
  }

  schedule(count) {
    const { voice } = this, { context } = page;
    const [first, last] = (this.loop ?? [-1, -1]).map((seconds) => Math.round(seconds * RATE));
    const length = Math.max(1, Math.round(count / this.rate));
    this.sounds.forEach((sound, i) => {
      const buffer = new AudioBuffer({ length, sampleRate: RATE }), read = sound.read(this.at, count);
      const samples = this.rate === 1 ? read : stretched(read, this.rate);
      for (let k = 0; k < Math.min(FADE, length); k++) { // a loop's ends need not fit: without a fade each round clicks
        if (this.at === first) samples[k] *= k / FADE;
        if (this.at + count === last) samples[length - 1 - k] *= k / FADE;
      }
      buffer.copyToChannel(samples, 0);
      const node = new AudioBufferSourceNode(context, { buffer });
      node.connect(voice.gains[i]);
      node.start(voice.frame / RATE);
      node.onended = () => voice.nodes.delete(node);
      voice.nodes.add(node);
    });
    voice.queue.push({ frame: voice.frame, from: this.at, to: this.at + count, rate: this.rate });
    voice.frame += length;
    this.at += count;
  }

  // Asks the kernel for what was made but is not here, once a second at most.
  ask() {
    const second = Math.floor(this.at / RATE);
    if (!this.live || this.at >= this.length || Date.now() - (this.asked.get(second) ?? 0) < 1000) return;
    this.asked.set(second, Date.now());
    this.model.send({ kind: "want", second });
  }

  // Tells the kernel where the ear is, five times a second.
  report(now = false) {
    if (!now && Date.now() - (this.reported ?? 0) < 200) return;
    this.reported = Date.now();
    this.model.set("seconds", Math.round(this.seconds * 1000) / 1000);
    this.model.save_changes();
  }

  // Loudness, pitch and roughness of the last 128 ms that left for the loudspeaker.
  measure() {
    const wave = new Float32Array(this.analyser?.fftSize ?? 0);
    if (this.playing) this.analyser?.getFloatTimeDomainData(wave);
    let energy = 0, jump = 0, first = -1, last = -1, crossings = 0;
    for (let i = 1; i < wave.length; i++) {
      energy += wave[i] ** 2;
      jump = Math.max(jump, Math.abs(wave[i] - wave[i - 1]));
      if (wave[i - 1] < 0 && wave[i] >= 0) {
        last = i - wave[i] / (wave[i] - wave[i - 1]);
        if (first < 0) first = last;
        else crossings += 1;
      }
    }
    const pitch = crossings ? (crossings * RATE) / (last - first) : 0;
    return { level: Math.sqrt(energy / (wave.length || 1)), pitch, jump };
  }

  close() {
    this.silence();
    this.playing = false; // nobody has to pause it, and tell a kernel that has let go of it
    if (page.sounding === this) page.sounding = null;
    clearInterval(this.timer);
    clearInterval(this.watch);
  }
}

function unpackLine(line) {
  const numbers = (view) => Array.from(array(view, Float32Array));
  return { ...line, times: numbers(line.times), values: numbers(line.values) };
}

function unpack(lane) {
  if (lane.kind === "curve") return { ...lane, lines: lane.lines.map(unpackLine) };
  if (lane.kind === "ribbon") return { ...lane, values: array(lane.values, Uint16Array) };
  if (lane.rows) return { ...lane, values: array(lane.values, Uint8Array) };
  return lane;
}

// --- what is drawn

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// JupyterLab's shortcuts match the element that has the focus: each that can have it asks to be left alone
const OWN_KEYS = { "data-lm-suppress-shortcuts": "true" };
const button = (label, title, onclick) => h("button", { ...OWN_KEYS, type: "button", title, onclick }, label);

function line(g, x0, y0, x1, y1) {
  g.beginPath();
  g.moveTo(x0, y0);
  g.lineTo(x1, y1);
  g.stroke();
}

function cividis(share) {
  const at = share * (CIVIDIS.length - 1), low = Math.floor(at), part = at - low;
  const channel = (stop, i) => parseInt(CIVIDIS[stop].slice(i, i + 2), 16);
  return `rgb(${[1, 3, 5].map((i) => Math.round(channel(low, i) * (1 - part) + channel(low + 1, i) * part))})`;
}

// What each second put into a moment, as shares.
function causes(lane, seconds) {
  const count = lane.values.length / lane.rows, column = clamp(Math.floor(seconds * lane.rate), 0, count - 1);
  return Array.from({ length: lane.rows }, (_, row) => lane.values[row * count + column] / 255);
}

// Wilson's 95 % interval of a share.
function interval(count, total) {
  const z = 1.96, middle = (count + z ** 2 / 2) / (total + z ** 2);
  const half = (z * Math.sqrt((count * (total - count)) / total + z ** 2 / 4)) / (total + z ** 2);
  return [middle - half, middle + half];
}

class View {
  constructor(engine, parent) {
    const caption = engine.model.get("caption");
    const root = h("div", { class: "lab-player", role: "group", "aria-label": caption || "player" });
    root.append(h("div", { class: "caption" }, caption));
    Object.assign(this, { engine, root, zoomed: null, hover: null, drag: null, jump: 0 });
    root.append(this.controls(), ...this.boards(), this.picture(), this.says, this.footer());
    parent.append(root);
    this.listen();
    this.update = () => {
      if (!root.isConnected) return; // there are no colours yet; once there is a size, the observer calls
      this.refresh();
      this.request(true);
    };
    engine.addEventListener("change", this.update);
    this.resized = new ResizeObserver(this.update);
    this.resized.observe(this.plot);
    this.themed = new MutationObserver(this.update);
    this.themed.observe(document.body, { attributes: true });
    engine.views += 1;
    this.update();
  }

  close() {
    const { engine } = this;
    engine.removeEventListener("change", this.update);
    this.resized.disconnect();
    this.themed.disconnect();
    cancelAnimationFrame(this.frame);
    engine.views -= 1;
    // a cell that is run again takes its sound with it; a view that only moves is back at once
    setTimeout(() => engine.playing && !engine.views && engine.pause(), 1000);
  }

  controls() {
    const { engine } = this, count = engine.sounds.length;
    this.play = button("Play", "play or pause (space)", () => engine.toggle());
    this.play.classList.add("main");
    this.stop = button("Stop", "end this story here", () => engine.stop());
    this.stop.hidden = !engine.live;
    this.time = h("span", { class: "time" });
    this.clear = button("", "clear the loop (Escape)", () => engine.repeat(null));
    const rewind = button("Rewind", "back to the start (Home)", () => engine.go(0));
    this.choices = engine.order.map((_, label) => button("", "", () => engine.choose(engine.order[label])));
    for (const choice of this.choices) choice.setAttribute("role", "radio");
    const choices = h("span", { class: "choices", role: "radiogroup", "aria-label": "hear" }, ...this.choices);
    choices.hidden = count < 2;
    this.rate = h("select", { ...OWN_KEYS, "aria-label": "speed", title: "speed, at the same pitch",
      onchange: () => engine.pace(Number(this.rate.value)) },
    ...RATES.map((rate) => h("option", { value: rate }, `${rate} ×`)));
    this.volume = h("input", { ...OWN_KEYS, type: "range", min: 0, max: 1, step: 0.05, class: "volume", title: "volume",
      "aria-label": "volume", oninput: () => engine.volume(Number(this.volume.value)) });
    this.save = button("Save", "save what is heard as a WAV file", () => this.download());
    const zoom = h("span", { class: "zoom" }, this.rate, this.volume, this.save,
      button("−", "zoom out (-)", () => this.zoom(2)), button("+", "zoom in (+)", () => this.zoom(0.5)));
    return h("div", { class: "controls" }, this.play, rewind, this.stop, this.time, choices, this.clear, zoom);
  }

  download() {
    const { engine } = this, url = URL.createObjectURL(engine.file());
    const words = [engine.model.get("caption"), engine.sounds[engine.active].name].filter(Boolean).join(" ");
    const name = words.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60) || "sound";
    h("a", { href: url, download: `${name}.wav` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  boards() {
    this.status = h("b", { role: "status" });
    this.lead = h("b");
    this.gauges = h("div", { class: "gauges" });
    this.votes = h("div", { class: "votes" });
    return [this.gauges, this.votes];
  }

  picture() {
    const above = [{ kind: "wave", name: "wave" }, { kind: "spectrogram", name: "frequency", ends: ["8 kHz", "0"] }];
    this.rows = [...above, ...this.engine.lanes, { kind: "axis", name: "" }].map((lane) => {
      const name = h("span", { class: "name" }, [lane.name, lane.unit].filter(Boolean).join(", "));
      const canvas = h("canvas", { "aria-hidden": "true" }), ends = h("span", { class: "ends" });
      const element = h("div", { class: "lane", style: `height:${HEIGHTS[lane.kind]}px` }, name, ends, canvas);
      return { lane, element, canvas, ends };
    });
    const whole = h("canvas", { "aria-hidden": "true", title: "the whole sound; click to see that part" });
    const spaces = ["name", "ends"].map((space) => h("span", { class: space }));
    this.map = h("div", { class: "lane map", style: `height:${HEIGHTS.map}px` }, ...spaces, whole);
    this.cursor = h("div", { class: "cursor" });
    this.selection = h("div", { class: "selection" });
    const slider = { role: "slider", tabindex: "0", "aria-label": "position in seconds", "aria-valuemin": "0" };
    this.plot = h("div", { ...OWN_KEYS, ...slider, class: "plot" }, this.selection, this.cursor);
    this.says = h("div", { class: "says" });
    const lanes = h("div", { class: "lanes" }, ...this.rows.map((row) => row.element), this.plot);
    return h("div", {}, lanes, this.map); // below, where it moves nothing that is under the pointer
  }

  footer() {
    this.readout = h("span");
    const hint = "click: play from there · drag: loop · wheel: zoom · keys: space, arrows, Home, +, −, [, ]";
    return h("div", { class: "footer" }, this.readout, h("span", { class: "hint" }, hint));
  }

  // --- hands

  listen() {
    const { plot, root, engine } = this;
    const moment = (event) => {
      const box = plot.getBoundingClientRect(), [start, stop] = this.span;
      return clamp(start + ((event.clientX - box.left) / box.width) * (stop - start), 0, engine.length / RATE);
    };
    plot.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      plot.setPointerCapture(event.pointerId);
      this.drag = { x: event.clientX, from: moment(event), moved: false };
    });
    plot.addEventListener("pointermove", (event) => {
      this.hover = moment(event);
      if (this.drag && Math.abs(event.clientX - this.drag.x) > 4) this.drag.moved = true;
      this.request();
    });
    plot.addEventListener("pointerup", (event) => {
      const { drag } = this, to = moment(event);
      this.drag = null;
      if (!drag) return;
      if (!drag.moved) return engine.go(to, true);
      engine.repeat([Math.min(drag.from, to), Math.max(drag.from, to)]);
      if (!engine.playing) engine.play();
    });
    plot.addEventListener("pointercancel", () => (this.drag = null));
    plot.addEventListener("pointerleave", () => {
      this.hover = null;
      this.request();
    });
    plot.addEventListener("wheel", (event) => {
      // the page scrolls on, unless the player was clicked or Ctrl is held
      if (!event.ctrlKey && !root.contains(document.activeElement)) return;
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.pan(event.deltaX / 1000);
      else this.zoom(2 ** (event.deltaY / 200), moment(event));
    }, { passive: false });
    const look = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const box = this.map.lastChild.getBoundingClientRect(), [start, stop] = this.span;
      this.pan((((event.clientX - box.left) / box.width) * this.whole - (start + stop) / 2) / (stop - start));
    };
    for (const kind of ["pointerdown", "pointermove"]) this.map.lastChild.addEventListener(kind, look);
    root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !this.key(event)) return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  // Does what a key asks; false for a key that is not the player's.
  key({ key, target, shiftKey }) {
    if (["INPUT", "SELECT"].includes(target.tagName)) return false; // these keys are theirs
    if ((key === " " || key === "Enter") && target.tagName === "BUTTON") return false;
    const { engine } = this, step = shiftKey ? 0.1 : 1, end = engine.length / RATE;
    const [from, to] = engine.loop ?? [0, end];
    const actions = {
      " ": () => engine.toggle(),
      ArrowLeft: () => engine.go(engine.seconds - step),
      ArrowRight: () => engine.go(engine.seconds + step),
      PageUp: () => engine.go(engine.seconds - 10),
      PageDown: () => engine.go(engine.seconds + 10),
      Home: () => engine.go(0),
      End: () => engine.go(end),
      "[": () => engine.seconds < to && engine.repeat([engine.seconds, to]),
      "]": () => engine.seconds > from && engine.repeat([from, engine.seconds]),
      Escape: () => engine.repeat(null),
      "+": () => this.zoom(0.5),
      "-": () => this.zoom(2),
    };
    engine.order.forEach((_, label) => {
      for (const name of engine.keys(label)) actions[name] = () => engine.choose(engine.order[label]);
    });
    const action = actions[key] ?? actions[key.toUpperCase()];
    action?.();
    return Boolean(action);
  }

  // --- eyes

  get whole() {
    return Math.max(this.engine.live ? 30 : 0.1, this.engine.length / RATE);
  }

  get span() {
    return this.zoomed ?? [0, this.whole];
  }

  zoom(factor, around = clamp(this.engine.seconds, ...this.span)) {
    const [start, stop] = this.span, width = clamp((stop - start) * factor, 0.05, this.whole);
    this.zoomed = width < this.whole - 1e-6 ? [start, start + width] : null;
    this.pan(((around - start) * (1 - width / (stop - start))) / width);
  }

  // Moves the view by a share of its width.
  pan(share) {
    const [start, stop] = this.span, from = clamp(start + share * (stop - start), 0, this.whole - (stop - start));
    if (this.zoomed) this.zoomed = [from, from + stop - start];
    this.map.hidden = !this.zoomed || this.engine.blind;
    this.request(true);
  }

  request(lanes = false) {
    this.dirty ||= lanes;
    this.frame ??= requestAnimationFrame(() => this.show());
  }

  // Buttons and texts that change with the state, not with the time.
  refresh() {
    const { engine, root } = this, style = getComputedStyle(root);
    this.ink = style.color;
    // the text is light where the theme is dark
    this.dark = style.color.match(/[\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) > 384;
    this.play.textContent = engine.audible ? "Pause" : "Play";
    this.clear.hidden = !engine.loop;
    this.rate.value = engine.rate;
    this.volume.value = page.volume;
    this.save.hidden = engine.blind || !engine.length;
    this.map.hidden = !this.zoomed || engine.blind;
    if (engine.loop) this.clear.textContent = `Loop ${engine.loop.map((t) => t.toFixed(2)).join(" to ")} s ×`;
    this.choices.forEach((choice, label) => {
      const { name, gain } = engine.sounds[engine.order[label]], on = engine.order[label] === engine.active;
      const turned = gain < -0.05 && !engine.blind ? ` ${gain.toFixed(1).replace("-", "−")} dB` : "";
      choice.replaceChildren(engine.blind ? LETTERS[label] : name, h("small", {}, turned));
      const keys = engine.keys(label).join(" or ");
      choice.title = `hear it${keys && ` (key ${keys})`}${turned && "; turned down to the loudness of the quietest"}`;
      choice.setAttribute("aria-checked", on);
    });
    for (const { lane, element } of this.rows) element.hidden = lane.kind === "spectrogram" && engine.blind;
    if (engine.voting) this.refreshVotes();
    if (engine.live) this.refreshGauges();
  }

  refreshGauges() {
    const { made, speed, memory } = this.engine.gauges, { state } = this.engine.live, bold = (text) => h("b", {}, text);
    const gauge = (name, value, colour) =>
      h("div", colour ? { style: `border-color:${this.tint(colour)}` } : {}, name, value);
    const pace = !made ? "generating the first seconds" : speed < 1 ? "generating, slower than real time" : "generating";
    const status = this.engine.growing ? pace : state === "generating" ? LOST : state;
    if (status !== this.status.textContent) this.status.textContent = status;
    this.stop.disabled = !this.engine.growing;
    this.gauges.replaceChildren(gauge("story", this.status), gauge("made", bold(clock(made))),
      gauge("speed", bold(made ? `${speed.toFixed(1)} × real time` : "–")), gauge("lead", this.lead),
      ...this.engine.memory.lines.map(({ name, colour }, i) =>
        gauge(name, bold(made ? megabytes(memory[i]) : "–"), colour)));
  }

  refreshVotes() {
    const { engine } = this, votes = engine.model.get("votes"), names = engine.sounds.map((sound) => sound.name);
    const total = names.reduce((sum, name) => sum + (votes[name] ?? 0), 0), same = votes["no difference"] ?? 0;
    const reveal = () => {
      engine.blind = false;
      engine.order.sort((a, b) => a - b);
      engine.changed();
    };
    if (engine.blind) {
      const cast = h("span", { role: "status" }, `${total + same} votes; the letters are shuffled after each`);
      const choices = names.map((_, label) => button(LETTERS[label], "", () => engine.vote(label)));
      this.votes.replaceChildren("Which is better?", ...choices, button("no difference", "", () => engine.vote(null)),
        cast, button("Reveal", "names and result", reveal));
      return;
    }
    const percent = (share) => `${Math.round(100 * share)} %`;
    const rows = names.map((name) => {
      const count = votes[name] ?? 0, [low, high] = interval(count, total);
      const share = total ? ` (${percent(count / total)}, 95 % interval ${percent(low)} to ${percent(high)})` : "";
      return h("li", {}, `${name}: better in ${count} of ${total}${share}; chance is ${percent(1 / names.length)}`);
    });
    this.votes.replaceChildren(h("ul", { role: "status" }, ...rows, h("li", {}, `no difference: ${same}`)));
  }

  // What moves with the time; the lanes only when they changed.
  show() {
    this.frame = null;
    const { engine, plot } = this, seconds = engine.seconds, end = engine.length / RATE, [start, stop] = this.span;
    const share = (seconds - start) / (stop - start);
    if (this.zoomed && engine.playing && (share < 0 || share > 1)) this.pan(share - 0.1);
    if (this.dirty) this.draw();
    else this.rows.filter(({ lane }) => lane.kind === "causes").forEach((row) => this.paint(row)); // they follow the moment
    const x = (t) => (100 * (t - this.span[0])) / (this.span[1] - this.span[0]);
    this.cursor.style.left = `${x(seconds)}%`;
    const marked = this.drag?.moved ? [this.drag.from, this.hover].sort((a, b) => a - b) : engine.loop;
    this.selection.hidden = !marked;
    const [left, right] = (marked ?? [0, 0]).map(x);
    Object.assign(this.selection.style, { left: `${left}%`, width: `${right - left}%` });
    this.time.textContent = `${clock(seconds)} of ${clock(end)}`;
    this.readout.textContent = this.values(this.hover ?? seconds);
    this.lead.textContent = engine.playing && !engine.voice ? "waiting" : clock(end - seconds);
    this.subtitle(seconds);
    plot.setAttribute("aria-valuemax", end.toFixed(2));
    plot.setAttribute("aria-valuenow", seconds.toFixed(2));
    plot.setAttribute("aria-valuetext", this.time.textContent);
    const { level, pitch, jump } = engine.measure();
    this.jump = engine.voice ? Math.max(this.jump, jump) : 0;
    Object.assign(this.root.dataset, {
      position: seconds.toFixed(4), level: level.toFixed(4), pitch: pitch.toFixed(1), jump: this.jump.toFixed(4),
      playing: engine.playing, underruns: engine.underruns, held: engine.sounds[0].blocks.size,
    });
    if (engine.playing) this.request();
  }

  // The values of all lanes at a moment.
  values(seconds) {
    const parts = [clock(seconds, 2)];
    for (const lane of this.engine.lanes) {
      const token = lane.kind === "ribbon" && lane.values[Math.floor(seconds * lane.rate)];
      if (Number.isFinite(token)) parts.push(`${lane.name} ${token}`);
      if (lane.kind === "causes") {
        const shares = causes(lane, seconds), most = Math.max(...shares), from = shares.indexOf(most);
        parts.push(`${lane.name} ${Math.round(100 * most)} % from ${from} to ${from + 1} s`);
      }
      for (const one of lane.lines ?? []) {
        const value = one.values[one.times.findLastIndex((time) => time <= seconds)];
        if (Number.isFinite(value)) parts.push(`${one.name} ${value.toPrecision(3)} ${lane.unit}`);
      }
    }
    return parts.join(" · ");
  }

  // The words around the moment, as under a film.
  subtitle(seconds) {
    const spans = this.engine.lanes.find((lane) => lane.kind === "words")?.spans ?? [];
    const now = Math.max(0, spans.findLastIndex(([start]) => start <= seconds));
    if (!spans.length || now === this.spoken) return;
    this.spoken = now;
    const text = (from, to) => spans.slice(Math.max(0, from), to).map((span) => span[2]).join(" ");
    this.says.replaceChildren(`${text(now - 6, now)} `, h("b", {}, spans[now][2]), ` ${text(now + 1, now + 9)}`);
  }

  draw() {
    this.dirty = false;
    if (!this.map.hidden) this.overview();
    this.font = `11px ${getComputedStyle(this.root).fontFamily}`;
    for (const row of this.rows) if (!row.element.hidden) this.paint(row);
  }

  paint({ lane, canvas, ends }) {
    const width = canvas.clientWidth, height = canvas.clientHeight, g = canvas.getContext("2d"), [start, stop] = this.span;
    canvas.width = Math.round(width * devicePixelRatio);
    canvas.height = Math.round(height * devicePixelRatio);
    g.scale(devicePixelRatio, devicePixelRatio);
    g.font = this.font;
    const x = (t) => ((t - start) / (stop - start)) * width;
    const shown = this[lane.kind](g, lane, { width, height, x, start, stop }) ?? lane.ends ?? [];
    ends.replaceChildren(...shown.map((end) => h("span", {}, end)));
    if (lane.kind === "axis" || lane.kind === "words") return;
    g.strokeStyle = this.tint(this.engine.colours.seam);
    g.setLineDash([2, 3]);
    for (const seam of this.engine.seams) line(g, x(seam), 0, x(seam), height);
  }

  // The whole sound, and which part of it is in view.
  overview() {
    const canvas = this.map.lastChild, width = (canvas.width = canvas.clientWidth), height = (canvas.height = HEIGHTS.map);
    const g = canvas.getContext("2d"), x = (seconds) => (seconds / this.whole) * width, [start, stop] = this.span;
    this.wave(g, null, { width, height, start: 0, stop: this.whole });
    g.fillStyle = this.dark ? "#e69f0060" : "#e69f0080";
    g.fillRect(x(start), 0, Math.max(3, x(stop) - x(start)), height);
  }

  // A colour of the light theme, brighter where the theme is dark.
  tint(colour) {
    if (!this.dark) return colour;
    const parts = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    const white = Math.max(...parts) < 128 ? 0.6 : 0.35;
    return `rgb(${parts.map((part) => Math.round((1 - white) * part + white * 255))})`;
  }

  wave(g, lane, { width, height, start, stop }) {
    const { engine } = this, sound = engine.sounds[engine.active], middle = height / 2;
    g.fillStyle = this.tint(engine.colours.wave);
    if (engine.blind) return void g.fillRect(0, middle - 2, width, 4);
    // one scale for all sounds: what is louder looks louder
    const peaks = engine.sounds.map((one) => one.peak * decibels(one.gain));
    const scale = (0.95 * middle * decibels(sound.gain)) / Math.max(...peaks);
    const samples = ((stop - start) * RATE) / width;
    for (let i = 0; i < width; i++) {
      const from = start * RATE + i * samples;
      if (from >= sound.length) break;
      const [low, high] = sound.extremes(from, from + samples);
      g.fillRect(i, middle - scale * high, 1, Math.max(1, scale * (high - low)));
    }
  }

  spectrogram(g, lane, { width, height, start, stop }) {
    const sound = this.engine.sounds[this.engine.active], began = performance.now(), ink = this.dark ? 255 : 0;
    const image = new ImageData(Math.max(1, width), BANDS);
    const columns = ((stop - start) * RATE) / HOP / width, looks = clamp(Math.floor(columns), 1, 4); // a pixel
    for (let i = 0; i < width; i++) {
      const sum = new Float32Array(BANDS);
      let known = 0;
      for (let look = 0; look < looks; look++) {
        const column = Math.floor((start * RATE) / HOP + (i + look / looks) * columns);
        const late = performance.now() - began > 12 && !sound.power[column * BANDS];
        if (late) this.request(true); // 12 ms a frame; the rest comes with the next
        if (late || !sound.column(column)) continue;
        known += 1;
        for (let band = 0; band < BANDS; band++) sum[band] += 1 - sound.power[column * BANDS + band];
      }
      for (let band = 0; band < BANDS && known; band++) {
        const at = 4 * ((BANDS - 1 - band) * width + i), light = (sum[band] / known - sound.loudest + 70) / 70;
        image.data.fill(ink, at, at + 3);
        image.data[at + 3] = 255 * clamp(light, 0, 1) ** 1.5;
      }
    }
    const small = new OffscreenCanvas(image.width, BANDS);
    small.getContext("2d").putImageData(image, 0, 0);
    g.drawImage(small, 0, 0, width, height);
  }

  curve(g, lane, { height, x }) {
    const values = lane.lines.flatMap((one) => one.values).filter(Number.isFinite);
    if (!values.length) return [];
    let low = values.reduce((a, b) => Math.min(a, b));
    const high = values.reduce((a, b) => Math.max(a, b));
    if (low > 0 && low < high / 2) low = 0;
    const names = lane.lines.length > 1, top = names ? 18 : 4; // the names stand above the curves
    const y = (value) => height - 4 - ((height - 4 - top) * (value - low)) / (high - low || 1);
    let legend = 6;
    lane.lines.forEach((one, i) => {
      g.strokeStyle = this.tint(one.colour);
      g.lineWidth = 2;
      g.setLineDash([[], [6, 3], [2, 2]][i % 3]);
      g.beginPath();
      let gap = true;
      one.values.forEach((value, k) => {
        if (Number.isFinite(value)) g[gap ? "moveTo" : "lineTo"](x(one.times[k]), y(value));
        gap = !Number.isFinite(value);
      });
      g.stroke();
    });
    g.lineWidth = 1;
    for (const one of names ? lane.lines : []) {
      g.fillStyle = this.tint(one.colour);
      g.fillText(one.name, legend, 12);
      legend += g.measureText(one.name).width + 16;
    }
    return [Number(high.toPrecision(3)), Number(low.toPrecision(3))];
  }

  ribbon(g, lane, { width, height, x, start, stop }) {
    const shown = (stop - start) * lane.rate, step = Math.max(1, Math.floor(shown / width));
    const end = Math.min(lane.values.length, stop * lane.rate);
    for (let i = Math.max(0, Math.floor(start * lane.rate)); i < end; i += step) {
      g.fillStyle = cividis((lane.values[i] * 0.618034) % 1); // neighbours in number are far apart in colour
      g.fillRect(x(i / lane.rate), 0, (step * width) / shown + 0.5, height);
    }
  }

  heat(g, lane, { width, height, start, stop }) {
    const count = lane.values.length / lane.rows, columns = Math.max(1, width), ink = this.dark ? 255 : 0;
    const image = new ImageData(columns, lane.rows);
    for (let i = 0; i < columns; i++) {
      const column = Math.floor((start + ((stop - start) * i) / columns) * lane.rate);
      for (let row = 0; row < lane.rows && column < count; row++) {
        const at = 4 * (row * columns + i);
        image.data.fill(ink, at, at + 3);
        image.data[at + 3] = lane.values[row * count + column];
      }
    }
    const small = new OffscreenCanvas(columns, lane.rows);
    small.getContext("2d").putImageData(image, 0, 0);
    g.imageSmoothingEnabled = false;
    g.drawImage(small, 0, 0, width, height);
  }

  causes(g, lane, { height, x }) {
    g.fillStyle = this.tint(lane.colour);
    causes(lane, this.hover ?? this.engine.seconds).forEach((share, second) => {
      g.globalAlpha = Math.sqrt(share); // a hundredth is seen, too
      g.fillRect(x(second), 0, x(second + 1) - x(second), height);
    });
    g.globalAlpha = 1;
  }

  words(g, lane, { height, x, start, stop }) {
    g.fillStyle = this.ink;
    g.strokeStyle = "#888";
    let free = -1;
    for (const [from, to, text] of lane.spans) {
      if (to < start || from > stop) continue;
      line(g, x(from), height - 1.5, Math.max(x(from) + 1, x(to) - 2), height - 1.5);
      if (x(from) < free) continue; // no room beside the word before; zoom in to read it
      g.fillText(text, x(from), height - 7);
      free = x(from) + g.measureText(text).width + 4;
    }
  }

  marks(g, lane, { height, x }) {
    g.fillStyle = this.tint(lane.colour);
    for (const time of lane.times) {
      g.beginPath();
      g.moveTo(x(time), height - 1);
      g.lineTo(x(time) - 5, 2);
      g.lineTo(x(time) + 5, 2);
      g.fill();
    }
  }

  axis(g, lane, { width, x, start, stop }) {
    const step = STEPS.find((seconds) => (seconds / (stop - start)) * width > 64) ?? 7200;
    g.fillStyle = g.strokeStyle = this.ink;
    line(g, 0, 0.5, width, 0.5);
    for (let i = Math.ceil(start / step); i * step <= stop; i++) {
      const text = clock(i * step, step < 0.1 ? 2 : step < 1 ? 1 : 0), half = g.measureText(text).width / 2;
      line(g, x(i * step), 0, x(i * step), 5);
      g.fillText(text, clamp(x(i * step) - half, 0, width - 2 * half), 17);
    }
  }
}

export default () => {
  let engine;
  return {
    initialize({ model }) {
      engine = new Engine(model);
      return () => engine.close();
    },
    render({ el }) {
      const view = new View(engine, el);
      return () => view.close();
    },
  };
};

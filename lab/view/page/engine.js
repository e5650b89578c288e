// What plays: the sounds of one model on the page's one AudioContext, and a story that arrives while it is heard.

const RATES = [0.5, 0.75, 1, 1.25, 1.5, 2]; // times the speed of the speech, at its pitch
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"; // player.py refuses a blind comparison of more
const SILENT = 6000; // milliseconds without a word from the kernel, which sends one a second
const LOST = "the kernel was restarted, has ended or cannot be reached; what was made plays, run the cell again for more";

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
      this.gauges = { made: 0, speed: 0, memory: [] };
      this.memory = { kind: "curve", name: "memory", unit: "MB", lines: this.live.lines.map(unpackLine) };
      this.lanes.push(this.memory);
      model.on("change:_live", () => this.follow());
      this.follow();
      model.send({ kind: "hello" });
      this.heard();
      this.watch = setInterval(() => this.check(), 1000);
      const heard = page.sounding?.playing && page.sounding.views; // a player that is listened to is not interrupted
      if (this.growing && !heard && (navigator.userActivation?.hasBeenActive ?? true)) this.play();
    }
  }

  // In samples; while stories are told, as far as all of those are that go on.
  get length() {
    const going = this.sounds.filter((_, i) => this.grows(i)).map((sound) => sound.length);
    return going.length ? Math.min(...going) : Math.max(...this.sounds.map((sound) => sound.length));
  }

  // The words of the sound that is heard: [start, stop, word] each.
  get spans() {
    const { name } = this.sounds[this.active];
    return this.lanes.find(({ kind, sound }) => kind === "words" && (!sound || sound === name))?.spans ?? [];
  }

  // Whether more of the story is on its way.
  get growing() {
    return this.live?.state === "generating" && !this.lost;
  }

  // Whether more of this one is: of several, one may have ended.
  grows(index) {
    return this.growing && !this.live.ended.includes(index);
  }

  get audible() {
    return this.playing && page.context.state === "running";
  }

  toggle() {
    return this.audible ? this.pause() : this.play();
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
    this.sounds.forEach((sound, i) => (sound.growing = this.grows(i)));
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
    const sound = this.sounds[message.sound], newest = sound.length;
    if (this.halted && message.start >= newest) return; // a busy kernel has not heard of the stop yet
    sound.write(message.start, array(buffers[0], Int16Array));
    sound.forget(KEEP);
    for (const [seconds, ...bytes] of message.memory) {
      bytes.forEach((size, i) => {
        const line = i ? this.memory.lines.at(-1) : this.memory.lines[message.sound]; // the last is the cache's
        if (seconds <= (line.times.at(-1) ?? -1)) return;
        line.times.push(seconds);
        line.values.push(size / 1e6);
      });
    }
    if (message.read) this.read(sound.name, message.read);
    this.gauges = message.gauges;
    if (this.playing) this.tick();
    this.changed();
  }

  // What was read of a story from a second on takes the place of what was read before.
  read(name, { start, words, right, wrong }) {
    for (const lane of this.lanes.filter(({ sound }) => sound === name)) {
      if (lane.kind === "words") lane.spans = [...lane.spans.filter(([begin]) => begin < start), ...words];
      lane.groups?.forEach((group, i) => {
        group.times = [...group.times.filter((time) => time < start), ...[right, wrong][i]];
      });
    }
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

  // How many samples from `at` on can be played: of a live story as many as are here, and silence after its end.
  get held() {
    if (!this.live) return this.length - this.at;
    const { at } = this, sounding = this.sounds.filter((sound, i) => at < sound.length || this.grows(i));
    return Math.min(...sounding.map((sound) => sound.held(at)));
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

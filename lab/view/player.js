// What stands in the page: buttons, texts and lanes, in step with an engine.

// Wilson's 95 % interval of a share.
function interval(count, total) {
  const z = 1.96, middle = (count + z ** 2 / 2) / (total + z ** 2);
  const half = (z * Math.sqrt((count * (total - count)) / total + z ** 2 / 4)) / (total + z ** 2);
  return [middle - half, middle + half];
}

class View extends Lanes {
  constructor(engine, parent) {
    super();
    const caption = engine.model.get("caption");
    const root = h("div", { class: "lab-player", role: "group", "aria-label": caption || "player" });
    root.append(h("div", { class: "caption" }, caption));
    Object.assign(this, { engine, root, zoomed: null, hover: null, drag: null, jump: 0 });
    root.append(this.controls(), ...this.boards(), this.picture(), this.says, this.footer(), this.planes());
    parent.append(root);
    listen(this);
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
    const lanes = this.engine.lanes.filter(({ kind }) => kind !== "trajectory");
    this.rows = [...above, ...lanes, { kind: "axis", name: "" }].map((lane) => {
      const groups = lane.groups?.map(({ name }, i) => `${SHAPES[Math.min(i, 1)]} ${name}`).join(", ");
      const told = [lane.name || groups, lane.unit].filter(Boolean).join(", ");
      const name = h("span", { class: "name" }, told.replace(/([a-z])(?=[A-Z])/g, "$1\u200b")); // Speech|Transformer
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
    const board = h("div", { class: "lanes" }, ...this.rows.map((row) => row.element), this.plot);
    return h("div", {}, board, this.map); // below, where it moves nothing that is under the pointer
  }

  planes() {
    const lanes = this.engine.lanes.filter(({ kind }) => kind === "trajectory");
    this.trajectories = lanes.map((lane) => new Trajectory(this, lane));
    return h("div", { class: "planes" }, ...this.trajectories.map(({ element }) => element));
  }

  footer() {
    this.readout = h("span");
    const hint = "click: play from there · drag: loop · wheel: zoom · keys: space, arrows, Home, +, −, [, ]";
    return h("div", { class: "footer" }, this.readout, h("span", { class: "hint" }, hint));
  }

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
    this.save.hidden = engine.blind || !engine.sounds[engine.active].length;
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
      gauge(this.engine.sounds.length > 1 ? "speed of each" : "speed", bold(made ? `${speed.toFixed(1)} × real time` : "–")), gauge("lead", this.lead),
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
    for (const trajectory of this.trajectories) trajectory.draw(this.hover ?? seconds);
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
    const { spans } = this.engine, now = Math.max(0, spans.findLastIndex(([start]) => start <= seconds));
    const text = (from, to) => spans.slice(Math.max(0, from), to).map((span) => span[2]).join(" ");
    const parts = spans.length ? [`${text(now - 6, now)} `, spans[now][2], ` ${text(now + 1, now + 9)}`] : [];
    if (parts.join() === this.spoken) return;
    this.spoken = parts.join();
    this.says.replaceChildren(...parts.map((part, i) => (i === 1 ? h("b", {}, part) : part)));
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

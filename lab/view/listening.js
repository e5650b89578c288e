class View {
  constructor(host, parent) {
    this.root = h("div", { class: "lab-player lab-listening", role: "group", "aria-label": "listening test" });
    Object.assign(this, { host, at: 0, score: null, flags: new Set(), heard: [], node: null, waits: false });
    this.root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !this.key(event)) return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.update = () => this.changed();
    host.addEventListener("change", this.update);
    parent.append(this.root);
    if (host.rater) this.begin();
    else this.ask();
  }

  close() {
    this.host.removeEventListener("change", this.update);
    this.pause();
  }

  // --- what is asked

  ask() {
    const name = h("input", { ...OWN_KEYS, maxlength: "40", "aria-label": "your name or initials" });
    const start = () => {
      if (!name.value.trim()) return name.focus();
      this.host.rater = name.value.trim();
      this.begin(true);
    };
    name.addEventListener("keydown", (event) => event.key === "Enter" && start());
    const count = this.host.trials.length;
    const text = `A listening test of ${count} trials. Use headphones, and hear each sound to its end.`;
    this.root.replaceChildren(h("p", {}, text), h("label", { class: "row" }, "Your name or initials:", name,
      button("Begin", "begin (Enter)", start, { class: "main" })));
  }

  begin(play = false) {
    const open = this.host.trials.findIndex((_, number) => !(number in this.host.given));
    this.open(open < 0 ? this.host.trials.length : open, play);
  }

  open(number, play) {
    this.pause();
    const trial = this.host.trials[number], [score, flags] = this.host.given[number] ?? [null, []];
    Object.assign(this, { at: number, score, flags: new Set(flags), waits: false, trial });
    this.heard = trial ? trial.sounds.map(() => score !== null) : [];
    this.draw();
    this.plays[0]?.focus({ preventScroll: true });
    if (play && trial) this.play(0, true);
  }

  draw() {
    const { host, trial } = this, count = host.trials.length;
    this.status = h("span", { role: "status" });
    this.next = button("Next", "keep this answer and go on (Enter)", () => this.answer(), { class: "main" });
    this.back = button("Back", "to the trial before (Backspace)", () => this.open(this.at - 1, false));
    this.table = h("div", { class: "results" });
    this.options = [];
    this.ticks = [];
    this.plays = [];
    this.more = host.show
      ? button("Results so far", "for who runs the test: they are of all systems, by name", () => host.show())
      : button("Download answers", "as CSV", () => host.download());
    const title = trial ? `${trial.test}: trial ${this.at + 1} of ${count}` : "Done";
    const top = h("div", { class: "row head" }, h("b", {}, title),
      h("progress", { max: count, value: Object.keys(host.given).length, "aria-label": "answered" }));
    const end = h("p", {}, `All ${count} trials are answered, ${host.kept}. Thank you.`);
    const asked = trial ? [h("p", {}, trial.question), this.sounds(), this.scale(), this.disturbs()] : [end];
    this.root.replaceChildren(top, ...asked, h("div", { class: "row foot" }, this.back, ...(trial ? [this.next] : []),
      this.status, this.more), this.table, h("div", { class: "hint" }, this.hint()));
    this.refresh();
  }

  sounds() {
    const names = this.trial.sounds.length > 1 ? ["A", "B"] : ["Play"];
    this.plays = names.map((name, k) => button(name, `play (${k || names.length > 1 ? name : "space"})`,
      () => this.toggle(k), { class: "sound" }));
    this.bar = h("progress", { max: "1", value: "0", "aria-label": "position" });
    this.length = h("span", { class: "time" });
    return h("div", { class: "row" }, ...this.plays, this.bar, this.length);
  }

  scale() {
    const pair = this.trial.sounds.length > 1;
    const choices = pair ? BETTER : RATINGS.map((score) => [String(score), String(score), score]);
    this.options = choices.map(([key, text, score]) => {
      const word = pair || score % 1 ? "" : SCALE[score - 1];
      const option = button(text, pair ? `key ${key}` : word, () => this.rate(score), { role: "radio" });
      if (word) option.append(h("small", {}, word));
      return { option, score };
    });
    const group = { class: pair ? "row" : "row scale", role: "radiogroup", "aria-label": "your answer" };
    return h("div", group, ...this.options.map(({ option }) => option));
  }

  disturbs() {
    if (!this.trial.flags) return "";
    const letters = lettered(this.host.flags);
    this.ticks = this.host.flags.map((flag, i) => {
      const tick = button("", `key ${letters[i]}`, () => this.tick(flag), { role: "checkbox" });
      const [before, after] = [flag.slice(0, flag.indexOf(letters[i])), flag.slice(flag.indexOf(letters[i]) + 1)];
      tick.append(before, h("u", {}, letters[i]), after);
      return { flag, tick };
    });
    const group = { class: "row", role: "group", "aria-label": "what disturbs" };
    return h("div", group, ...this.ticks.map(({ tick }) => tick));
  }

  hint() {
    if (!this.trial) return "";
    if (this.trial.sounds.length > 1) return "keys: A, B play · 1, 0, 2 choose · Enter: next · Backspace: back";
    const ticked = this.trial.flags ? " · underlined letters tick" : "";
    return `keys: space plays · 1 to 5, arrows rate${ticked} · Enter: next · Backspace: back`;
  }

  // Buttons and texts that change within a trial.
  refresh() {
    const { host, trial, score } = this;
    const ready = this.heard.every(Boolean) && score !== null;
    for (const { option, score: own } of this.options) {
      option.setAttribute("aria-checked", own === score);
      option.tabIndex = own === (score ?? this.options[0].score) ? 0 : -1; // one stop of the Tab key; arrows move
    }
    for (const { flag, tick } of this.ticks) tick.setAttribute("aria-checked", this.flags.has(flag));
    this.plays.forEach((play, k) => {
      play.setAttribute("aria-pressed", this.playing === k);
      play.classList.toggle("heard", this.heard[k]);
      if (this.plays.length === 1) play.textContent = this.playing === k ? "Stop" : "Play";
    });
    this.next.disabled = !ready || this.waits;
    this.back.disabled = !this.at;
    this.more.disabled = !Object.keys(host.given).length;
    this.status.textContent = this.says();
    this.status.classList.toggle("refused", Boolean(host.refused));
    this.table.replaceChildren(...tabled(host.results ?? []));
    Object.assign(this.root.dataset, { trial: this.at, playing: this.playing ?? "", score: score ?? "",
      heard: this.heard.filter(Boolean).length, answered: Object.keys(host.given).length });
  }

  says() {
    const { host, trial } = this, given = Object.keys(host.given).length;
    if (host.refused) return host.refused;
    if (this.waits) return this.late ? LATE : "saving";
    if (!this.heard.every(Boolean)) return this.heard.length > 1 ? "hear both to their end" : "hear it to its end";
    if (trial && this.score === null) return "now answer";
    return given ? `${given} answered, ${host.kept}` : "";
  }

  // The host has news: an answer was kept, or was not, or this rater has been here before.
  changed() {
    if (!this.status) return;
    if (this.waits && !this.host.refused && this.given) return this.open(this.at + 1, true);
    if (!this.waits && this.score === null && this.at in this.host.given) return this.begin(true);
    if (this.host.refused) this.waits = false;
    this.refresh();
  }

  // Whether what is chosen here is what was kept of this trial.
  get given() {
    const [score, flags] = this.host.given[this.at] ?? [];
    return score === this.score && String(flags) === String([...this.flags]);
  }

  // --- pointer and keys

  rate(score) {
    this.score = score;
    this.refresh();
  }

  // A half up or down, or the neighbour of what is chosen.
  move(step) {
    const now = this.options.findIndex(({ score }) => score === this.score);
    const to = now < 0 ? (this.options.length - 1) / 2 : Math.min(Math.max(now + step, 0), this.options.length - 1);
    this.rate(this.options[to].score);
    if (this.options.some(({ option }) => option === document.activeElement)) this.options[to].option.focus();
  }

  tick(flag) {
    if (!this.flags.delete(flag)) this.flags.add(flag);
    this.flags = new Set(this.host.flags.filter((each) => this.flags.has(each)));
    this.refresh();
  }

  answer() {
    if (this.next.disabled) return;
    if (this.given) return this.open(this.at + 1, true);
    const { at } = this;
    Object.assign(this, { waits: true, late: false });
    this.refresh();
    setTimeout(() => {
      this.late = this.waits && this.at === at;
      this.refresh();
    }, SILENT);
    this.host.answer(this.at, this.score, [...this.flags]);
  }

  // Does what a key asks; false for one that is not the test's, or that a button takes itself.
  key({ key, target }) {
    if (target.tagName === "INPUT" || !this.trial) return false;
    const own = target.tagName === "BUTTON" && target.getAttribute("role") !== "radio";
    if (own && (key === " " || (key === "Enter" && !this.plays.includes(target)))) return false;
    const pair = this.trial.sounds.length > 1;
    const actions = {
      Enter: () => this.answer(),
      Backspace: () => this.at && this.open(this.at - 1, false),
      ArrowLeft: () => this.move(-1),
      ArrowDown: () => this.move(-1),
      ArrowRight: () => this.move(1),
      ArrowUp: () => this.move(1),
      " ": () => this.toggle(this.playing ?? 0),
    };
    if (pair) {
      BETTER.forEach(([name, , score]) => (actions[name] = () => this.rate(score)));
      ["a", "b"].forEach((name, k) => (actions[name] = () => this.toggle(k)));
    } else {
      for (const score of [1, 2, 3, 4, 5]) actions[score] = () => this.rate(score);
      lettered(this.trial.flags ? this.host.flags : []).forEach((letter, i) => {
        actions[letter] = () => this.tick(this.host.flags[i]);
      });
    }
    const action = actions[key] ?? actions[key.toLowerCase()];
    action?.();
    return Boolean(action);
  }

  // --- ears

  toggle(k) {
    if (this.playing === k) this.pause();
    else this.play(k);
  }

  // Plays a sound of the trial; with `on` the other one after it.
  async play(k, on = false) {
    this.pause();
    const { trial } = this, context = (page.context ??= new AudioContext({ sampleRate: RATE }));
    trial.buffers ??= trial.sounds.map((sound) => context.decodeAudioData(sound.slice(0)));
    const turn = (this.turn = {}), buffer = await trial.buffers[k];
    await context.resume();
    if (turn !== this.turn) return; // something else was asked for meanwhile
    if (page.sounding !== this) page.sounding?.pause();
    page.sounding = this;
    this.node = new AudioBufferSourceNode(context, { buffer });
    this.node.connect(context.destination);
    this.node.start();
    Object.assign(this, { playing: k, began: context.currentTime, duration: buffer.duration });
    this.node.onended = () => {
      if (turn !== this.turn) return;
      this.heard[k] = true;
      this.playing = this.node = null;
      this.refresh();
      if (!on || k + 1 === trial.sounds.length) return;
      setTimeout(() => turn === this.turn && this.play(k + 1, true), 1000 * PAUSE);
    };
    this.length.textContent = `${buffer.duration.toFixed(1)} s`;
    this.root.dataset.seconds = buffer.duration.toFixed(3);
    this.refresh();
    this.follow();
  }

  follow() {
    if (this.playing === null) return;
    this.bar.value = Math.min(1, (page.context.currentTime - this.began) / this.duration);
    requestAnimationFrame(() => this.follow());
  }

  pause() {
    this.turn = null;
    this.node?.stop();
    this.playing = this.node = null;
    if (this.trial) this.refresh();
  }
}

// A key for each flag: its first letter that none before it has.
function lettered(flags) {
  const letters = [];
  for (const flag of flags) letters.push([...flag].find((letter) => !letters.includes(letter)));
  return letters;
}

function tabled(rows) {
  if (!rows.length) return [];
  const number = (value) => (Number.isFinite(value) ? value.toFixed(2) : "–");
  const line = (tag, ...texts) => h("tr", {}, ...texts.map((text) => h(tag, {}, text)));
  const body = rows.map(([test, name, part, value, low, high, n]) =>
    line("td", test, part ? `${name}, ${part}` : name, number(value), `${number(low)} to ${number(high)}`, n));
  return [h("table", {}, line("th", "test", "system", "mean", "95 % interval", "items"), ...body)];
}

// eslint-disable-next-line no-unused-vars -- called by what `ListeningTest._page` writes below this module
function alone(place, state) {
  place.replaceChildren();
  new View(new Alone(state), place);
}

export default () => {
  let host;
  return {
    initialize({ model }) {
      host = new Kernel(model);
    },
    render({ el }) {
      const view = new View(host, el);
      return () => view.close();
    },
  };
};

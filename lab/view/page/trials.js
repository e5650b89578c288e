// A listening test in a page: plays each trial, takes an answer, goes on. Blind: which system a sound is of is not here
// but in the kernel, or, in a page without one, in a key that nothing shows. No dependency and no network.

const SCALE = ["bad", "poor", "fair", "good", "excellent"]; // 1 to 5, ITU-T P.800
const RATINGS = Array.from({ length: 9 }, (_, i) => 1 + i / 2);
const BETTER = [["1", "A is better", 1], ["0", "no difference", 0.5], ["2", "B is better", 0]]; // key, text, score
const SILENT = 6000; // milliseconds
const LATE = "the kernel does not answer: it is busy or has ended; what it answers to is kept";
const PAUSE = 0.4; // seconds from the first of a pair to the second

// Where trials come from and answers go: the kernel.
class Kernel extends EventTarget {
  constructor(model) {
    super();
    this.model = model;
    this.trials = model.get("_trials").map((trial) => ({ ...trial, sounds: trial.sounds.map((view) => copied(view)) }));
    this.flags = model.get("_flags");
    for (const name of ["_given", "_results", "_refused", "rater"]) {
      model.on(`change:${name}`, () => this.dispatchEvent(new Event("change")));
    }
  }

  get rater() {
    return this.model.get("rater");
  }

  set rater(name) {
    this.model.set("rater", name);
    this.model.save_changes();
  }

  get given() {
    return this.model.get("_given");
  }

  get refused() {
    return this.model.get("_refused");
  }

  get results() {
    return this.model.get("_results");
  }

  get kept() {
    return `in ${this.model.get("_file")}`;
  }

  answer(number, score, flags) {
    this.model.send({ kind: "answer", number, score, flags });
  }

  show() {
    this.model.send({ kind: "results" });
  }
}

// The same for a page without a kernel, which keeps the answers until they are downloaded.
class Alone extends EventTarget {
  constructor({ trials, flags, fields, file }) {
    super();
    this.trials = trials.map((trial) => ({ ...trial, sounds: trial.sounds.map(decoded) }));
    Object.assign(this, { flags, fields, file, rater: "", given: {}, refused: "", rows: [], saved: 0 });
    addEventListener("beforeunload", (event) => this.rows.length > this.saved && event.preventDefault());
  }

  get kept() {
    return "in this page until you download them";
  }

  answer(number, score, flags) {
    const key = JSON.parse(new TextDecoder().decode(decoded(this.trials[number].key)));
    this.rows.push([new Date().toISOString(), this.rater, ...key, score, flags.join(" "), 0]);
    this.given = { ...this.given, [number]: [score, flags] };
    this.dispatchEvent(new Event("change"));
  }

  download() {
    const quoted = (cell) => (/[",\n\r]/.test(cell) ? `"${String(cell).replaceAll('"', '""')}"` : cell);
    const text = [this.fields, ...this.rows].map((row) => `${row.map(quoted).join(",")}\n`).join("");
    const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    h("a", { href: url, download: this.file }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
    this.saved = this.rows.length;
  }
}

const decoded = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
const copied = (view) => view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);

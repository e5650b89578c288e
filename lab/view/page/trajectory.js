// Beside the time axis: a path in a plane that runs on with the sound, and the words on it as they are spoken.

const TAIL = 3; // seconds before the moment: of the path that is drawn strong, and of the words that can be read
const EDGES = { left: 24, right: 8, top: 24, bottom: 24 }; // pixels around the plane, for its name and those of its axes

class Trajectory {
  constructor(view, lane) {
    const label = `${lane.name}: a path over time, across ${lane.axes[0]}, up ${lane.axes[1]}`;
    this.canvas = h("canvas", { role: "img", "aria-label": label, title: "click: play from there" });
    this.element = h("div", { class: "trajectory" }, this.canvas);
    Object.assign(this, { view, lane, count: lane.values.length / 2 });
    const [xs, ys] = [0, 1].map((axis) => lane.values.filter((_, i) => i % 2 === axis));
    this.low = [xs, ys].map((values) => values.reduce((a, b) => Math.min(a, b)));
    this.high = [xs, ys].map((values) => values.reduce((a, b) => Math.max(a, b)));
    this.canvas.addEventListener("click", (event) => view.engine.go(this.nearest(event.offsetX, event.offsetY), true));
  }

  // Where the path is at a moment, between its points too, in pixels; a unit is as long across as up.
  place(seconds) {
    const { lane, count, low, high } = this, { clientWidth: width, clientHeight: height } = this.canvas;
    const at = clamp(seconds * lane.rate, 0, count - 1), from = Math.floor(at), to = Math.min(from + 1, count - 1);
    const room = [width - EDGES.left - EDGES.right, height - EDGES.top - EDGES.bottom].map((size) => Math.max(1, size));
    const scale = Math.min(...room.map((size, i) => (0.94 * size) / (high[i] - low[i] || 1)));
    const [x, y] = room.map((size, i) => {
      const value = lane.values[2 * from + i] + (at - from) * (lane.values[2 * to + i] - lane.values[2 * from + i]);
      return size / 2 + scale * (value - (low[i] + high[i]) / 2);
    });
    return [EDGES.left + x, EDGES.top + room[1] - y];
  }

  // The moment whose place on the path is nearest to a pixel.
  nearest(x, y) {
    let best = 0, least = Infinity;
    for (let k = 0; k < this.count; k++) {
      const [px, py] = this.place(k / this.lane.rate), far = (px - x) ** 2 + (py - y) ** 2;
      if (far < least) [best, least] = [k, far];
    }
    return best / this.lane.rate;
  }

  draw(seconds) {
    const { canvas, view, lane, count } = this, { clientWidth: width, clientHeight: height } = canvas;
    const g = canvas.getContext("2d"), colour = view.tint(lane.colour);
    canvas.width = Math.round(width * devicePixelRatio);
    canvas.height = Math.round(height * devicePixelRatio);
    g.scale(devicePixelRatio, devicePixelRatio);
    g.font = view.font;
    g.lineJoin = "round";
    this.frame(g, width, height);
    g.globalAlpha = 0.2;
    g.strokeStyle = view.ink;
    this.stroke(g, 0, (count - 1) / lane.rate);
    g.strokeStyle = g.fillStyle = colour;
    g.lineWidth = 2.5;
    for (let at = Math.max(0, seconds - TAIL); at < seconds; at += 1 / lane.rate) {
      g.globalAlpha = 1 - (seconds - at) / TAIL;
      this.stroke(g, at, Math.min(at + 1 / lane.rate, seconds));
    }
    g.globalAlpha = 1;
    const [x, y] = this.place(seconds);
    g.beginPath();
    g.arc(x, y, 5, 0, 2 * Math.PI);
    g.fill();
    const shown = this.words(g, seconds, width);
    Object.assign(canvas.dataset, { x: x.toFixed(2), y: y.toFixed(2), words: shown.join(" ") });
  }

  // Names of the plane and of its axes, and where these lie.
  frame(g, width, height) {
    const { lane, view } = this, [across, up] = lane.axes;
    g.fillStyle = g.strokeStyle = view.ink;
    g.fillText(lane.name, EDGES.left, 14);
    g.textAlign = "center";
    g.fillText(across, EDGES.left + (width - EDGES.left) / 2, height - 7);
    g.save();
    g.translate(14, EDGES.top + (height - EDGES.top - EDGES.bottom) / 2);
    g.rotate(-Math.PI / 2);
    g.fillText(up, 0, 0);
    g.restore();
    g.textAlign = "left";
    g.globalAlpha = 0.5;
    line(g, EDGES.left, EDGES.top, EDGES.left, height - EDGES.bottom);
    line(g, EDGES.left, height - EDGES.bottom, width - EDGES.right, height - EDGES.bottom);
  }

  stroke(g, from, to) {
    const { rate } = this.lane;
    g.beginPath();
    g.moveTo(...this.place(from));
    for (let k = Math.floor(from * rate) + 1; k / rate < to; k++) g.lineTo(...this.place(k / rate));
    g.lineTo(...this.place(to));
    g.stroke();
  }

  // The word that is spoken moves with the sound; those before it stay where they were said, and fade. Of words that
  // would lie on each other the newer one is shown. Returns what is, the newest first.
  words(g, seconds, width) {
    const taken = [], shown = [], said = this.view.engine.spans.filter(([start]) => start <= seconds).slice(-12);
    g.fillStyle = this.view.ink;
    for (const [start, stop, text] of said.reverse()) {
      const spoken = seconds < stop, age = Math.max(0, seconds - stop) / TAIL;
      if (age >= 1) break;
      g.font = spoken ? `bold ${this.view.font}` : this.view.font;
      const [px, py] = this.place(spoken ? seconds : (start + stop) / 2), size = g.measureText(text).width;
      const x = clamp(px + 8, EDGES.left + 4, width - size - 2), y = Math.max(py - 6, EDGES.top + 10);
      if (taken.some((box) => x < box.right && box.x < x + size && Math.abs(y - box.y) < 13)) continue;
      taken.push({ x: x - 4, right: x + size + 4, y });
      g.globalAlpha = spoken ? 1 : 1 - age;
      g.fillText(text, x, y);
      shown.push(text);
    }
    g.globalAlpha = 1;
    return shown;
  }
}

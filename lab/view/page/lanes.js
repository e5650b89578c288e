// What is drawn on the time axis: a lane each for waveform, spectrogram, tracks and the axis itself.

function unpackLine(line) {
  const numbers = (view) => Array.from(array(view, Float32Array));
  return { ...line, times: numbers(line.times), values: numbers(line.values) };
}

function unpack(lane) {
  if (lane.kind === "curve") return { ...lane, lines: lane.lines.map(unpackLine) };
  if (lane.kind === "ribbon") return { ...lane, values: array(lane.values, Uint16Array) };
  if (lane.kind === "trajectory") return { ...lane, values: array(lane.values, Float32Array) };
  if (lane.rows) return { ...lane, values: array(lane.values, Uint8Array) };
  return lane;
}

const HEIGHTS = { map: 18, wave: 52, spectrogram: 96, curve: 60, ribbon: 18, heat: 60, causes: 22, words: 20, marks: 16, axis: 22 }; // pixels
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600]; // of the axis
const SHAPES = ["▼", "✕"]; // of the marks in a lane: the first group, and others
const CIVIDIS = ["#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838"];

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

// A method for each kind of lane; `View` has the rest.
class Lanes {
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

  // The groups of a lane differ in shape as well as in colour: SHAPES.
  marks(g, lane, { height, x }) {
    lane.groups.forEach(({ times, colour }, i) => {
      g.fillStyle = g.strokeStyle = this.tint(colour);
      g.lineWidth = 2.5;
      for (const time of times) {
        const at = x(time);
        if (i) {
          line(g, at - 5, 2, at + 5, height - 2);
          line(g, at - 5, height - 2, at + 5, 2);
          continue;
        }
        g.beginPath();
        g.moveTo(at, height - 1);
        g.lineTo(at - 5, 2);
        g.lineTo(at + 5, 2);
        g.fill();
      }
    });
    g.lineWidth = 1;
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

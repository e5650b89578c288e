// A map whose cells are pressed: the heat map of a figure on a canvas, with its names, its axis and its scale. A click
// presses a cell; with the focus, arrows move from cell to cell and Enter presses. No dependency and no network.

const ROW = 13, LEFT = 160, RIGHT = 8, BOTTOM = 38, TICK = 28; // pixels: a row, around the cells, between marks at least

function render({ model, el }) {
  const map = model.get("map"), { values, names, ticks, x0, dx, colour } = map, columns = values[0].length;
  const about = { ...OWN_KEYS, tabindex: 0, role: "application" };
  const canvas = h("canvas", { ...about, "aria-label": `${map.title}: arrows move, Enter plays` });
  const says = h("span", { "aria-live": "polite" }, "Click on a cell to hear it.");
  const scale = h("span", { class: "scale" }, `0 `, h("i"), ` ${map.most} ${map.scale}`);
  scale.querySelector("i").style.background = `linear-gradient(90deg, transparent, ${colour})`;
  const foot = h("div", { class: "foot" }, says, scale);
  const root = h("div", { class: "lab-cells" }, h("b", {}, map.title), canvas, foot);
  el.append(root);
  let at = null, pressed = null, frame = null; // [row, column] that is pointed at, and that plays

  const left = () => Math.min(LEFT, 0.3 * canvas.clientWidth);
  const width = () => (canvas.clientWidth - left() - RIGHT) / columns;
  const middle = (column) => x0 + dx * column;

  // A cell that is out of sight, or a page that changes its theme, has no width for a while.
  const draw = () => (frame ??= requestAnimationFrame(() => ((frame = null), canvas.clientWidth && paint())));

  function paint() {
    const g = canvas.getContext("2d"), ratio = devicePixelRatio, wide = width(), edge = left();
    canvas.style.height = `${ROW * values.length + BOTTOM}px`;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    g.scale(ratio, ratio);
    const ink = getComputedStyle(canvas).color;
    values.forEach((row, y) => row.forEach((value, x) => {
      if (value === null) return;
      g.globalAlpha = Math.min(Math.max(value / map.most, 0), 1);
      g.fillStyle = colour;
      g.fillRect(edge + wide * x, ROW * y, wide, ROW - 1);
    }));
    g.globalAlpha = 1;
    g.fillStyle = g.strokeStyle = ink;
    g.font = "11px system-ui, sans-serif";
    g.textBaseline = "middle";
    g.textAlign = "right";
    for (const [row, text] of ticks)
      text.split("<br>").forEach((line, k, all) =>
        g.fillText(line, edge - 8, ROW * (row + 0.5 + 1.05 * (k - (all.length - 1) / 2)), edge - 10));
    g.textAlign = "center";
    const bottom = ROW * values.length, step = 2 ** Math.max(0, Math.ceil(Math.log2(TICK / wide)));
    for (let column = 0; column <= columns; column += step)
      g.fillText(middle(column) - dx / 2, edge + wide * column, bottom + 9);
    g.fillText(map.axis, edge + (wide * columns) / 2, bottom + 26);
    for (const [cell, line] of [[pressed, 3], [at, 1.5]]) {
      if (!cell) continue;
      g.lineWidth = line;
      g.strokeRect(edge + wide * cell[1], ROW * cell[0] - 0.5, wide, ROW);
    }
  }

  function point(row, column) {
    const value = values[row]?.[column];
    at = value === undefined || value === null ? null : [row, column];
    if (at) says.textContent = `${names[row]}; ${map.axis.replace("minutes", `minute ${middle(column)}`)}: ${value.toFixed(2)}`;
    draw();
  }

  function press() {
    if (!at) return;
    pressed = at;
    model.send({ row: at[0], column: at[1] });
    draw();
  }

  const under = ({ offsetX, offsetY }) => point(Math.floor(offsetY / ROW), Math.floor((offsetX - left()) / width()));
  canvas.onpointermove = under;
  canvas.onclick = (event) => (under(event), press());
  canvas.onkeydown = (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    if (!step) return press();
    let [row, column] = at ?? [values.findIndex((row) => row[0] !== null) - step[0], -step[1]];
    do [row, column] = [row + step[0], column + step[1]];
    while (values[row]?.[column] === null); // over the line between two systems, and over what nobody said
    if (values[row]?.[column] !== undefined) point(row, column);
  };
  const watched = new ResizeObserver(draw), theme = new MutationObserver(draw);
  watched.observe(canvas);
  theme.observe(document.body, { attributes: true });
  return () => (watched.disconnect(), theme.disconnect());
}

export default { render };

// Plotly as a page of `make html` draws it. A title has no line breaks of its own and names stand beside it: on a phone
// it is set in lines, and they go below the plot.

const PHONE = 600, LETTER = 7.5, ROW = 20; // pixels: below which a page is narrow, of a letter, of a line

function fitted({ data, layout }, width) {
  const figure = structuredClone({ data, layout });
  if (width >= PHONE) return figure;
  const all = figure.layout, lines = [[]];
  for (const word of (all.title?.text ?? "").split(" ")) {
    if ([...lines.at(-1), word].join(" ").length * LETTER > width - 16) lines.push([]);
    lines.at(-1).push(word);
  }
  const text = lines.map((words) => words.join(" ")).join("<br>"); // from the edge of the page, not of the plot
  all.title = { ...all.title, text, font: { size: 14 }, xref: "container", x: 0, pad: { t: 12, l: 6 } };
  const margin = { ...all.template?.layout?.margin, ...all.margin };
  const named = figure.data.filter((trace) => trace.name && trace.showlegend !== false);
  const rows = all.showlegend === false || figure.data.length < 2 ? 0 : named.length;
  all.legend = { orientation: "v", x: 0, xanchor: "left", yref: "container", y: 0, yanchor: "bottom" };
  const more = { t: ROW * (lines.length - 1), b: rows ? ROW * rows + 30 - Math.max(0, margin.b - 80) : 0 };
  all.margin = { ...margin, t: margin.t + more.t, b: margin.b + more.b, l: Math.min(margin.l, 55) };
  all.height = (all.height ?? 450) + more.t + Math.max(0, more.b);
  const beside = all.xaxis2?.domain?.[0] > 0.4 && !all.xaxis3;
  return beside ? stacked(figure) : figure;
}

// Of two panels beside each other: one below the other.
function stacked(figure) {
  const { layout: all } = figure, ends = [[0.6, 1], [0, 0.4]];
  [all.xaxis, all.xaxis2].forEach((axis) => (axis.domain = [0, 1]));
  [all.yaxis, all.yaxis2].forEach((axis, i) => (axis.domain = ends[i]));
  all.annotations?.filter((text) => text.xref === "paper" && text.y === 1).forEach((text, i) => {
    Object.assign(text, { x: 0.5, y: ends[i]?.[1] ?? 1 });
  });
  all.height *= 1.5;
  return figure;
}

function draw(plot, figure) {
  const { data, layout } = fitted(figure, plot.parentElement.clientWidth);
  return Plotly.react(plot, data, layout, { responsive: true });
}

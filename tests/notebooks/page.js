// What a page of `make html` adds to the player, in whose module it stands: figures whose controls were drawn ahead,
// and players of the stored clips.

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// Controls above a figure. One is moved at a time, since only that was drawn: the others go back to where they stood.
async function controls(place) {
  const plot = place.querySelector(".plotly"), stored = JSON.parse(place.querySelector("script[type]").textContent);
  const stream = new Blob([bytes(stored.drawings)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const drawings = await new Response(stream).json(), selects = [];
  const show = (number) => {
    const figure = structuredClone(plot.figure), { data, traces, layout } = drawings[number];
    if (data) figure.data = data;
    traces?.forEach((changes, i) => Object.assign(figure.data[i], structuredClone(changes)));
    draw(plot, { data: figure.data, layout: Object.assign(figure.layout, structuredClone(layout)) });
  };
  const rest = (but) => stored.controls.forEach(({ at }, i) => selects[i] !== but && (selects[i].move(at)));
  const bar = h("div", { class: "lab-controls" }), heard = h("div");
  for (const { name, texts, drawings: numbers, at } of stored.controls) {
    const read = h("output"), input = h("input", { type: "range", min: 0, max: texts.length - 1, "aria-label": name });
    input.move = (place) => {
      input.value = place;
      read.textContent = texts[place];
      input.setAttribute("aria-valuetext", texts[place]);
    };
    input.addEventListener("input", () => {
      input.move(Number(input.value));
      rest(input);
      show(numbers[input.value]);
    });
    input.move(at);
    selects.push(input);
    bar.append(h("label", {}, `${name} `, input, read));
  }
  const named = {};
  stored.settings.forEach(([name, number], i) => {
    named[name] = button(name, "what the text speaks of", () => {
      rest(null);
      show(number);
      heard.innerHTML = stored.sounds?.[i] ?? "";
    });
    bar.append(named[name]);
  });
  document.addEventListener("click", (event) => {
    const asked = named[linked(event)];
    if (!asked) return;
    event.preventDefault();
    asked.click();
    place.scrollIntoView({ block: "nearest" });
  });
  plot.on("plotly_click", ({ points: [{ x, y }] }) => named[`${x}, ${y}`]?.click()); // a cell of a map that is heard
  const note = selects.length
    ? "Drawn ahead, one control at a time; with a kernel all move together."
    : "Some are kept here; with a kernel each can be heard.";
  bar.append(h("small", {}, note));
  plot.before(bar);
  plot.after(heard);
}

// A player in place of the poster and its clips, when these are decoded.
async function playable(place) {
  const stored = JSON.parse(place.querySelector("script[type]").textContent);
  const offline = new OfflineAudioContext(1, 1, RATE);
  const clips = [...place.querySelectorAll("audio")].map((clip) => bytes(clip.src.split(",")[1]).buffer);
  const sounds = await Promise.all(clips.map((clip) => offline.decodeAudioData(clip)));
  const names = JSON.parse(new TextDecoder().decode(bytes(stored.names)));
  const lanes = stored.lanes.map((lane) => ({
    ...lane,
    ...(lane.values && { values: bytes(lane.values) }),
    ...(lane.kind === "curve" && {
      lines: lane.lines.map((one) => ({ ...one, times: bytes(one.times), values: bytes(one.values) })),
    }),
  }));
  const pcm = sounds.map((sound) => Int16Array.from(sound.getChannelData(0), (x) => 32767 * clamp(x, -1, 1)));
  const traits = {
    caption: stored.caption, seconds: 0, votes: {}, _lanes: lanes, _seams: stored.seams, _blind: stored.blind, _live: {},
    _colours: stored.colours, _sounds: names.map((name, i) => ({ name, gain: 0, pcm: pcm[i] })),
  };
  const model = { get: (name) => traits[name], set: (name, value) => (traits[name] = value) };
  for (const unheard of ["on", "send", "save_changes"]) model[unheard] = () => {};
  place.replaceChildren();
  new View(new Engine(model), place);
}

for (const place of document.querySelectorAll(".lab-figure:has(script[type])")) await controls(place);
for (const place of document.querySelectorAll(".lab-stored:has(audio)")) await playable(place);

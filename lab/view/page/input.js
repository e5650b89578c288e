// Pointer, wheel and keys.

function listen(view) {
  const { plot, root, engine } = view;
  const moment = (event) => {
    const box = plot.getBoundingClientRect(), [start, stop] = view.span;
    return clamp(start + ((event.clientX - box.left) / box.width) * (stop - start), 0, engine.length / RATE);
  };
  plot.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    plot.setPointerCapture(event.pointerId);
    view.drag = { x: event.clientX, from: moment(event), moved: false };
  });
  plot.addEventListener("pointermove", (event) => {
    view.hover = moment(event);
    if (view.drag && Math.abs(event.clientX - view.drag.x) > 4) view.drag.moved = true;
    view.request();
  });
  plot.addEventListener("pointerup", (event) => {
    const { drag } = view, to = moment(event);
    view.drag = null;
    if (!drag) return;
    if (!drag.moved) return engine.go(to, true);
    engine.repeat([Math.min(drag.from, to), Math.max(drag.from, to)]);
    if (!engine.playing) engine.play();
  });
  plot.addEventListener("pointercancel", () => (view.drag = null));
  plot.addEventListener("pointerleave", () => {
    view.hover = null;
    view.request();
  });
  plot.addEventListener("wheel", (event) => {
    // the page scrolls on, unless the player was clicked or Ctrl is held
    if (!event.ctrlKey && !root.contains(document.activeElement)) return;
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) view.pan(event.deltaX / 1000);
    else view.zoom(2 ** (event.deltaY / 200), moment(event));
  }, { passive: false });
  const look = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = view.map.lastChild.getBoundingClientRect(), [start, stop] = view.span;
    view.pan((((event.clientX - box.left) / box.width) * view.whole - (start + stop) / 2) / (stop - start));
  };
  for (const kind of ["pointerdown", "pointermove"]) view.map.lastChild.addEventListener(kind, look);
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !press(view, event)) return;
    event.preventDefault();
    event.stopPropagation();
  });
}

// Does what a key asks; false for a key that is not the player's.
function press(view, { key, target, shiftKey }) {
  if (["INPUT", "SELECT"].includes(target.tagName)) return false; // these keys are theirs
  if ((key === " " || key === "Enter") && target.tagName === "BUTTON") return false;
  const { engine } = view, step = shiftKey ? 0.1 : 1, end = engine.length / RATE;
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
    "+": () => view.zoom(0.5),
    "-": () => view.zoom(2),
  };
  engine.order.forEach((_, label) => {
    for (const name of engine.keys(label)) actions[name] = () => engine.choose(engine.order[label]);
  });
  const action = actions[key] ?? actions[key.toUpperCase()];
  action?.();
  return Boolean(action);
}

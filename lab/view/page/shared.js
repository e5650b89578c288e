// What players and listening tests have in common: the rate, what is one a page, and how elements are made.

const RATE = 16000; // samples a second

// one a page, although each widget loads this module anew: one AudioContext, and one player that sounds
const page = (globalThis[Symbol.for("speechssm-lab.player")] ??= { context: null, sounding: null, volume: 1 });

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// The name that a link in the prose sets, `#set:four%20times`; nothing for any other click.
function linked(event) {
  const href = event.target.closest?.("a")?.getAttribute("href") ?? "";
  return href.startsWith("#set:") ? decodeURIComponent(href.slice(5)) : null;
}

// JupyterLab's shortcuts match the element that has the focus: each that can have it asks to be left alone
const OWN_KEYS = { "data-lm-suppress-shortcuts": "true" };
const button = (label, title, onclick, more = {}) =>
  h("button", { ...OWN_KEYS, type: "button", title, onclick, ...more }, label);

// A click on a link in the prose that sets something: its name goes to the kernel, and what it sets comes into sight.
function render({ model, el }) {
  const page = new AbortController();
  const press = (event) => {
    const name = linked(event);
    if (!model.get("names").includes(name)) return;
    event.preventDefault();
    event.stopPropagation();
    model.send({ name });
    el.closest(".jp-OutputArea")?.scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("click", press, { capture: true, signal: page.signal });
  return () => page.abort();
}
export default { render };

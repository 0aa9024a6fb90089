// The table of lists that change most: Python hands it over as HTML whose texts are escaped; a pressed name goes back.
const shown = new WeakMap();

export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".picker");
  if (!shown.has(root)) {
    root.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-list]");
      if (button) shown.get(root).pick(Number(button.dataset.list));
    });
  }
  const before = shown.get(root)?.html;
  shown.set(root, { html: data.html, pick: (number) => setTriggerValue("picked", number) });
  if (before === data.html) return;
  const held = root.contains(document.activeElement) ? document.activeElement.dataset.list : undefined;
  root.innerHTML = data.html;
  if (held !== undefined) root.querySelector(`button[data-list="${held}"]`)?.focus({ preventScroll: true });
}

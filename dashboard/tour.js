// The tour: one step at a time, in the browser alone. The browser's storage keeps that it was dismissed, and, until the
// tab is closed, at which step it stands. A browser that keeps nothing forgets both when the page is loaded again.
const DONE = "hyperdpo.tour.done", STEP = "hyperdpo.tour.step";

const memory = {};
const kept = {
  get(store, key) {
    try {
      return window[store].getItem(key);
    } catch {
      return memory[key] ?? null;
    }
  },
  set(store, key, value) {
    memory[key] = value;
    try {
      if (value === null) window[store].removeItem(key);
      else window[store].setItem(key, value);
    } catch {
      // the page's own memory has to do
    }
  },
};

function element(tag, properties, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

class Tour {
  constructor(root, data) {
    this.steps = data.steps;
    const step = kept.get("sessionStorage", STEP);
    const open = kept.get("localStorage", DONE) === null && (data.first || step !== null);
    this.at = open ? Math.min(Number(step) || 0, this.steps.length - 1) : null;
    if (open) kept.set("sessionStorage", STEP, String(this.at)); // the address is no longer bare when it is loaded again
    const button = (textContent, className, onclick) => element("button", { type: "button", textContent, className, onclick });
    this.count = element("span", { className: "hx-quiet" });
    this.head = element("strong", {});
    this.text = element("span", {});
    this.back = button("Back", "", () => this.go(this.at - 1));
    this.next = button("Next", "hx-tournext", () => this.go(this.at + 1));
    this.skip = button("Skip", "", () => this.close());
    this.again = button("Show the tour", "hx-touragain", () => this.open());
    this.again.title = "Five short steps through this page";
    const said = element("p", {}, [this.count, " ", this.head, " ", this.text]);
    said.setAttribute("aria-live", "polite");
    this.box = element("section", { className: "hx-tour" }, [said, element("div", {}, [this.back, this.next, this.skip])]);
    this.box.setAttribute("aria-label", "Tour of this page");
    root.replaceChildren(this.again, this.box);
    this.draw();
  }

  draw() {
    const shown = this.at !== null;
    this.box.hidden = !shown;
    this.again.hidden = shown;
    if (shown) {
      const { head, text, at } = this.steps[this.at];
      this.count.textContent = `${this.at + 1} of ${this.steps.length}`;
      this.head.textContent = `${head}.`;
      this.text.textContent = text;
      this.back.disabled = this.at === 0;
      this.next.textContent = this.at === this.steps.length - 1 ? "Done" : "Next";
      this.skip.hidden = this.at === this.steps.length - 1;
      document.body.dataset.hxTour = at;
    } else {
      delete document.body.dataset.hxTour;
    }
  }

  go(step) {
    if (step >= this.steps.length) {
      this.close();
      return;
    }
    this.at = Math.max(0, step);
    kept.set("sessionStorage", STEP, String(this.at));
    this.draw();
    if (this.back.disabled) this.next.focus();
  }

  open() {
    kept.set("localStorage", DONE, null);
    this.go(0);
    this.next.focus();
  }

  close() {
    this.at = null;
    kept.set("localStorage", DONE, "1");
    kept.set("sessionStorage", STEP, null);
    this.draw();
    this.again.focus();
  }
}

const tours = new WeakMap();

export default function ({ parentElement, data }) {
  const root = parentElement.querySelector(".hx-tourplace");
  if (!tours.has(root)) tours.set(root, new Tour(root, data));
  else tours.get(root).draw();
  return () => delete document.body.dataset.hxTour; // another view has none of what it marks
}

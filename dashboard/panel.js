// The slider panel. Python hands over the state as `data`; every move goes back as one value {percent, scale, locked, seq}.
// Moves are drawn here at once. One message is under way at a time: the next goes when Python has answered (data.ack), so
// that dragging never floods the server, and an answer to an older move never takes a slider back.

const STEPS = 50; // of the scale slider on either side of c = 1
const ANSWER_MS = 1500;

// The same rule as hyperdpo.weights.rebalance: the others share the rest in proportion, whole percentages, sum 100.
export function rebalance(percent, index, value, locked) {
  const still = percent.map((_, i) => locked[i] && i !== index);
  const free = percent.map((_, i) => i).filter((i) => !still[i] && i !== index);
  const room = 100 - percent.reduce((sum, p, i) => sum + (still[i] ? p : 0), 0);
  value = free.length ? Math.max(0, Math.min(value, room)) : room;
  const had = free.reduce((sum, i) => sum + percent[i], 0);
  const shares = free.map((i) => (had ? percent[i] / had : 1 / free.length) * (room - value));
  const whole = shares.map(Math.floor);
  const order = free.map((_, n) => n).sort((a, b) => whole[a] - shares[a] - (whole[b] - shares[b]) || a - b);
  const missing = room - value - whole.reduce((a, b) => a + b, 0);
  order.slice(0, missing).forEach((n) => (whole[n] += 1));
  const result = percent.slice();
  result[index] = value;
  free.forEach((i, n) => (result[i] = whole[n]));
  return result;
}

const scaleOf = (step) => Number((10 ** (step / STEPS)).toPrecision(3));
const stepOf = (scale) => Math.round(STEPS * Math.log10(scale));
const lowestStep = (low) => Math.ceil(STEPS * Math.log10(low) - 0.1);

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  for (const [key, value] of Object.entries(properties)) if (key.includes("-")) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Page up and down move by 10, whatever the browser's own habit.
function tens(slider, moved) {
  slider.addEventListener("keydown", (event) => {
    const by = { PageUp: 10, PageDown: -10 }[event.key];
    if (!by) return;
    event.preventDefault();
    slider.value = String(Number(slider.value) + by);
    moved();
  });
  slider.addEventListener("input", moved);
}

class Panel {
  constructor(root) {
    this.root = root;
    this.sent = this.seq = 0;
    this.waiting = this.asked = this.held = false;
    root.addEventListener("pointerdown", (event) => (this.held = Boolean(event.target.closest(".slider"))));
    for (const up of ["pointerup", "pointercancel"]) {
      window.addEventListener(up, () => {
        if (!this.held) return;
        this.held = false;
        if (root.isConnected) this.announce();
      });
    }
  }

  take(data, setStateValue, setTriggerValue) {
    this.setStateValue = setStateValue;
    this.setTriggerValue = setTriggerValue;
    const fresh = !this.data || this.data.epoch !== data.epoch || this.data.names.join("\n") !== data.names.join("\n");
    const rebuild = !this.data || this.data.names.join("\n") !== data.names.join("\n");
    this.data = data;
    if (fresh) {
      this.seq = this.sent = data.ack;
      this.waiting = false;
      this.percent = data.percent.slice();
      this.locked = data.locked.slice();
      this.scale = data.scale;
    }
    if (rebuild) this.build();
    if (data.ack >= this.sent) {
      this.waiting = this.asked = false;
      if (this.seq > this.sent) this.send();
    }
    this.draw();
    this.announce();
    this.writeUrl(data.url);
    if (data.watch) this.watch();
  }

  // Tells Python once that the first chart is on the screen; what loads after that may keep the server busy.
  watch() {
    if (this.watching) return;
    this.watching = true;
    const look = () => {
      if (document.querySelector(".js-plotly-plot .scatterlayer .point")) this.trigger("painted");
      else setTimeout(look, 100);
    };
    look();
  }

  build() {
    const { names, called, colours, low, caution } = this.data;
    this.lowest = lowestStep(low);
    const rows = names.map((name, i) => {
      const id = `attention-${i}`;
      const slider = element("input", { type: "range", id, min: "0", max: "100", step: "1", className: "slider" });
      slider.title = `Percent of attention for ${called[i]}: more of it ranks by it more, at the cost of the others`;
      tens(slider, () => this.move(i, Number(slider.value)));
      const only = element("button", { type: "button", className: "small", textContent: "only", title: `Only ${name}` });
      only.setAttribute("aria-label", `Only ${name}`);
      only.onclick = () => this.only(i);
      const lock = element("button", { type: "button", className: "small lock" });
      lock.setAttribute("aria-label", `Keep ${name} where it is`);
      lock.onclick = () => this.lock(i);
      const value = element("output", { className: "value" });
      value.setAttribute("for", id);
      const dot = element("span", { className: "dot" });
      dot.style.background = colours[i];
      dot.setAttribute("aria-hidden", "true");
      const label = element("label", { htmlFor: id, className: "name", title: called[i] }, [dot, element("span", { textContent: name })]);
      const node = element("div", { className: "row" }, [element("div", { className: "line" }, [label, only, lock, value]), slider]);
      return { node, slider, only, lock, value };
    });
    const scale = element("input", {
      type: "range", id: "scale", className: "slider", min: String(this.lowest), max: String(STEPS), step: "1",
    });
    scale.setAttribute("aria-label", "How far from the base: c, from bolder to closer");
    scale.title = "c = 1 is as trained; below it is bolder, above it closer to the base";
    tens(scale, () => this.rescale(Number(scale.value)));
    const scaleValue = element("output", { className: "value" });
    const button = (text, title, act) => {
      const made = element("button", { type: "button", textContent: text, title });
      made.onclick = act;
      return made;
    };
    const equal = button("equal", "The same attention for every objective", () => this.equal());
    equal.className = "small";
    const pins = this.pins();
    const copy = button("copy link", "Copies this page's address: whoever opens it sees the same view", () => this.copy(copy));
    const reset = button("reset", "Equal attention, c = 1, nothing locked", () => this.reset());
    const warning = element("p", { className: "caution", textContent: caution, hidden: true, role: "note" });
    this.parts = { rows, scale, scaleValue, pins, equal, warning };
    const attention = element("div", { role: "group" }, [
      element("div", { className: "line head" }, [element("h2", { textContent: "What matters" }), equal]),
      ...rows.map((r) => r.node),
    ]);
    attention.setAttribute("aria-label", "What matters: percentages of attention that sum to 100");
    const distance = element("div", { role: "group", className: "row distance" }, [
      element("div", { className: "line head" }, [element("h2", { textContent: "How far from the base" }), scaleValue]),
      scale,
      element("div", { className: "line ends" }, [
        element("span", { textContent: "bolder" }), element("span", { textContent: "closer to the base" }),
      ]),
      warning,
    ]);
    this.root.replaceChildren(attention, distance, element("div", { className: "buttons" }, [reset, ...Object.values(pins), copy]));
  }

  // Two choices can be pinned, A first; which of these buttons are of use depends on how many are.
  pins() {
    const made = (text, title, what, when) => {
      const button = element("button", { type: "button", textContent: text, title });
      button.onclick = () => this.trigger(what);
      return Object.assign(button, { when });
    };
    return {
      a: made("pin as A", "Remember this choice as A and compare with it", "pin", 0),
      b: made("pin as B", "Remember this choice as B and compare it with A", "pin-b", 1),
      off: made("unpin A", "Stop comparing with A", "clear", 1),
      swap: made("swap A and B", "A becomes B and B becomes A", "swap", 2),
      clear: made("unpin both", "Stop comparing A and B", "clear", 2),
    };
  }

  draw() {
    const { rows, scale, scaleValue, pins } = this.parts;
    const alone = rows.length === 1;
    rows.forEach(({ slider, lock, value, only }, i) => {
      slider.value = String(this.percent[i]);
      slider.style.setProperty("--share", `${this.percent[i]}%`);
      slider.setAttribute("aria-valuetext", `${this.percent[i]} % of attention`);
      slider.disabled = alone || this.locked[i];
      value.textContent = `${this.percent[i]} %`;
      lock.setAttribute("aria-pressed", String(this.locked[i]));
      lock.title = this.locked[i] ? "Locked: moving the others leaves it alone" : "Lock: keep it still while others move";
      lock.classList.toggle("on", this.locked[i]);
      lock.hidden = only.hidden = alone;
    });
    this.parts.equal.hidden = alone;
    const step = stepOf(this.scale);
    scale.value = String(step);
    scale.style.setProperty("--share", `${(100 * (step - this.lowest)) / (STEPS - this.lowest)}%`);
    scale.setAttribute("aria-valuetext", `c = ${this.scale}`);
    scaleValue.textContent = `c = ${this.scale.toPrecision(3)}`;
    this.parts.warning.hidden = !this.data.caution || this.scale >= 1;
    const focused = this.root.getRootNode().activeElement;
    for (const button of Object.values(pins)) button.hidden = !this.data.pins || button.when !== this.data.pinned;
    if (focused && focused.when !== undefined && focused.hidden) {
      Object.values(pins).find((button) => !button.hidden)?.focus(); // the keyboard stays where it was
    }
  }

  move(index, value) {
    this.percent = rebalance(this.percent, index, value, this.locked);
    this.changed();
  }

  rescale(step) {
    this.scale = scaleOf(step);
    this.changed();
  }

  only(index) {
    this.locked = this.locked.map(() => false);
    this.percent = this.percent.map((_, i) => (i === index ? 100 : 0));
    this.changed();
  }

  equal() {
    this.locked = this.locked.map(() => false);
    const n = this.percent.length;
    const each = Math.floor(100 / n);
    this.percent = this.percent.map((_, i) => each + (i < 100 - n * each ? 1 : 0));
    this.changed();
  }

  reset() {
    this.scale = 1;
    this.equal();
  }

  lock(index) {
    this.locked = this.locked.map((on, i) => (i === index ? !on : on));
    this.changed();
  }

  changed() {
    this.seq += 1;
    this.draw();
    this.announce(true);
    if (this.waiting && Date.now() - this.sentAt < ANSWER_MS) return;
    this.send();
  }

  // What the sliders stand at, for what draws a preview before Python has answered (point.js).
  announce(moved = false) {
    const pending = moved || this.waiting || this.seq > this.sent;
    const detail = { percent: this.percent.slice(), scale: this.scale, pending, moved, held: this.held };
    window.dispatchEvent(new CustomEvent("hx-sliders", { detail }));
  }

  send() {
    this.sent = this.seq;
    this.sentAt = Date.now();
    this.waiting = true;
    clearTimeout(this.overdue);
    this.overdue = setTimeout(() => this.again(), ANSWER_MS);
    this.setStateValue("moved", {
      percent: this.percent, scale: this.scale, locked: this.locked, seq: this.seq, epoch: this.data.epoch,
    });
  }

  // An answer can get lost where other parts of the page ask Python at the same time: a move made since must not wait for
  // it, and the last move is told once more, but not over and over to a server that is merely slow.
  again() {
    if (!this.waiting || (this.seq === this.sent && this.asked)) return;
    if (this.seq === this.sent) {
      this.asked = true;
      this.seq += 1;
    }
    this.send();
  }

  trigger(what) {
    this.setTriggerValue("pressed", what);
  }

  async copy(button) {
    let said = "copied";
    try {
      await navigator.clipboard.writeText(window.location.href);
    } catch {
      said = "copy it from the address bar";
    }
    button.textContent = said;
    setTimeout(() => (button.textContent = "copy link"), 2000);
  }

  // The address follows the sliders without a new entry in the browser's history for every step.
  writeUrl(query) {
    if (this.seq > this.sent || !query) return;
    const wanted = `${window.location.pathname}?${query}`;
    if (wanted !== window.location.pathname + window.location.search) {
      window.history.replaceState(window.history.state, "", wanted + window.location.hash);
    }
  }
}

const panels = new WeakMap();

export default function ({ parentElement, data, setStateValue, setTriggerValue }) {
  const root = parentElement.querySelector(".panel");
  if (!panels.has(root)) panels.set(root, new Panel(root));
  panels.get(root).take(data, setStateValue, setTriggerValue);
}

// The live point, drawn over the chart. Streamlit makes a chart anew when anything in it changes, which takes longer than
// everything else a slider does; so the fronts stay in the chart, and the point that follows the sliders is drawn here, from
// the same plotly trace that the downloads hold. Only what is public is used: the chart's layout, its events, its margins.
//
// While the sliders are ahead of what Python has measured, a hollow ring shows where the point goes: from where it stands,
// by what the sketch (dashboard/preview.py) says that the move changes. So the two lie on one another once the answer is in.
// A click on the plane is ringed and told to Python as the values there.

const SVG = "http://www.w3.org/2000/svg";
const CHART = ".st-key-chart .js-plotly-plot";

const CLICK_PIXELS = 4; // a press that moves further is a pan
const SECOND_CLICK_MS = 300; // within it, a second click makes a double one, which is the chart's own: it resets the zoom

// The figures at a position of the sliders, [x, y]: see Sketch.at in preview.py.
export function sketched(sketch, percent, scale) {
  const terms = sketch.powers.map((powers) => powers.reduce((product, p, i) => product * (percent[i] / 100) ** p, 1));
  const { logs } = sketch;
  const wanted = Math.min(Math.max(Math.log(scale), logs[0]), logs[logs.length - 1]);
  let low = 0;
  while (low < logs.length - 2 && logs[low + 1] <= wanted) low += 1;
  const share = (wanted - logs[low]) / (logs[low + 1] - logs[low]);
  const sum = (coefficients) => coefficients.reduce((total, c, i) => total + c * terms[i], 0);
  return ["x", "y"].map((axis) => (1 - share) * sum(sketch[axis][low]) + share * sum(sketch[axis][low + 1]));
}

function shape(tag, attributes = {}) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

class Point {
  constructor() {
    this.svg = shape("svg", { class: "hx-point" });
    this.across = shape("line");
    this.up = shape("line");
    this.dot = shape("circle", { tabindex: "0", role: "img" });
    this.ring = shape("circle", { class: "hx-preview", r: "9" });
    this.label = shape("text", { class: "hx-preview" });
    this.label.textContent = "preview";
    this.aim = shape("circle", { class: "hx-aim", r: "11" });
    this.exact = shape("g", { class: "hx-exact" });
    this.ahead = shape("g", { class: "hx-ahead" });
    this.exact.append(this.across, this.up, this.dot);
    this.ahead.append(this.ring, this.label);
    this.svg.append(this.exact, this.aim, this.ahead);
    this.status = Object.assign(document.createElement("div"), { className: "hx-sr" });
    this.status.setAttribute("role", "status");
    this.tip = Object.assign(document.createElement("div"), { className: "hx-tip", hidden: true });
    for (const on of ["pointerenter", "focus"]) this.dot.addEventListener(on, () => (this.tip.hidden = false));
    for (const off of ["pointerleave", "blur"]) this.dot.addEventListener(off, () => (this.tip.hidden = true));
    this.observer = new MutationObserver(() => this.follow());
    this.camera = (event) => this.lend(event);
    this.sliders = (event) => this.hear(event.detail);
    this.down = (event) => this.press(event);
    this.lifted = (event) => this.release(event);
  }

  take(data, setTriggerValue) {
    this.setTriggerValue = setTriggerValue;
    this.data = data;
    this.trace = data.trace;
    this.margin = data.margin;
    this.target = data.target;
    // The view's own box is replaced as a whole when one leaves it and comes back, so what holds all views is watched.
    const place = document.querySelector('[data-testid="stMain"]') ?? document.body;
    if (place !== this.place) {
      this.leave();
      this.place = place;
      this.observer.observe(place, { childList: true, subtree: true });
      place.addEventListener("click", this.camera, true);
      place.addEventListener("pointerdown", this.down, true);
      window.addEventListener("pointerup", this.lifted, true);
      window.addEventListener("hx-sliders", this.sliders);
    }
    this.follow();
    this.draw();
  }

  hear(sliders) {
    if (sliders.moved) this.target = null;
    this.wish = sliders;
    this.preview();
  }

  // Where the sliders are taking the point, and the point itself once it is there.
  preview(moved = {}) {
    const { wish, trace, data } = this;
    const elsewhere = wish && (wish.scale !== data.scale || wish.percent.some((p, i) => p !== data.percent[i]));
    const ahead = Boolean(data?.sketch && trace && elsewhere && wish.pending && wish.percent.length === data.percent.length);
    const shown = ahead || Boolean(this.previewing && data?.sketch && trace && wish?.held);
    let at = null;
    if (shown) {
      const [from, to] = [data, ahead ? wish : data].map((s) => sketched(data.sketch, s.percent, s.scale));
      const where = [trace.x[0] + to[0] - from[0], trace.y[0] + to[1] - from[1]];
      at = this.pixels(moved, where);
      [this.ring.dataset.x, this.ring.dataset.y] = where;
      if (at) this.put(at, trace.marker.color);
    }
    for (const part of [this.ring, this.label]) part.style.display = at ? "" : "none";
    this.exact.style.opacity = ahead ? "0.45" : "";
    if (shown !== Boolean(this.previewing)) this.tell(shown);
    this.previewing = shown;
  }

  put({ left, top, width }, colour) {
    const right = left > width - 90;
    for (const [key, value] of Object.entries({ cx: left, cy: top, stroke: colour })) this.ring.setAttribute(key, value);
    const words = { x: left + (right ? -15 : 15), y: top + 4, "text-anchor": right ? "end" : "start" };
    for (const [key, value] of Object.entries(words)) this.label.setAttribute(key, value);
  }

  // Once as the preview begins and once as it ends: a word for every step would never let a reader finish one.
  tell(shown) {
    const figures = () => [0, 1].map((i) => `${this.data.axes[i]} ${Number(this.trace["xy"[i]][0]).toFixed(3)}`).join(", ");
    this.status.textContent = shown ? "Preview; the measured figures follow." : this.trace ? `Measured: ${figures()}.` : "";
  }

  // --- A click on the plane

  press(event) {
    const plane = event.button === 0 && event.isPrimary && this.data?.aims && event.target.closest?.(".nsewdrag");
    this.pressed = plane && this.chart?.contains(plane) ? [event.clientX, event.clientY] : null;
  }

  release(event) {
    const from = this.pressed;
    this.pressed = null;
    if (!from || Math.hypot(event.clientX - from[0], event.clientY - from[1]) > CLICK_PIXELS) return;
    const second = this.aiming;
    clearTimeout(this.aiming);
    this.aiming = null;
    if (second) {
      this.target = this.data.target;
      return void this.draw();
    }
    const at = this.values(...from);
    if (!at) return;
    this.target = at;
    this.draw();
    this.aiming = setTimeout(() => {
      this.aiming = null;
      this.setTriggerValue("aimed", { x: at[0], y: at[1], axes: this.data.axes });
    }, SECOND_CLICK_MS);
  }

  // Pixels of the screen as values of the axes; null beside the plane.
  values(clientX, clientY) {
    const box = this.inside.getBoundingClientRect();
    const { margin } = this;
    const { x0, x1, y0, y1, whole } = this.frame({});
    const across = (clientX - box.left - margin.l) / (whole.width - margin.l - margin.r);
    const down = (clientY - box.top - margin.t) / (whole.height - margin.t - margin.b);
    const within = [across, down].every((share) => share >= 0 && share <= 1);
    return within ? [x0 + across * (x1 - x0), y1 - down * (y1 - y0)] : null;
  }

  mark(moved) {
    const at = this.target ? this.pixels(moved, this.target) : null;
    this.aim.style.display = at ? "" : "none";
    if (!at) return;
    this.aim.setAttribute("cx", at.left);
    this.aim.setAttribute("cy", at.top);
    [this.aim.dataset.x, this.aim.dataset.y] = this.target;
  }

  leave() {
    this.observer.disconnect();
    this.place?.removeEventListener("click", this.camera, true);
    this.place?.removeEventListener("pointerdown", this.down, true);
    window.removeEventListener("pointerup", this.lifted, true);
    window.removeEventListener("hx-sliders", this.sliders);
    clearTimeout(this.aiming);
    this.svg.remove();
    this.tip.remove();
    this.status.remove();
    this.place = this.chart = this.inside = null;
  }

  // A chart that has been made anew gets the point at once.
  follow() {
    const chart = document.querySelector(CHART);
    const inside = chart?.querySelector(".svg-container");
    if (!inside?.querySelector(".scatterlayer") || typeof chart.on !== "function") return;
    if (inside === this.inside && this.svg.parentNode === inside) return;
    if (inside !== this.inside) {
      chart.on("plotly_relayouting", (moved) => inside === this.inside && this.draw(moved));
      chart.on("plotly_afterplot", () => inside === this.inside && this.draw());
    }
    this.chart = chart;
    this.inside = inside;
    inside.append(this.svg, this.tip, this.status);
    this.draw();
  }

  // The chart's own camera draws what the chart holds: it gets the point for as long as the picture is taken.
  lend(event) {
    const held = this.chart?.data?.find((t) => t.meta === "live");
    if (!this.trace || !held || !this.chart.contains(event.target) || !event.target.closest?.(".modebar-btn")) return;
    const before = { ...held };
    Object.assign(held, this.trace);
    setTimeout(() => {
      for (const key of Object.keys(held)) delete held[key];
      Object.assign(held, before);
    });
  }

  draw(moved = {}) {
    if (!this.chart?.layout) return; // plotly empties a chart before it lets go of it
    if (this.trace) Object.assign(this.dot.dataset, { x: this.trace.x[0], y: this.trace.y[0] });
    this.preview(moved);
    this.mark(moved);
    const at = this.trace ? this.pixels(moved, [this.trace.x[0], this.trace.y[0]]) : null;
    for (const part of [this.dot, this.across, this.up]) part.style.display = at ? "" : "none";
    if (!at) return void (this.tip.hidden = true);
    const { marker, error_x: across, error_y: up, text, x, y } = this.trace;
    const { left, top, toX, toY, inX, inY } = at;
    const line = (element, error, x1, y1, x2, y2) => {
      element.style.display = error?.array ? "" : "none";
      if (!error?.array) return;
      for (const [key, value] of Object.entries({ x1, y1, x2, y2 })) element.setAttribute(key, value);
      element.setAttribute("stroke", error.color);
      element.setAttribute("stroke-width", error.thickness);
    };
    const ends = (value, error) => [value - (error?.arrayminus?.[0] ?? 0), value + (error?.array?.[0] ?? 0)];
    const [west, east] = ends(x[0], across).map(toX).map(inX);
    const [south, north] = ends(y[0], up).map(toY).map(inY);
    line(this.across, across, west, top, east, top);
    line(this.up, up, left, south, left, north);
    const looks = { cx: left, cy: top, r: marker.size / 2, fill: marker.color, stroke: marker.line.color };
    for (const [key, value] of Object.entries({ ...looks, "stroke-width": marker.line.width })) this.dot.setAttribute(key, value);
    if (this.said !== text[0]) this.say(text[0]);
    Object.assign(this.tip.style, { color: marker.line.color, background: marker.color });
    const { width, height } = at;
    const right = left > width / 2;
    this.tip.style.left = `${left + (right ? -14 : 14)}px`;
    this.tip.style.top = `${top}px`;
    this.tip.style.transform = `translate(${right ? "-100%" : "0"}, ${top > height / 2 ? "-100%" : "0"})`;
  }

  // The words are escaped where they are made: bold and line breaks are all the markup that they hold.
  say(words) {
    this.said = words;
    this.tip.innerHTML = words;
    this.dot.setAttribute("aria-label", words.replace(/<br>/g, ", ").replace(/<[^>]*>/g, ""));
  }

  // The axes' ranges, and the size of the chart with everything around it.
  frame(moved) {
    const { chart } = this;
    const range = (axis) => [0, 1].map((end) => moved[`${axis}.range[${end}]`] ?? chart.layout[axis]?.range?.[end]);
    const [x0, x1] = range("xaxis");
    const [y0, y1] = range("yaxis");
    // Streamlit writes the size into the layout. Asking the page for it would make the browser lay everything out at once.
    const whole = { width: chart.layout.width ?? chart.clientWidth, height: chart.layout.height ?? chart.clientHeight };
    return { x0, x1, y0, y1, whole };
  }

  // Where values of the axes are on the screen; null where the reader's zoom leaves them out.
  pixels(moved, [x, y]) {
    if (!this.chart?.layout) return null;
    const { margin } = this;
    const { x0, x1, y0, y1, whole } = this.frame(moved);
    const width = whole.width - margin.l - margin.r;
    const height = whole.height - margin.t - margin.b;
    const toX = (value) => margin.l + (width * (value - x0)) / (x1 - x0);
    const toY = (value) => margin.t + (height * (y1 - value)) / (y1 - y0);
    const within = (low, size) => (value) => Math.min(Math.max(value, low), low + size);
    const [inX, inY] = [within(margin.l, width), within(margin.t, height)]; // the cross ends where the chart does
    const left = toX(x);
    const top = toY(y);
    const near = (value, low, size) => value >= low - 1 && value <= low + size + 1; // false for NaN
    return near(left, margin.l, width) && near(top, margin.t, height) ? { left, top, toX, toY, inX, inY, ...whole } : null;
  }
}

const points = new WeakMap();

export default function ({ parentElement, data, setTriggerValue }) {
  if (!points.has(parentElement)) points.set(parentElement, new Point());
  const point = points.get(parentElement);
  point.take(data, setTriggerValue);
  return () => point.leave();
}

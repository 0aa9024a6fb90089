// The live point, drawn over the chart. Streamlit makes a chart anew when anything in it changes, which takes longer than
// everything else a slider does; so the fronts stay in the chart, and the point that follows the sliders is drawn here, from
// the same plotly trace that the downloads hold. Only what is public is used: the chart's layout, its events, its margins.

const SVG = "http://www.w3.org/2000/svg";
const CHART = ".st-key-chart .js-plotly-plot";

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
    this.svg.append(this.across, this.up, this.dot);
    this.tip = Object.assign(document.createElement("div"), { className: "hx-tip", hidden: true });
    for (const on of ["pointerenter", "focus"]) this.dot.addEventListener(on, () => (this.tip.hidden = false));
    for (const off of ["pointerleave", "blur"]) this.dot.addEventListener(off, () => (this.tip.hidden = true));
    this.observer = new MutationObserver(() => this.follow());
    this.camera = (event) => this.lend(event);
  }

  take({ trace, margin }) {
    this.trace = trace;
    this.margin = margin;
    // The view's own box is replaced as a whole when one leaves it and comes back, so what holds all views is watched.
    const place = document.querySelector('[data-testid="stMain"]') ?? document.body;
    if (place !== this.place) {
      this.leave();
      this.place = place;
      this.observer.observe(place, { childList: true, subtree: true });
      place.addEventListener("click", this.camera, true);
    }
    this.follow();
    this.draw();
  }

  leave() {
    this.observer.disconnect();
    this.place?.removeEventListener("click", this.camera, true);
    this.svg.remove();
    this.tip.remove();
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
    inside.append(this.svg, this.tip);
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
    const at = this.trace ? this.pixels(moved) : null;
    this.svg.style.display = at ? "" : "none";
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

  // Where the point is on the screen; null where the reader's zoom leaves it out.
  pixels(moved) {
    const { chart, margin, trace } = this;
    const range = (axis) => [0, 1].map((end) => moved[`${axis}.range[${end}]`] ?? chart.layout[axis]?.range?.[end]);
    const [x0, x1] = range("xaxis");
    const [y0, y1] = range("yaxis");
    // Streamlit writes the size into the layout. Asking the page for it would make the browser lay everything out at once.
    const whole = { width: chart.layout.width ?? chart.clientWidth, height: chart.layout.height ?? chart.clientHeight };
    const width = whole.width - margin.l - margin.r;
    const height = whole.height - margin.t - margin.b;
    const toX = (value) => margin.l + (width * (value - x0)) / (x1 - x0);
    const toY = (value) => margin.t + (height * (y1 - value)) / (y1 - y0);
    const within = (low, size) => (value) => Math.min(Math.max(value, low), low + size);
    const [inX, inY] = [within(margin.l, width), within(margin.t, height)]; // the cross ends where the chart does
    const left = toX(trace.x[0]);
    const top = toY(trace.y[0]);
    const near = (value, low, size) => value >= low - 1 && value <= low + size + 1; // false for NaN
    return near(left, margin.l, width) && near(top, margin.t, height) ? { left, top, toX, toY, inX, inY, ...whole } : null;
  }
}

const points = new WeakMap();

export default function ({ parentElement, data }) {
  if (!points.has(parentElement)) points.set(parentElement, new Point());
  const point = points.get(parentElement);
  point.take(data);
  return () => point.leave();
}

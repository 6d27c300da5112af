// Small pictures of the last hour. What they show stands in words beside them.

import { s } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 28;

/** Bars of `whole`, the lower `part` of each in the bad colour. */
export function sparkBars(whole, part) {
  const { step, y } = scale(whole);
  const bars = (values, kind, base) =>
    s("path", {
      class: `bar ${kind}`,
      d: values.map((value, index) => (value ? `M${index * step + 1} ${y(base(index))}V${y(base(index) + value)}h${step - 2}V${y(base(index))}Z` : "")).join(""),
    });
  return picture(bars(part, "hue-bad", () => 0), bars(whole.map((value, index) => value - part[index]), "hue-0", (index) => part[index]));
}

/** A line of values; where there is none (null) it has a gap. */
export function sparkLine(values) {
  const { step, y } = scale(values);
  const path = values.map((value, index) => {
    if (value === null) return "";
    // A value alone between two gaps is a short dash.
    const begins = (values[index - 1] ?? null) === null;
    return `${begins ? `M${index * step + 2} ${y(value)}` : ""}L${(index + 1) * step - 2} ${y(value)}`;
  });
  return picture(s("path", { class: "line hue-2", d: path.join("") }));
}

function scale(values) {
  const most = Math.max(...values, 1);
  return { step: WIDTH / values.length, y: (value) => (HEIGHT - 1 - ((HEIGHT - 3) * value) / most).toFixed(1) };
}

function picture(...paths) {
  const base = s("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 });
  return s("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, base, paths);
}

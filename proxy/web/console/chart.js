// Bars and lines as SVG: zero-based, exact values in one box on hover or by arrow keys, a table behind each.

import { h, replace, s } from "./dom.js";
import { t } from "./i18n.js";
import { short } from "./format.js";

const HEIGHT = 220;
const MARGIN = { top: 12, right: 8, bottom: 24, left: 52 };
const HUES = 6;
/** A name has the same hue in every chart, as long as no two in one would share it. */
const hues = new Map();

/**
 * A chart of `series` [{name, values}] over `labels`. `kind`: bars (stacked) or lines. `format` writes a
 * value exactly, `axis` shortly. Above six series the smallest are drawn as one; the table has them all. `range` says
 * from when to when it is.
 */
export function chart({ title, labels, series, kind = "bars", format, axis = short, height = HEIGHT, range }) {
  const drawn = coloured(kind === "bars" ? atMost(series) : series);
  const box = h("div", { class: "chart-tip", "aria-live": "polite", hidden: true });
  const canvas = h("div", { class: "chart-canvas" }, box);
  const root = h("figure", { class: "chart" }, canvas, legend(drawn), tableBehind(title, labels, series, format));
  if (!labels.length || series.every((item) => item.values.every((value) => !value))) {
    return h("figure", { class: "chart" }, h("p", { class: "empty quiet" }, t("Nothing was recorded from {from} to {to}.", { from: range[0], to: range[1] })));
  }
  let width = 0;
  const draw = () => {
    const now = Math.floor(canvas.clientWidth);
    if (!now || now === width) return;
    width = now;
    const picture = draws[kind](drawn, labels, width, height, axis, title);
    replace(canvas, picture.svg, box);
    follow(picture, canvas, box, (index) => tip(labels[index], drawn, index, format));
  };
  new ResizeObserver(draw).observe(canvas);
  return root;
}

function atMost(series) {
  const total = (item) => item.values.reduce((sum, value) => sum + value, 0);
  const sorted = [...series].sort((one, other) => total(other) - total(one));
  const marked = sorted.filter((item) => item.other);
  const named = sorted.filter((item) => !item.other);
  if (named.length + marked.length <= HUES) return [...named, ...marked];
  const kept = named.slice(0, HUES - 1);
  const rest = [...named.slice(HUES - 1), ...marked];
  const values = rest[0].values.map((_, index) => rest.reduce((sum, item) => sum + item.values[index], 0));
  return [...kept, { name: t("other"), values, other: true }];
}

function coloured(series) {
  const named = series.filter((item) => !item.other);
  const free = new Set(Array(HUES).keys());
  const given = new Map();
  const give = (item, hue) => free.delete(hue) && given.set(item, hue);
  for (const item of named) give(item, hues.get(item.name));
  for (const [index, item] of named.entries()) {
    if (!given.has(item)) give(item, [...free][0]) || given.set(item, index % HUES);
    hues.set(item.name, given.get(item));
  }
  return series.map((item) => ({ ...item, hue: given.get(item) ?? "other" }));
}

function legend(series) {
  if (series.length < 2) return null;
  return h(
    "ul",
    { class: "legend" },
    series.map((item) => h("li", {}, h("i", { class: `swatch hue-${item.hue}` }), item.name)),
  );
}

function scale(top, height) {
  const step = niceStep(top / 4);
  const ticks = [];
  for (let value = 0; value < top + step * 0.001; value += step) ticks.push(value);
  if (ticks.at(-1) < top) ticks.push(ticks.length * step);
  const highest = ticks.at(-1) || 1;
  const inner = height - MARGIN.top - MARGIN.bottom;
  return { ticks, y: (value) => MARGIN.top + inner * (1 - value / highest) };
}

function niceStep(rough) {
  if (rough <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = rough / power;
  return power * (unit <= 1 ? 1 : unit <= 2 ? 2 : unit <= 5 ? 5 : 10);
}

function frame(labels, width, height, { ticks, y }, axis, title, x) {
  const every = Math.ceil(labels.length / Math.max(2, Math.floor((width - MARGIN.left) / 64)));
  return s(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", tabindex: "0", "aria-label": title },
    ticks.map((value) => [
      s("line", { class: value ? "grid" : "base", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
      s("text", { class: "tick", x: MARGIN.left - 8, y: y(value) + 4, "text-anchor": "end" }, axis(value)),
    ]),
    labels.map((label, index) =>
      index % every === 0
        ? s("text", { class: "tick", x: x(index), y: height - 6, "text-anchor": "middle" }, label)
        : null,
    ),
  );
}

const draws = {
  bars(series, labels, width, height, axis, title) {
    const band = (width - MARGIN.left - MARGIN.right) / labels.length;
    const x = (index) => MARGIN.left + band * (index + 0.5);
    const sums = labels.map((_, index) => series.reduce((sum, item) => sum + item.values[index], 0));
    const at = scale(Math.max(...sums), height);
    const svg = frame(labels, width, height, at, axis, title, x);
    const bar = Math.max(1, Math.min(40, band * 0.7));
    const bases = labels.map(() => 0);
    series.forEach((item) => {
      // One path for each series: a year of days costs as little as a week.
      let path = "";
      item.values.forEach((value, index) => {
        if (!value) return;
        const low = at.y(bases[index]);
        bases[index] += value;
        const high = at.y(bases[index]);
        path += `M${(x(index) - bar / 2).toFixed(1)} ${low.toFixed(1)}V${high.toFixed(1)}h${bar.toFixed(1)}V${low.toFixed(1)}Z`;
      });
      svg.append(s("path", { class: `bar hue-${item.hue}`, d: path }));
    });
    return { svg, x, count: labels.length, height };
  },

  lines(series, labels, width, height, axis, title) {
    const band = (width - MARGIN.left - MARGIN.right) / labels.length;
    const x = (index) => MARGIN.left + band * (index + 0.5);
    const at = scale(Math.max(...series.flatMap((item) => item.values.map((value) => value ?? 0))), height);
    const svg = frame(labels, width, height, at, axis, title, x);
    series.forEach((item, place) => {
      let path = "";
      let pen = false;
      item.values.forEach((value, index) => {
        if (value === null) pen = false;
        else {
          const alone = !pen && (item.values[index + 1] ?? null) === null;
          path += `${pen ? "L" : "M"}${x(index).toFixed(1)} ${at.y(value).toFixed(1)}${alone ? "h0.1" : ""}`;
          pen = true;
        }
      });
      svg.append(s("path", { class: `line hue-${item.hue}${place % 2 ? " dashed" : ""}`, d: path }));
    });
    return { svg, x, count: labels.length, height };
  },
};

function follow({ svg, x, count, height }, canvas, box, contents) {
  const mark = s("line", { class: "mark", y1: MARGIN.top, y2: height - MARGIN.bottom, visibility: "hidden" });
  svg.append(mark);
  let at = -1;
  const point = (index) => {
    const before = box.hidden ? -1 : at;
    at = Math.min(count - 1, Math.max(0, index));
    if (at === before) return;
    mark.setAttribute("x1", x(at));
    mark.setAttribute("x2", x(at));
    mark.setAttribute("visibility", "visible");
    replace(box, contents(at));
    box.hidden = false;
    const left = x(at) + 12;
    const over = left + box.offsetWidth > canvas.clientWidth;
    box.style.left = `${Math.max(0, over ? x(at) - 12 - box.offsetWidth : left)}px`;
  };
  const leave = () => {
    box.hidden = true;
    mark.setAttribute("visibility", "hidden");
  };
  svg.addEventListener("pointermove", (event) => {
    const place = event.clientX - svg.getBoundingClientRect().left;
    point(Math.round((place - x(0)) / (count > 1 ? x(1) - x(0) : 1)));
  });
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    point(at + step);
  });
}

function tip(label, series, index, format) {
  const shown = series.filter((item) => item.values[index]);
  return [
    h("p", { class: "strong" }, label),
    (shown.length ? shown : series.slice(0, 1)).map((item) =>
      h("p", {}, h("i", { class: `swatch hue-${item.hue}` }), h("span", {}, item.name), h("b", {}, format(item.values[index] ?? 0))),
    ),
  ];
}

function tableBehind(title, labels, series, format) {
  const details = h("details", { class: "behind" }, h("summary", {}, t("Show as a table")));
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    const head = h("tr", {}, h("td", {}), series.map((item) => h("th", { scope: "col", class: "number" }, item.name)));
    const rows = labels.map((label, index) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, label),
        series.map((item) => h("td", { class: "number" }, item.values[index] === null ? "–" : format(item.values[index]))),
      ),
    );
    const table = h("table", {}, h("caption", { class: "visually-hidden" }, title), h("thead", {}, head), h("tbody", {}, rows));
    details.append(h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, table));
  });
  return details;
}

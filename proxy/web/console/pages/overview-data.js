// Reads the figures of a period, by day or by hour, and of the period before.

import { get, own, withQuery } from "../api.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";

/** `day`: its member in a day's sums, `hour`: in an hour's. */
export const FIGURES = {
  requests: { title: "Requests", day: "requests", hour: "requests", format: format.number, axis: format.short },
  tokens: { title: "Tokens", day: "total_tokens", hour: "tokens", format: format.number, axis: format.short },
  cost: { title: "Cost", day: "total_cost_value", hour: "cost", format: (value) => format.money(value), axis: (value) => format.money(value) },
  failed: { title: "Errors", day: "failed", hour: "failed", format: format.number, axis: format.short },
};
const NAMED = 5;

const sum = (items, member) => items.reduce((total, item) => total + Number(item[member]), 0);
const figures = (items, column) =>
  Object.fromEntries(Object.entries(FIGURES).map(([name, item]) => [name, sum(items, item[column])]));

/**
 * Return the readers of a period: `chart({by, figure})`, and `top(kind)` for who used most as {id, name, requests,
 * tokens, cost}, dearest first. `range` is null for the last 24 hours; `names` promises those of the keys by their ids.
 * What was answered once is not asked again.
 */
export function reader(range, names) {
  const kept = new Map();
  const ask = (path, query) => {
    const name = withQuery(path, query);
    if (!kept.has(name)) kept.set(name, get(name).catch((error) => (kept.delete(name), Promise.reject(error))));
    return kept.get(name);
  };
  return range ? ofDays(range, ask, names) : ofHours(ask, names);
}

/** The labels of hours, and the moments between which they are. */
export const hours = (data) => ({ labels: data.map((item) => format.hourLabel(item.hour)), range: [format.clock(data[0].hour), format.clock(new Date())] });

/** The last 24 hours, the running one included. */
function ofHours(ask, names) {
  const read = async (by) => {
    const stats = await ask("/admin/api/stats", { hours: 48, by: by === "none" ? "" : by });
    const now = stats.data.slice(24);
    const places = new Map(now.map((item, index) => [item.hour, index]));
    return { before: stats.data.slice(0, 24), now, places, groups: stats.groups?.filter((item) => places.has(item.hour)) };
  };
  return {
    async chart({ by, figure }) {
      const member = FIGURES[figure].hour;
      const [{ now, before, places, groups }, known] = await Promise.all([read(by), names]);
      const series = new Map();
      for (const item of groups ?? []) {
        if (!series.has(item[by])) series.set(item[by], now.map(() => 0));
        series.get(item[by])[places.get(item.hour)] += Number(item[member]);
      }
      return {
        now: figures(now, "hour"),
        before: figures(before, "hour"),
        ...hours(now),
        series: groups ? [...series].map(([id, values]) => ({ name: label(by, id, known), values })) : [{ name: t("All"), values: now.map((item) => Number(item[member])) }],
      };
    },
    async top(kind) {
      const [{ groups }, known] = await Promise.all([read(kind), names]);
      const found = new Map();
      for (const item of groups) {
        const id = item[kind];
        const row = found.get(id) ?? { id, name: label(kind, id, known), requests: 0, tokens: 0, cost: 0 };
        for (const figure of ["requests", "tokens", "cost"]) row[figure] += Number(item[figure]);
        found.set(id, row);
      }
      return [...found.values()].sort((one, other) => other.cost - one.cost || other.tokens - one.tokens);
    },
  };
}

/** Days from the daily sums; the biggest names one by one, what is left of each day as "other". */
function ofDays({ from, to }, ask, names) {
  const length = (Date.parse(to) - Date.parse(from)) / 86400e3 + 1;
  const days = Array.from({ length }, (_, index) => format.addDays(from, index));
  const read = (query, start_date = from, end_date = to) => ask(`${own()}/usage`, { start_date, end_date, ...query });
  return {
    async chart({ by, figure }) {
      const member = FIGURES[figure].day;
      const [known, report, before, grouped] = await Promise.all([
        names,
        read({ group_by: "day" }),
        read({ group_by: "day" }, format.addDays(from, -length), format.addDays(from, -1)),
        by === "none" ? { data: [] } : read({ group_by: by }),
      ]);
      const values = (data) => {
        const found = new Map(data.map((item) => [item.day, Number(item[member])]));
        return days.map((day) => found.get(day) ?? 0);
      };
      const whole = values(report.data);
      const named = grouped.data
        .filter((item) => item[by] && Number(item[member]) > 0)
        .sort((one, other) => Number(other[member]) - Number(one[member]))
        .slice(0, NAMED);
      const parts = await Promise.all(named.map((item) => read({ group_by: "day", [by]: item[by] })));
      const series = named.map((item, index) => ({ name: label(by, item[by], known), values: values(parts[index].data) }));
      const rest = whole.map((value, index) => Math.max(0, value - series.reduce((total, item) => total + item.values[index], 0)));
      // What is left of an amount may be a rounding error of this page's arithmetic.
      if (rest.some((value) => value > 1e-9)) series.push({ name: by === "none" ? t("All") : t("other"), values: rest, other: by !== "none" });
      const labels = days.map(format.dayLabel);
      return { now: figures(report.data, "day"), before: figures(before.data, "day"), labels, range: [labels[0], labels.at(-1)], series };
    },
    async top(kind) {
      const [{ data }, known] = await Promise.all([read({ group_by: kind }), names]);
      return data.map((item) => ({ id: item[kind], name: label(kind, item[kind], known), requests: item.requests, tokens: item.total_tokens, cost: item.total_cost_value }));
    },
  };
}

function label(by, name, names) {
  if (by === "key") return names.get(name) ?? name;
  return name || (session.isAdmin ? t("none reached") : "–");
}

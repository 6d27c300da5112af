// Numbers, money, times: as people of the chosen language read them.

import { session } from "./session.js";
import { t, tag } from "./i18n.js";

const SYMBOLS = { CNY: "¥", USD: "$" };

export function number(value) {
  return value === null || value === undefined ? "–" : Number(value).toLocaleString(tag()).replace("-", "−");
}

/** A count in few characters: 1.2k, 3.4M; in Chinese 1.2万. */
export function short(value) {
  if (Math.abs(value) < 10000) return number(Math.round(value * 100) / 100);
  return new Intl.NumberFormat(tag(), { notation: "compact", maximumFractionDigits: 1 }).format(value);
}

const sign = (currency) => SYMBOLS[currency] ?? `${currency} `;

/** Decimal text as an amount to read: two places, below 0.01 four significant digits. */
export function money(text, currency = session.currency) {
  if (text === null || text === undefined) return "–";
  const value = Number(text);
  const size = Math.abs(value);
  const digits =
    size === 0 || size >= 0.01
      ? { minimumFractionDigits: 2, maximumFractionDigits: size && size < 1 ? 4 : 2 }
      : { maximumSignificantDigits: 4 };
  return (value < 0 ? "−" : "") + sign(currency) + size.toLocaleString(tag(), digits);
}

/** Decimal text with every place that it has. */
export function exact(text, currency = session.currency) {
  if (text === null || text === undefined) return "–";
  const [whole, part] = text.replace("-", "").split(".");
  return `${text.startsWith("-") ? "−" : ""}${sign(currency)}${whole.replace(/\B(?=(\d{3})+$)/g, ",")}${part ? `.${part}` : ""}`;
}

/** How many places these amounts need to be told exactly, at least two. */
export function places(...texts) {
  return Math.max(2, ...texts.map((text) => text.split(".")[1].replace(/0+$/, "").length));
}

/** An amount of the gateway, which has nine places, exactly in as many as it needs, or as are given. */
export function full(text, digits = places(text)) {
  return exact(text.slice(0, text.length - 9 + digits));
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1000) return `${value < 10 ? Math.round(value * 10) / 10 : Math.round(value)} ms`;
  return `${(value / 1000).toLocaleString(tag(), { maximumFractionDigits: value < 10000 ? 2 : 1 })} s`;
}

export function dateTime(text) {
  if (!text) return "–";
  return new Intl.DateTimeFormat(tag(), { dateStyle: "medium", timeStyle: "medium" }).format(new Date(text));
}

const UNITS = [
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];

/** A moment: relative within a day, else the local date and time. */
export function moment(text, now = Date.now()) {
  if (!text) return t("never");
  const seconds = (new Date(text).getTime() - now) / 1000;
  if (Math.abs(seconds) >= 86400) {
    return new Intl.DateTimeFormat(tag(), { dateStyle: "medium", timeStyle: "short" }).format(new Date(text));
  }
  if (Math.abs(seconds) < 1) return t("just now");
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? UNITS[3];
  return new Intl.RelativeTimeFormat(tag(), { numeric: "auto" }).format(Math.trunc(seconds / size), unit);
}

/** A moment as the time of day; on another day with its date. */
export function clock(text, now = new Date()) {
  const at = new Date(text);
  const sameDay = at.toDateString() === now.toDateString();
  return new Intl.DateTimeFormat(tag(), sameDay ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" }).format(at);
}

export function dayLabel(day) {
  return new Intl.DateTimeFormat(tag(), { month: "short", day: "numeric", timeZone: "UTC" }).format(
    new Date(`${day}T00:00:00Z`),
  );
}

export function hourLabel(text) {
  return new Intl.DateTimeFormat(tag(), { hour: "2-digit", minute: "2-digit", hour12: false }).format(new Date(text));
}

/** Today in the gateway's time zone, as YYYY-MM-DD; `back` days ago. */
export function day(back = 0) {
  const at = new Date(Date.now() - back * 86400e3);
  return new Intl.DateTimeFormat("en-CA", {
    timeZone: session.timezone,
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
  }).format(at);
}

export function addDays(name, days) {
  return new Date(Date.parse(`${name}T00:00:00Z`) + days * 86400e3).toISOString().slice(0, 10);
}

export function percent(part, whole) {
  return whole ? `${(Math.round((1000 * part) / whole) / 10).toLocaleString(tag())} %` : "–";
}

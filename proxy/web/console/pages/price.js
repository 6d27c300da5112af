// Prices: input, output, and whatever else is not as they are.

import { h } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";

const TITLES = { input: "Input", output: "Output", cached_input: "Cached input", cache_write: "Cache write", reasoning: "Reasoning output", per_request: "Per request" };
const LIKE = { cached_input: "input", cache_write: "input", reasoning: "output" };
const SOURCES = { configuration: "the configuration", free: "a free provider" };

/** The names of what is charged: not of what costs the same as its like, nor of tokens that are free in a paid request. */
function charged(price) {
  const paid = Number(price.per_request) > 0;
  return Object.keys(TITLES).filter((name) =>
    name === "per_request" ? paid : price[name] && price[name] !== price[LIKE[name]] && (!paid || Number(price[name])),
  );
}

/** [title, amount] of each class of a price, per million tokens or per request. */
export const priceLines = (price) => charged(price).map((name) => [t(TITLES[name]), format.money(price[name], price.currency)]);

/** A model's price: that of its first route where routes are told. */
const priceOf = ({ pricing, routes }) =>
  routes?.[0]?.price ?? { currency: pricing.currency, input: pricing.input_per_million, output: pricing.output_per_million, cached_input: pricing.cached_input_per_million };

/** One class in its own currency, and below it in the billing currency where that is another. */
function amount(model, name) {
  const price = priceOf(model);
  const { converted } = model.pricing;
  const other = converted?.[`${name}_per_million`];
  return [h("b", {}, format.money(price[name], price.currency)), other && h("span", { class: "hint" }, `≈ ${format.money(other, converted.currency)}`)];
}

/** What a row has room for: input or output, or what a request costs. */
export function each(model, name) {
  const names = model.pricing ? charged(priceOf(model)) : [];
  if (names.includes(name)) return amount(model, name);
  return name === "input" && names.includes("per_request") ? [amount(model, "per_request"), h("span", { class: "hint" }, t("Per request"))] : "–";
}

/** What a card has room for: everything. */
export function prices(model) {
  const price = priceOf(model);
  const tier = (item) => {
    const values = { count: format.short(item.above_input_tokens), prices: priceLines(item).map((line) => line.join(" ")).join(t(", ")) };
    return h("p", { class: "hint" }, t("Above {count} input tokens: {prices}", values));
  };
  return [charged(price).map((name) => h("div", {}, h("span", { class: "hint" }, t(TITLES[name])), amount(model, name))), price.tiers?.map(tier)];
}

/** Where a price is from, and since when. */
export const source = ({ price_source: name, price_date: date }) =>
  name && h("p", { class: "hint" }, t("Price: {source}", { source: t(SOURCES[name] ?? name) }) + (date ? `, ${date}` : ""));

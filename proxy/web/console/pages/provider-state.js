// The states of providers, keys and models at providers, in words.

import * as format from "../format.js";
import { t } from "../i18n.js";
import { badge } from "../ui.js";

const STATES = {
  ready: ["good", "ready"],
  trying: ["warn", "being tried again"],
  resting: ["warn", "resting"],
  open: ["warn", "resting"],
  partly: ["warn", "partly resting"],
  disabled: ["bad", "disabled"],
  inactive: ["", "inactive: no key"],
};

/** Ready is only what has nothing that rests. */
export function overall({ state, keys, deployments }) {
  const well = [...keys, ...deployments].every((item) => item.state === "ready");
  return state === "ready" && !well ? "partly" : state;
}

/** {attempts, failed} of a provider of which the most failed in the last hour, and still do; else null. */
export function failing({ last_hour: slices }) {
  const sum = (member) => slices.reduce((total, slice) => total + slice[member], 0);
  const [attempts, failed] = [sum("attempts"), sum("failed")];
  return failed >= 3 && 2 * failed >= attempts && slices.findLast((slice) => slice.attempts).failed ? { attempts, failed } : null;
}

/** The state of a provider, or of one `model` at it: that of the provider, or its own where the provider is ready. */
export function stateOf(provider, model) {
  const item = model && provider.state === "ready" && provider.deployments.find((one) => one.model === model);
  const name = item ? item.state : model ? provider.state : overall(provider);
  const often = name === "ready" && failing(provider);
  return often ? badge("warn", t("ready, but {failed} of {attempts} failed", often), t("{what} in the last hour", { what: t("{count} failed", { count: often.failed }) })) : stateBadge(name, item?.until);
}

export function stateBadge(name, until) {
  const [kind, text] = STATES[name] ?? ["", name];
  return badge(kind, until ? t("{state}, back {time}", { state: t(text), time: format.moment(until) }) : t(text), until ? format.dateTime(until) : null);
}

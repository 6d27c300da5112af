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

/** The state of one model at a provider: that of the provider, or of the model itself where the provider is ready. */
export function stateOf(provider, model) {
  const item = provider.state === "ready" && provider.deployments.find((one) => one.model === model);
  return stateBadge((item || provider).state, item ? item.until : null);
}

export function stateBadge(name, until) {
  const [kind, text] = STATES[name] ?? ["", name];
  return badge(kind, until ? t("{state}, back {time}", { state: t(text), time: format.moment(until) }) : t(text), until ? format.dateTime(until) : null);
}

// What an operator should look at: sentences, each with what can be done, here or on its page.

import { admin, get, withQuery } from "../api.js";
import { h, rememberFocus, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { button, problem, toast } from "../ui.js";
import { poor, spent } from "./key-state.js";
import { failing } from "./provider-state.js";
import { failure } from "./reasons.js";

/** With less than this much money, and no tokens, an account is told of before it is empty. */
const LOW = 1;
const MOST_MODELS = 3;
/** So many of a kind stand in the list. */
const MOST = 5;
const EVERY_MS = 60000;

async function readiness() {
  try {
    return await get("/readyz");
  } catch (error) {
    return { error };
  }
}

/** Return a list of what should be looked at, which draws itself anew after each thing that was done, and by the minute. */
export async function attention(signal) {
  const place = h("div", {});
  const draw = async () => {
    const found = await problems();
    const refocus = rememberFocus();
    replace(place, found.length ? h("ul", { class: "list" }, found.map((item) => sentence(item, draw))) : h("p", { class: "badge good" }, t("Nothing. Everything works as configured.")));
    refocus(document.querySelector("main"));
  };
  await draw();
  const again = () => document.hidden || draw().catch((error) => replace(place, problem(error, again)));
  const timer = setInterval(() => (signal.aborted ? clearInterval(timer) : again()), EVERY_MS);
  return place;
}

async function problems() {
  const [ready, providers, models, accounts, keys] = await Promise.all([
    readiness(),
    admin.get("/providers").then((list) => list.data),
    admin.get("/models").then((list) => list.data),
    session.mode === "prepaid" ? admin.all("/accounts") : [],
    admin.all("/keys"),
  ]);
  return [
    ...ofReadiness(ready),
    ...most(providers.flatMap(ofProvider), "#/providers"),
    ...ofModels(models),
    ...most(accounts.flatMap(ofAccount), "#/accounts"),
    ...most(keys.flatMap(ofKey), "#/keys"),
  ];
}

function most(items, href) {
  const left = items.length - MOST;
  return left > 0 ? [...items.slice(0, MOST), { text: t("and {count} more", { count: left }), link: [href, t("See them")] }] : items;
}

/** `cause` is the provider's word for it, `link` [address, text], `act` [text, what to do]. */
function sentence({ kind = "warn", text, cause, link, act }, redraw) {
  const [href, where] = link ?? [];
  const [label, run] = act ?? [];
  return h(
    "li",
    { class: `notice ${kind}` },
    h("p", {}, text),
    cause && failure({ ...cause, at: null }),
    h("div", { class: "actions" }, act && button(label, () => run().finally(redraw), { class: "small", "aria-label": `${label}: ${text}` }), link && h("a", { href }, where)),
  );
}

function ofReadiness(ready) {
  if (ready.error) return [{ kind: "bad", text: ready.error.message }];
  const found = [];
  if (ready.config?.error) {
    const text = t("The configuration file has an error; the one before stays in force.");
    found.push({ kind: "bad", text, link: ["#/config", t("Read it")], act: [t("Read the file again"), () => admin.post("/reload")] });
  }
  if (ready.database !== "ok") found.push({ kind: "bad", text: t("The database cannot be written: new requests are refused.") });
  return found;
}

/** By the class of its cause: what happened to a key of a provider. */
const KEY_RESTS = {
  auth: "Key {key} of {name} was refused at {at} and rests until {time}.",
  quota: "Key {key} of {name} had nothing left at its provider at {at} and rests until {time}.",
  other: "Key {key} of {name} failed at {at} and rests until {time}.", // a failure that came after the one it rests for
};

function ofProvider(provider) {
  const { name } = provider;
  const call = (what) => admin.post(`/providers/${encodeURIComponent(name)}/${what}`);
  const link = ["#/providers", t("Look at it")];
  if (provider.state === "disabled") {
    const enable = async () => (await call("enable"), toast(t("{name} is enabled.", { name })));
    return [{ text: t("{name} is disabled.", { name }), link, act: [t("Enable"), enable] }];
  }
  if (!provider.active) return [];
  const probe = async () => {
    const wrong = (await call("probe")).probe.filter((item) => !item.ok);
    if (wrong.length) throw new Error(wrong.map((item) => `${item.key ?? name}: ${item.error.message}`).join("\n"));
    toast(t("{name} answers.", { name }));
  };
  const reset = async () => (await call("reset"), toast(t("{name} starts afresh.", { name })));
  const resting = provider.keys.filter((key) => key.state === "resting");
  const open = provider.deployments.filter((item) => item.state === "open").slice(0, MOST_MODELS);
  const often = !resting.length && !open.length && failing(provider);
  return [
    ...(often ? [{ text: t("{name} is ready, but {failed} of {attempts} attempts failed in the last hour.", { name, ...often }), cause: lastCause(provider), link, act: [t("Probe"), probe] }] : []),
    ...resting.map(({ key, until, cause }) => ({
      text: t(KEY_RESTS[cause.class] ?? KEY_RESTS.other, { key: key ?? "–", name, at: format.clock(cause.at), time: format.clock(until) }),
      cause,
      link,
      act: [t("Probe again"), probe],
    })),
    ...open.map(({ model, until, cause }) => ({
      text: t("{model} at {name} failed too often, last at {at}, and rests until {time}.", { model, name, at: format.clock(cause.at), time: format.clock(until) }),
      cause,
      link,
      act: [t("Reset"), reset],
    })),
  ];
}

const lastCause = ({ keys, deployments }) =>
  [...keys, ...deployments].flatMap(({ cause }) => cause ?? []).sort((one, other) => other.at.localeCompare(one.at))[0];

function ofModels(models) {
  const unpriced = models.filter((model) => !model.pricing && !model.id.includes("*") && model.routes.some((route) => route.active));
  if (!unpriced.length) return [];
  const names = unpriced.slice(0, MOST_MODELS).map((model) => model.id).join(", ") + (unpriced.length > MOST_MODELS ? ` (+${unpriced.length - MOST_MODELS})` : "");
  return [{ text: t("Without a price, and so counted as free: {names}", { names }), link: ["#/models?show=unpriced", t("See them")] }];
}

function ofAccount(account) {
  const { name, enabled, available } = account;
  if (!enabled || !poor(account, LOW)) return [];
  const text = Number(available) > 0 ? t("Account {name} has only {amount} left.", { name, amount: format.money(available) }) : t("Account {name} has no funds.", { name });
  return [{ text, link: [`#/accounts/${encodeURIComponent(name)}`, t("Top up")] }];
}

function ofKey(key) {
  const { id, name, quota } = key;
  if (key.revoked_at || !key.enabled || !spent(key)) return [];
  const values = { name, amount: format.money(quota.amount), time: quota.resets_at && format.clock(quota.resets_at) };
  const text = quota.resets_at ? t("Key {name} has spent its quota of {amount}, which begins again {time}.", values) : t("Key {name} has spent its quota of {amount}.", values);
  return [{ text, link: [withQuery("#/keys", { q: id }), t("Change it")] }];
}

// What an operator should look at: sentences, each with the page where something can be done.

import { admin, ApiError, get } from "../api.js";
import { h } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";

/** With less than this much money, and no tokens, an account is told of before it is empty. */
const LOW = 1;

async function readiness() {
  try {
    return await get("/readyz");
  } catch (error) {
    return { error };
  }
}

async function optional(read) {
  try {
    return await read();
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return [];
    throw error;
  }
}

export async function attention() {
  const [ready, providers, models, accounts, keys] = await Promise.all([
    readiness(),
    optional(async () => (await admin.get("/providers")).data),
    admin.get("/models").then((list) => list.data),
    session.mode === "prepaid" ? admin.all("/accounts") : [],
    admin.all("/keys"),
  ]);
  const found = [
    ...ofReadiness(ready),
    ...providers.flatMap(ofProvider),
    ...ofModels(models),
    ...accounts.flatMap(ofAccount),
    ...keys.flatMap(ofKey),
  ];
  if (!found.length) return h("p", { class: "badge good" }, t("Nothing. Everything works as configured."));
  return h(
    "ul",
    { class: "list" },
    found.map(([kind, text, href, action]) =>
      h("li", { class: `notice ${kind}` }, h("p", {}, text), href && h("a", { href }, action)),
    ),
  );
}

function ofReadiness(ready) {
  if (ready.error) return [["bad", ready.error.message]];
  const found = [];
  if (ready.config?.error) {
    found.push(["bad", t("The configuration file has an error; the one before stays in force."), "#/config", t("Read it")]);
  }
  if (ready.database !== "ok") found.push(["bad", t("The database cannot be written: new requests are refused.")]);
  return found;
}

function ofProvider(provider) {
  const name = provider.name;
  if (provider.state === "disabled") return [["warn", t("{name} is disabled.", { name }), "#/providers", t("Enable it")]];
  if (!provider.active || provider.state === "inactive") return [];
  const resting = provider.keys.filter((key) => key.state === "resting");
  const open = provider.deployments.filter((item) => item.state === "open");
  return [
    ...resting.map((key) => [
      "warn",
      t("Key {key} of {name} rests until {time}: {cause}", { key: key.key ?? "–", name, time: format.moment(key.until), cause: key.cause?.message ?? "" }),
      "#/providers",
      t("Look at it"),
    ]),
    ...open.slice(0, 3).map((item) => ["warn", t("{model} at {name} failed too often and rests.", { model: item.model, name }), "#/providers", t("Look at it")]),
  ];
}

function ofModels(models) {
  const unpriced = models.filter((model) => !model.pricing && !model.id.includes("*") && model.routes.some((route) => route.active));
  if (!unpriced.length) return [];
  const names = unpriced.slice(0, 3).map((model) => model.id).join(", ") + (unpriced.length > 3 ? ` (+${unpriced.length - 3})` : "");
  return [["warn", t("Without a price, and so counted as free: {names}", { names }), "#/models?show=unpriced", t("See them")]];
}

function ofAccount(account) {
  const tokens = account.funds.grants.some((grant) => grant.tokens_left > 0);
  const href = `#/accounts/${encodeURIComponent(account.name)}`;
  if (!account.enabled || tokens || Number(account.available) >= LOW) return [];
  const text = Number(account.available) > 0 ? t("Account {name} has only {amount} left.", { name: account.name, amount: format.money(account.available) }) : t("Account {name} has no funds.", { name: account.name });
  return [["warn", text, href, t("Top up")]];
}

function ofKey(key) {
  if (key.revoked_at || !key.enabled || !key.quota) return [];
  if (Number(key.quota.spent) < Number(key.quota.amount)) return [];
  return [["warn", t("Key {name} has spent its quota.", { name: key.name }), "#/keys", t("Change it")]];
}

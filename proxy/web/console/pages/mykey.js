// An API key's own view: what it may do, and what remains.

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { definition, show, time, track } from "../ui.js";
import { LIMITS, PERIODS } from "./key-form.js";
import { poor, spent } from "./key-state.js";

export default async function mykey({ element }) {
  const body = h("div", { class: "list" });
  replace(element, body);
  const load = () => Promise.all([get("/v1/key"), get("/v1/usage")]);
  await show(body, load, ([key, used]) => [
    heading(key.name, t("Key {key}, account {account}", { key: `${key.prefix}…${key.last4}`, account: key.account })),
    poor(key) && h("p", { class: "notice bad" }, t("The account has no funds: requests may be refused until it is topped up.")),
    spent(key) && h("p", { class: "notice bad" }, t("The quota of this key is spent: requests are refused.")),
    cards(key, used),
  ]);
}

function cards(key, used) {
  const card = (title, ...children) => h("section", { class: "card" }, h("h2", {}, title), children);
  const { requests, tokens } = key.remaining;
  const limited = LIMITS.filter(([name]) => key.limits[name] !== null);
  return h(
    "div",
    { class: "columns halves" },
    card(
      t("What remains"),
      definition([
        [t("Requests"), requests === null ? t("no limit") : h("b", {}, format.number(requests))],
        [t("Tokens"), tokens === null ? t("no limit") : h("b", {}, format.number(tokens))],
        [t("Quota"), key.quota ? quota(key.quota) : t("no quota")],
        [t("Expires"), key.expires_at ? time(key.expires_at) : t("does not expire")],
      ]),
    ),
    card(
      t("Limits that hold"),
      limited.length ? definition(limited.map(([name, , title]) => [t(title), format.number(key.limits[name])])) : h("p", { class: "quiet" }, t("No limits.")),
      definition([
        [t("Plan"), key.plan ?? t("none")],
        [t("Allowed models"), key.models ? key.models.join(", ") || t("none") : t("all")],
        [t("Providers"), key.providers ? key.providers.join(", ") || t("none") : t("all")],
      ]),
    ),
    card(
      t("Account"),
      definition([
        [t("Cost this month"), h("b", {}, format.money(used.total_cost_value))],
        ...(session.mode === "prepaid" ? funds(key) : []),
      ]),
    ),
    card(t("Next"), h("p", {}, h("a", { href: "#/chat" }, t("Try a model in the test chat"))), h("p", {}, h("a", { href: "#/setup" }, t("Set up a tool"))), h("p", {}, h("a", { href: "#/overview" }, t("See what was used")))),
  );
}

function funds({ funds: { grants, subscription, wallet }, available }) {
  return [
    ...grants.map((grant) => [t("Token grant"), `${format.number(grant.tokens_left)} / ${format.number(grant.tokens)} ${t("tokens")} · ${grant.models?.join(", ") ?? t("all models")}`]),
    subscription && [t("Subscription {plan}", { plan: subscription.plan }), [`${format.money(subscription.credit_left)} / ${format.money(subscription.credit)} · `, time(subscription.expires_at)]],
    [t("Wallet"), format.money(wallet)],
    [t("Available money"), h("b", {}, format.money(available))],
  ];
}

function quota(state) {
  const share = Number(state.amount) ? Number(state.spent) / Number(state.amount) : 1;
  return [
    `${format.money(state.spent)} / ${format.money(state.amount)} ${t(PERIODS[state.period])}`,
    track(share, share > 0.9),
    state.resets_at && h("p", { class: "hint" }, [t("begins again"), " ", time(state.resets_at)]),
  ];
}

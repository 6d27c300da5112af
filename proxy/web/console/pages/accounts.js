// Accounts: who pays. One of them has a page of its own.

import { admin } from "../api.js";
import { h, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { badge, drawer, empty, field, form, input, select, show, table, toast } from "../ui.js";
import { accountPage } from "./account.js";

export const planOptions = () => [["", t("none")], ...Object.keys(session.plans).map((name) => [name, name])];

export default async function accounts({ element, rest }) {
  if (rest[0]) return accountPage(element, rest[0]);
  const list = h("section", { class: "card" });
  const load = () => Promise.all([admin.all("/accounts"), admin.get("/usage", { group_by: "account" })]);
  const reload = () => show(list, load, render);
  const create = h("button", { type: "button", class: "primary", onclick: () => openForm(reload) }, t("Create an account"));
  const sentence = session.mode === "prepaid" ? t("Accounts pay for what their keys use.") : t("Costs are tracked; no account is ever refused for money.");
  replace(element, heading(t("Accounts"), sentence, create), list);
  return reload();
}

function render([found, { data }]) {
  if (!found.length) return empty(t("No accounts yet"), t("Create one for each person or team that is to be billed apart."));
  const costs = new Map(data.map((item) => [item.account, item.total_cost_value]));
  const funds = [
    { title: t("Token grants"), number: true, cell: (item) => format.short(item.funds.grants.reduce((sum, grant) => sum + grant.tokens_left, 0)) },
    { title: t("Subscription"), number: true, cell: (item) => (item.funds.subscription ? format.money(item.funds.subscription.credit_left) : "–") },
    { title: t("Wallet"), number: true, cell: (item) => format.money(item.funds.wallet) },
    { title: t("Available"), number: true, cell: (item) => h("b", {}, format.money(item.available)) },
  ];
  return table(
    t("Accounts"),
    [
      { title: t("Name"), class: "name full", cell: (item) => h("a", { href: href(item) }, item.name) },
      { title: t("State"), cell: accountState },
      { title: t("Plan"), cell: (item) => item.plan ?? h("span", { class: "quiet" }, t("none")) },
      { title: t("Cost this month"), number: true, cell: (item) => format.money(costs.get(item.name) ?? "0") },
      ...(session.mode === "prepaid" ? funds : []),
    ],
    found,
    { onopen: (item) => (location.hash = href(item)) },
  );
}

const href = (account) => `#/accounts/${encodeURIComponent(account.name)}`;

export function accountState(account) {
  return account.enabled ? badge("good", t("enabled")) : badge("warn", t("disabled"));
}

function openForm(reload) {
  drawer(t("Create an account"), (close) =>
    form(
      [
        field(t("Name"), input("name", { required: true, maxlength: 100 }), t("Stands in reports and cannot be changed")),
        field(t("Plan"), select("plan", [["-", t("as configured for new accounts")], ...planOptions()], "-"), t("Plans are defined in the configuration file")),
      ],
      t("Create an account"),
      async (data) => {
        const plan = data.get("plan");
        const body = { name: data.get("name").trim() };
        if (plan !== "-") body.plan = plan || null;
        const made = await admin.post("/accounts", body);
        close();
        toast(t("Account {name} is made.", { name: made.name }));
        reload();
      },
    ),
  );
}

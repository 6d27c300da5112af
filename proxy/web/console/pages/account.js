// One account: its funds in the order in which they are used, what changes them, its ledger.

import { admin, send } from "../api.js";
import { h, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { button, confirm, definition, drawer, empty, field, form, input, paged, select, show, table, time, toast, track } from "../ui.js";
import { accountState, planOptions } from "./accounts.js";

const PAGE = 50;
const KINDS = {
  topup: "Top-up",
  grant: "Tokens given",
  subscribe: "Subscription",
  charge: "Charge",
  refund: "Refund",
  adjust: "Correction",
  expire: "Expired",
};

export async function accountPage(element, name) {
  const path = `/accounts/${encodeURIComponent(name)}`;
  const funds = h("section", { class: "card" });
  const about = h("section", { class: "card" });
  const ledger = h("section", { class: "card" });
  const money = (title, open) => h("button", { type: "button", onclick: () => open(name, reload) }, title);
  const top = h("button", { type: "button", class: "primary", onclick: () => topUp(name, reload) }, t("Top up"));
  replace(
    element,
    heading(name, null, h("a", { href: "#/accounts" }, t("All accounts"))),
    h("div", { class: "actions" }, top, money(t("Grant tokens"), grant), money(t("Subscribe"), subscribe), money(t("Correct a balance"), adjust)),
    h("div", { class: "columns" }, funds, about),
    ledger,
  );
  let account;
  async function reload() {
    await Promise.all([
      show(funds, async () => (account = await admin.get(path)), (found) => [fundsCard(found), replace(about, aboutCard(found, path, reload)) && null]),
      show(ledger, () => entries(path), (page) => statement(page, name, path)),
    ]);
  }
  await reload();
}

function fundsCard(account) {
  const { grants, subscription, wallet } = account.funds;
  const bar = (part, whole) => track(part / whole, part / whole < 0.1);
  const line = (title, value, share, note) =>
    h("li", { class: "list" }, h("div", { class: "spread" }, h("span", {}, title), h("b", {}, value)), share, note && h("p", { class: "hint" }, note));
  const expiry = (text) => (text ? t("until {time}", { time: format.clock(text) }) : t("for ever"));
  return [
    h("h2", {}, t("Funds, in the order in which they are used")),
    h(
      "ol",
      { class: "steps" },
      grants.map((item) =>
        line(
          t("Token grant"),
          `${format.number(item.tokens_left)} / ${format.number(item.tokens)} ${t("tokens")}`,
          bar(item.tokens_left, item.tokens),
          `${item.models ? item.models.join(", ") : t("all models")} · ${expiry(item.expires_at)}`,
        ),
      ),
      !grants.length && line(t("Token grants"), t("none")),
      subscription
        ? line(t("Subscription {plan}", { plan: subscription.plan }), `${format.money(subscription.credit_left)} / ${format.money(subscription.credit)}`, bar(Number(subscription.credit_left), Number(subscription.credit)), expiry(subscription.expires_at))
        : line(t("Subscription"), t("none")),
      line(t("Wallet"), format.money(wallet), null, Number(wallet) < 0 ? t("The account owes this.") : null),
    ),
    definition([
      [t("Held by running requests"), format.money(account.held)],
      [t("Available money"), h("b", {}, format.money(account.available))],
    ]),
  ];
}

function aboutCard(account, path, reload) {
  const plan = select("plan", planOptions(), account.own_plan ?? "");
  const { name } = account;
  const change = (body, text) => admin.patch(path, body).then(() => (toast(text), reload()));
  const disable = () => change({ enabled: false }, t("{name} is disabled.", { name }));
  const ask = () => confirm(t("Disable {name}?", { name }), t("All its keys are refused and what runs on them ends within a second, until it is enabled again."), t("Disable"), disable);
  const toggle = account.enabled
    ? button(t("Disable"), ask, { class: "danger" })
    : button(t("Enable"), () => change({ enabled: true }, t("{name} is enabled.", { name })));
  return [
    h("h2", {}, t("Account")),
    definition([
      [t("State"), accountState(account)],
      [t("Plan in force"), account.plan ?? t("none")],
      [t("Made"), time(account.created_at)],
    ]),
    form([field(t("Own plan"), plan, t("A running subscription's plan goes before it"))], t("Save the plan"), async () => change({ plan: plan.value || null }, t("The plan is saved."))),
    h("div", { class: "actions" }, toggle, h("a", { href: `#/requests?account=${encodeURIComponent(name)}` }, t("Its requests"))),
  ];
}

/** A drawer for a call that moves money: sent again after an error, it is still done once. */
function moneyDrawer(title, fields, label, say, call, account, body, reload) {
  const once = `console-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
  drawer(title, (close) => {
    const words = h("p", { class: "notice", "aria-live": "polite" });
    let sent;
    const element = form([fields, words], label, async (data) => {
      const given = body(data);
      // The same body with the same key is never done twice; another body is another call.
      const text = JSON.stringify(given);
      if (sent && sent.text !== text) sent = { text, once: `${once}-${performance.now()}` };
      sent ??= { text, once };
      await admin.money(account, call, given, sent.once);
      close();
      toast(t("Done: {what}", { what: say(data) }));
      reload();
    });
    const update = () => (words.textContent = say(new FormData(element)));
    element.addEventListener("input", update);
    update();
    return element;
  });
}

const amountInput = (attributes) => input("amount", { required: true, inputmode: "decimal", ...attributes });
const note = (required) => field(t("Note"), input("note", { maxlength: 500, required }), t("Stands in the ledger"));
const noted = (data) => (data.get("note").trim() ? { note: data.get("note").trim() } : {});
const sum = (data) => (Number.isFinite(Number(data.get("amount"))) ? format.money(data.get("amount").trim() || "0") : "–");

function topUp(name, reload) {
  const fields = [
    field(t("Amount, {currency}", { currency: session.currency }), amountInput({ pattern: "[0-9]+([.][0-9]{1,9})?" })),
    note(false),
  ];
  const say = (data) => t("{amount} is added to the wallet of {name}.", { amount: sum(data), name });
  moneyDrawer(t("Top up {name}", { name }), fields, t("Top up"), say, "topup", name, (data) => ({ amount: data.get("amount").trim(), ...noted(data) }), reload);
}

function adjust(name, reload) {
  const fields = [
    field(t("Fund"), select("fund", [["wallet", t("Wallet")], ["subscription", t("Subscription")]], "wallet")),
    field(t("Amount, {currency}", { currency: session.currency }), amountInput({ pattern: "-?[0-9]+([.][0-9]{1,9})?" }), t("With a minus: taken away")),
    note(true),
  ];
  const say = (data) => t("{fund} of {name} changes by {amount}.", { fund: data.get("fund") === "wallet" ? t("Wallet") : t("Subscription"), name, amount: sum(data) });
  moneyDrawer(t("Correct a balance of {name}", { name }), fields, t("Correct it"), say, "adjust", name, (data) => ({ amount: data.get("amount").trim(), fund: data.get("fund"), note: data.get("note").trim() }), reload);
}

function grant(name, reload) {
  const fields = [
    field(t("Tokens"), input("tokens", { type: "number", min: 1, step: 1, required: true })),
    field(t("Models"), input("models"), t("Separated by commas, * stands for anything. Empty: all")),
    field(t("Expires"), input("expires", { type: "datetime-local" }), t("Your local time. Empty: never")),
    note(false),
  ];
  const say = (data) => t("{name} gets {count} tokens for {models}.", { name, count: format.number(data.get("tokens") || 0), models: data.get("models").trim() || t("all models") });
  moneyDrawer(
    t("Grant tokens to {name}", { name }),
    fields,
    t("Grant tokens"),
    say,
    "grant-tokens",
    name,
    (data) => ({
      tokens: Number(data.get("tokens")),
      ...(data.get("models").trim() && { models: data.get("models").split(",").map((item) => item.trim()).filter(Boolean) }),
      ...(data.get("expires") && { expires_at: new Date(data.get("expires")).toISOString() }),
      ...noted(data),
    }),
    reload,
  );
}

function subscribe(name, reload) {
  const plans = Object.entries(session.plans).filter(([, plan]) => plan.subscription);
  if (!plans.length) {
    drawer(t("Subscribe {name}", { name }), () => empty(t("No plan can be subscribed to"), t("Give a plan in the configuration file a subscription with price, credit and days.")));
    return;
  }
  const offer = (plan) => t("{price} for {days} days, credit {credit}", { price: format.money(plan.subscription.price), days: plan.subscription.days, credit: format.money(plan.subscription.credit) });
  const choice = select("plan", plans.map(([key, plan]) => [key, `${key}: ${offer(plan)}`]), plans[0][0]);
  const say = (data) => t("{price} is taken from the wallet of {name}; {plan} begins now.", { price: format.money(session.plans[data.get("plan")].subscription.price), name, plan: data.get("plan") });
  moneyDrawer(t("Subscribe {name}", { name }), [field(t("Plan"), choice)], t("Subscribe"), say, "subscribe", name, (data) => ({ plan: data.get("plan") }), reload);
}

const entries = (path, cursor) => admin.get(`${path}/ledger`, { limit: PAGE, cursor });

function statement(page, name, path) {
  const month = input("month", { type: "month", value: format.day().slice(0, 7) });
  const head = h(
    "header",
    {},
    h("h2", {}, t("Ledger")),
    h("div", { class: "filters" }, field(t("Statement of"), month), button(t("Download CSV"), () => download(name, month.value))),
  );
  if (!page.data.length) return [head, empty(t("Nothing has changed its funds yet"), t("Top it up, or grant tokens."))];
  return [head, paged(page, ledgerTable, (cursor) => entries(path, cursor))];
}

function ledgerTable(items) {
  const amount = (item, value) => (item.fund.startsWith("grant:") ? `${format.number(value)} ${t("tokens")}` : format.money(value));
  return table(
    t("Ledger"),
    [
      { title: t("Time"), cell: (item) => time(item.created_at) },
      { title: t("What"), cell: (item) => t(KINDS[item.kind] ?? item.kind) },
      { title: t("Fund"), cell: (item) => t({ wallet: "Wallet", subscription: "Subscription" }[item.fund] ?? "Token grant") },
      { title: t("Amount"), number: true, cell: (item) => h("b", {}, amount(item, item.amount)) },
      { title: t("Balance after"), number: true, cell: (item) => amount(item, item.balance_after) },
      { title: t("Note"), class: "full", cell: (item) => (item.exchange ? h("a", { href: `#/requests/${item.exchange}` }, item.note ?? t("Receipt")) : (item.note ?? "")) },
    ],
    items,
  );
}

async function download(name, month) {
  const response = await send("GET", `/admin/api/accounts/${encodeURIComponent(name)}/statement?month=${month}`);
  const url = URL.createObjectURL(await response.blob());
  h("a", { href: url, download: `${name.replace(/[^\p{L}\p{N}._-]/gu, "_")}-${month}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

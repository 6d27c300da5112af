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
  const prepaid = session.mode === "prepaid";
  const funds = h("div", { class: "list" });
  const about = h("section", { class: "card" });
  const ledger = h("section", { class: "card" });
  const act = (title, open, kind) => h("button", { type: "button", class: kind, onclick: () => open(name, reload) }, title);
  const acts = h("div", { class: "actions" }, act(t("Top up"), topUp, prepaid && "primary"), act(t("Grant tokens"), grant), act(t("Subscribe"), subscribe), act(t("Correct a balance"), adjust));
  const title = t("Funds, in the order in which they are used");
  // Where costs are only tracked, funds stand for nothing that happens.
  const card = h("section", { class: "card" }, prepaid ? [h("h2", {}, title), funds] : h("details", {}, h("summary", {}, title), h("div", { class: "list" }, funds, acts)));
  replace(
    element,
    heading(name, prepaid ? null : t("Costs are tracked; no account is ever refused for money."), h("a", { href: "#/accounts" }, t("All accounts"))),
    prepaid ? [acts, h("div", { class: "columns" }, card, about)] : about,
    ledger,
    !prepaid && card,
  );
  async function reload() {
    const account = admin.get(path);
    await Promise.all([
      show(funds, () => account, fundsList),
      show(about, () => Promise.all([account, admin.get("/usage", { account: name })]), ([found, used]) => aboutCard(found, used, path, reload)),
      show(ledger, () => entries(path), (page) => statement(page, path)),
    ]);
  }
  await reload();
}

function fundsList(account) {
  const { grants, subscription, wallet } = account.funds;
  const bar = (part, whole) => track(part / whole, part / whole < 0.1);
  const line = (title, value, share, note) =>
    h("li", { class: "list" }, h("div", { class: "spread" }, h("span", {}, title), h("b", {}, value)), share, note && h("p", { class: "hint" }, note));
  const expiry = (text) => (text ? t("until {time}", { time: format.clock(text) }) : t("for ever"));
  return [
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
      line(t("Wallet"), format.full(wallet), null, Number(wallet) < 0 ? t("The account owes this.") : null),
    ),
    definition([
      [t("Held by running requests"), format.full(account.held)],
      [t("Available money"), h("b", {}, format.full(account.available))],
    ]),
  ];
}

function aboutCard(account, used, path, reload) {
  const month = select("month", months(account.created_at).map((item) => [item, item]));
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
      [t("Cost this month"), format.money(used.total_cost_value)],
      [t("Plan in force"), account.plan ?? t("none")],
      [t("Made"), time(account.created_at)],
    ]),
    form([field(t("Own plan"), plan, t("A running subscription's plan goes before it"))], t("Save the plan"), async () => change({ plan: plan.value || null }, t("The plan is saved."))),
    h("div", { class: "filters" }, field(t("Statement of"), month), button(t("Download CSV"), () => download(name, month.value))),
    h("div", { class: "actions" }, toggle, h("a", { href: `#/requests?account=${encodeURIComponent(name)}` }, t("Its requests"))),
  ];
}

/** The months since a moment, the newest first. */
function months(since) {
  const found = [format.day().slice(0, 7)];
  while (found.at(-1) > since.slice(0, 7)) found.push(format.addDays(`${found.at(-1)}-01`, -1).slice(0, 7));
  return found;
}

/** A drawer for a call that moves money: sent again after an error, it is still done once. */
function moneyDrawer(title, fields, label, say, call, account, body, reload) {
  // The same body with the same key is never done twice; another body is another call.
  const calls = new Map();
  drawer(title, (close) => {
    const words = h("p", { class: "notice", "aria-live": "polite" });
    const element = form([fields, words], label, async (data) => {
      const given = body(data);
      const text = JSON.stringify(given);
      if (!calls.has(text)) calls.set(text, `console-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`);
      await admin.money(account, call, given, calls.get(text));
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
const sum = (data) => (/^-?\d+(\.\d{1,9})?$/.test(data.get("amount").trim()) ? format.exact(data.get("amount").trim()) : "–");

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
    field(t("Allowed models"), input("models"), t("Separated by commas, * stands for anything. Empty: all")),
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

function statement(page, path) {
  const head = h("h2", {}, t("Ledger"));
  if (!page.data.length) return [head, empty(t("Nothing has changed its funds yet"), t("Top it up, or grant tokens."))];
  return [head, paged(page, ledgerTable, (cursor) => entries(path, cursor))];
}

/** Every amount with as many places as the longest needs: they add up by eye. */
function ledgerTable(items) {
  const inTokens = (item) => item.fund.startsWith("grant:");
  const digits = format.places(...items.filter((item) => !inTokens(item)).flatMap((item) => [item.amount, item.balance_after]));
  const amount = (item, value) => (inTokens(item) ? `${format.number(value)} ${t("tokens")}` : format.full(value, digits));
  return table(
    t("Ledger"),
    [
      { title: t("Time"), cell: (item) => time(item.created_at) },
      { title: t("What"), cell: (item) => t(KINDS[item.kind] ?? item.kind) },
      { title: t("Fund"), cell: (item) => t({ wallet: "Wallet", subscription: "Subscription" }[item.fund] ?? "Token grant") },
      { title: t("Amount"), number: true, cell: (item) => h("b", {}, Number(item.amount) > 0 && "+", amount(item, item.amount)) },
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

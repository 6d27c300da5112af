// Providers: what works, what rests and why, and ending it by hand.

import { admin } from "../api.js";
import { h, rememberFocus, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { heading } from "../shell.js";
import { sparkBars, sparkLine } from "../sparkline.js";
import { button, definition, empty, poll, problem, show, table, toast } from "../ui.js";
import { failing, overall, stateBadge, stateOf } from "./provider-state.js";
import { failure } from "./reasons.js";

/** So many models of a provider are listed. */
const MOST = 30;
// So long what a button was answered stands still.
const READABLE_MS = 20000;

export default async function providers({ element, signal }) {
  const list = h("div", { class: "list" });
  const note = h("div", { "aria-live": "polite" });
  replace(element, heading(t("Providers"), t("A key or model that fails rests, and is tried again by itself. Probe asks the provider now, reset only forgets the failures.")), note, list);
  await show(list, () => admin.get("/providers"), render);
  poll(signal, note, async () => {
    const page = await admin.get("/providers");
    if (signal.aborted || list.querySelector("[data-busy]")) return;
    const folds = () => [...list.querySelectorAll("details")].map((one) => [one.firstChild.textContent, one]);
    const before = new Map(folds());
    const refocus = rememberFocus();
    replace(list, render(page));
    for (const [name, one] of folds()) one.open = before.get(name)?.open ?? one.open;
    refocus();
  });
}

function render({ data }) {
  if (!data.length) return empty(t("No providers"), t("Name one in the configuration file."));
  const rank = { resting: 0, partly: 1, disabled: 2, ready: 3, inactive: 4 };
  const place = (item) => (failing(item) ? 1 : (rank[overall(item)] ?? 0));
  const sorted = [...data].sort((one, other) => place(one) - place(other));
  const live = sorted.filter((item) => item.state !== "inactive");
  const idle = sorted.filter((item) => item.state === "inactive");
  return [
    h("div", { class: "columns" }, live.map(holder)),
    idle.length > 0 &&
      h(
        "section",
        { class: "card" },
        h("h2", {}, t("Inactive")),
        table(
          t("Inactive"),
          [
            { title: t("Name"), class: "name full", cell: (item) => item.name },
            { title: t("Preset"), cell: (item) => item.preset ?? "–" },
            { title: t("What is missing"), cell: (item) => (item.missing_variables?.length ? t("Set {names}", { names: item.missing_variables.join(", ") }) : t("A key in the configuration")) },
          ],
          idle,
        ),
      ),
  ];
}

function holder(provider) {
  const section = h("section", { class: "card", "aria-label": provider.name });
  return replace(section, card(provider, section));
}

function card(provider, section, result) {
  const note = h("div", { "aria-live": "polite" }, result);
  const act = (name, title, done, kind = "") => {
    const run = async () => {
      section.dataset.busy = "yes";
      setTimeout(() => delete section.dataset.busy, READABLE_MS);
      const now = await admin.post(`/providers/${encodeURIComponent(provider.name)}/${name}`, {});
      const refocus = rememberFocus();
      replace(section, card(now, section, now.probe && probed(now.probe)));
      refocus();
      if (done) toast(done);
    };
    return button(title, run, { class: `small ${kind}`, "aria-label": `${title}: ${provider.name}`, fail: (error) => replace(note, problem(error)) });
  };
  const disabled = provider.state === "disabled";
  return [
    h("header", {}, h("h2", {}, provider.name), stateOf(provider)),
    definition([
      [t("Address"), h("span", { class: "quiet" }, provider.base_url ?? t("built in"))],
      [t("Running"), provider.concurrency ? `${provider.running} / ${provider.concurrency}` : provider.running],
    ]),
    lastHour(provider.last_hour),
    provider.keys.length > 0 && h("div", { class: "list" }, h("h3", {}, t("Keys")), provider.keys.map(key)),
    deployments(provider),
    note,
    h(
      "div",
      { class: "actions" },
      act("probe", t("Probe")),
      act("reset", t("Reset"), t("{name} starts afresh.", { name: provider.name })),
      disabled ? act("enable", t("Enable"), t("{name} is enabled.", { name: provider.name })) : act("disable", t("Disable"), t("{name} is disabled until the gateway restarts or you enable it.", { name: provider.name }), "danger"),
    ),
  ];
}

/** What was asked of a provider in the last hour, and how soon it answered. */
function lastHour(slices) {
  const values = (member) => slices.map((slice) => slice[member]);
  const sum = (numbers) => numbers.reduce((one, other) => one + other, 0);
  const attempts = sum(values("attempts"));
  if (!attempts) return h("p", { class: "hint" }, t("Not asked in the last hour"));
  const timed = slices.filter((slice) => slice.first_byte_ms !== null);
  const answered = (slice) => slice.attempts - slice.failed;
  const weight = sum(timed.map(answered));
  const words = [t("{count} attempts", { count: format.number(attempts) }), t("{count} failed", { count: format.number(sum(values("failed"))) })];
  if (weight) words.push(t("first byte {time}", { time: format.milliseconds(sum(timed.map((slice) => slice.first_byte_ms * answered(slice))) / weight) }));
  return h(
    "div",
    { class: "last-hour" },
    h("div", { class: "hint" }, t("Attempts"), sparkBars(values("attempts"), values("failed"))),
    h("div", { class: "hint" }, t("First byte"), sparkLine(values("first_byte_ms"))),
    h("p", { class: "hint" }, t("{what} in the last hour", { what: words.join(t(", ")) })),
  );
}

function key(item) {
  return h(
    "div",
    { class: "list" },
    h("div", { class: "spread" }, h("code", {}, item.key ?? t("no key needed")), stateBadge(item.state, item.until)),
    item.cause && failure(item.cause),
    item.rate_limited?.length > 0 && h("p", { class: "hint" }, t("Too many requests at {names}", { names: item.rate_limited.map((pace) => pace.model ?? "*").join(", ") })),
  );
}

function deployments({ name, deployments: items }) {
  if (!items.length) return null;
  const sorted = [...items].sort((one, other) => (one.state === "ready") - (other.state === "ready"));
  return h(
    "details",
    { open: sorted[0].state !== "ready" },
    h("summary", {}, t("Models: {names}", { names: items.length }), h("span", { class: "visually-hidden" }, `, ${name}`)),
    h(
      "div",
      { class: "list" },
      sorted.slice(0, MOST).map((item) => [
        h("div", { class: "spread" }, h("span", {}, item.model), stateBadge(item.state, item.until)),
        item.cause && failure(item.cause),
      ]),
      items.length > MOST && h("p", { class: "hint" }, t("and {count} more", { count: items.length - MOST })),
    ),
  );
}

function probed(results) {
  return h(
    "ul",
    { class: "list" },
    results.map((item) =>
      h(
        "li",
        { class: `notice ${item.ok ? "good" : "bad"}` },
        `${item.key ?? ""} ${item.ok ? t("answers") : ""} (${format.milliseconds(item.ms)})`,
        item.error && failure(item.error),
      ),
    ),
  );
}

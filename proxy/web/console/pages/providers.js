// Providers: what works, what rests and why, and ending it by hand.

import { admin } from "../api.js";
import { h, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { heading } from "../shell.js";
import { badge, definition, empty, problem, show, table, toast } from "../ui.js";

const EVERY_MS = 5000;
const STATES = {
  ready: ["good", "ready"],
  trying: ["warn", "being tried again"],
  resting: ["warn", "resting"],
  open: ["warn", "resting"],
  partly: ["warn", "partly resting"],
  disabled: ["bad", "disabled"],
  inactive: ["", "inactive: no key"],
};

export default async function providers({ element, signal }) {
  const list = h("div", { class: "list" });
  replace(element, heading(t("Providers"), t("A key or model that fails rests, and is tried again by itself. Probe asks the provider now, reset only forgets the failures.")), list);
  await show(list, () => admin.get("/providers"), render);
  const timer = setInterval(async () => {
    if (document.hidden || list.contains(document.activeElement)) return;
    try {
      const page = await admin.get("/providers");
      if (!signal.aborted && !list.querySelector("[data-busy]")) replace(list, render(page));
    } catch {
      // The next turn tries again; the page shows what was known last.
    }
  }, EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function render({ data }) {
  if (!data.length) return empty(t("No providers"), t("Name one in the configuration file."));
  const rank = { resting: 0, partly: 1, disabled: 2, ready: 3, inactive: 4 };
  const sorted = [...data].sort((one, other) => (rank[overall(one)] ?? 0) - (rank[overall(other)] ?? 0));
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

/** Ready is only what has nothing that rests. */
function overall({ state: own, keys, deployments: models }) {
  const well = [...keys, ...models].every((item) => item.state === "ready");
  return own === "ready" && !well ? "partly" : own;
}

function holder(provider) {
  const section = h("section", { class: "card", "aria-label": provider.name });
  return replace(section, card(provider, section));
}

function card(provider, section, result) {
  const note = h("div", { "aria-live": "polite" }, result);
  const act = (name, title, done, kind = "") =>
    h(
      "button",
      {
        type: "button",
        class: `small ${kind}`,
        "aria-label": `${title}: ${provider.name}`,
        onclick: async (event) => {
          const button = event.currentTarget;
          button.disabled = true;
          section.dataset.busy = "yes";
          try {
            const now = await admin.post(`/providers/${encodeURIComponent(provider.name)}/${name}`, {});
            replace(section, card(now, section, now.probe && probed(now.probe)));
            if (done) toast(done);
          } catch (error) {
            replace(note, problem(error));
            button.disabled = false;
          } finally {
            setTimeout(() => delete section.dataset.busy, 20000);
          }
        },
      },
      title,
    );
  const disabled = provider.state === "disabled";
  return [
    h("header", {}, h("h2", {}, provider.name), state(overall(provider))),
    definition([
      [t("Address"), h("span", { class: "quiet" }, provider.base_url ?? t("built in"))],
      [t("Running"), provider.concurrency ? `${provider.running} / ${provider.concurrency}` : provider.running],
    ]),
    provider.keys.length > 0 && h("div", { class: "list" }, h("h3", {}, t("Keys")), provider.keys.map(key)),
    deployments(provider.deployments),
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

function state(name, until) {
  const [kind, text] = STATES[name] ?? ["", name];
  return badge(kind, until ? t("{state}, back {time}", { state: t(text), time: format.moment(until) }) : t(text), until ? format.dateTime(until) : null);
}

function key(item) {
  return h(
    "div",
    { class: "list" },
    h("div", { class: "spread" }, h("code", {}, item.key ?? t("no key needed")), state(item.state, item.until)),
    item.cause && h("p", { class: "hint" }, `${item.cause.code}: ${item.cause.message}`),
    item.rate_limited?.length > 0 && h("p", { class: "hint" }, t("Too many requests at {names}", { names: item.rate_limited.map((pace) => pace.model ?? "*").join(", ") })),
  );
}

function deployments(items) {
  const bad = items.filter((item) => item.state !== "ready");
  if (!items.length) return null;
  return h(
    "details",
    { open: bad.length > 0 },
    h("summary", {}, t("Models"), " ", h("span", { class: "quiet" }, items.length)),
    h(
      "div",
      { class: "list" },
      (bad.length ? bad : items.slice(0, 30)).map((item) => [
        h("div", { class: "spread" }, h("span", {}, item.model), state(item.state, item.until)),
        item.cause && h("p", { class: "hint" }, `${item.cause.code}: ${item.cause.message}`),
      ]),
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
        `${item.key ?? ""} ${item.ok ? t("answers") : `${item.error.code}: ${item.error.message}`} (${format.milliseconds(item.ms)})`,
      ),
    ),
  );
}

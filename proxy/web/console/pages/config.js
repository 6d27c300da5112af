// The configuration in force, and what the last reloads changed.

import { admin, get } from "../api.js";
import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { codeBlock } from "../markdown.js";
import { heading } from "../shell.js";
import { badge, button, definition, problem, show, table, time, toast } from "../ui.js";

export default async function config({ element }) {
  const state = h("section", { class: "card" });
  const said = h("div", { "aria-live": "polite" });
  const reloads = h("section", { class: "card" });
  const whole = h("section", { class: "card" });
  const load = () =>
    Promise.all([
      show(state, ready, stateCard),
      show(reloads, () => admin.get("/reload"), reloadsCard),
      show(whole, () => admin.get("/config"), sections),
    ]);
  const read = async () => {
    replace(said);
    try {
      const { changes } = await admin.post("/reload");
      toast(changes.length ? t("Read again. Changes in force: {count}.", { count: changes.length }) : t("Read again: nothing has changed."));
    } finally {
      load();
    }
  };
  const again = button(t("Read the file again"), read, { class: "primary", fail: (error) => replace(said, problem(error)) });
  replace(element, heading(t("Configuration"), t("It is changed in its file, which is watched: a valid change is in force for the next request."), again), said, state, reloads, whole);
  await load();
}

async function ready() {
  try {
    return await get("/readyz");
  } catch (error) {
    if (error.status !== 503) throw error;
    return { status: "unavailable", version: "–", config: {}, database: error.message };
  }
}

function stateCard(report) {
  const good = report.status === "ok";
  const wrong = report.config.error && badge("warn", t("the file has errors"));
  return [
    h("header", {}, h("h2", {}, t("State")), badge(good ? "good" : "bad", good ? t("ready") : report.status)),
    definition([
      [t("Version"), report.version],
      [t("Configuration loaded"), [time(report.config.loaded_at), " ", wrong]],
      [t("Database"), report.database === "ok" ? t("can be written") : report.database],
    ]),
  ];
}

const CHANGES = { added: "added", removed: "removed", changed: "changed" };

function reloadsCard({ data }) {
  return [
    h("h2", {}, t("Last reloads")),
    data.length ? data.map((reload, index) => outcome(reload, index === 0)) : h("p", { class: "quiet" }, t("None since the start.")),
  ];
}

/** One reload: what it changed, or why it changed nothing. */
function outcome({ at, error, changes, effects, restart_needed: waiting }, open) {
  const result = error
    ? badge("bad", t("refused"))
    : badge("good", changes.length ? t("changes: {count}", { count: changes.length }) : t("nothing changed"));
  return h(
    "details",
    { open },
    h("summary", {}, time(at), " ", result),
    h(
      "div",
      { class: "list" },
      error && h("div", { class: "notice bad" }, h("p", { class: "strong" }, t("The file has errors; what was in force before stays in force:")), h("pre", {}, error)),
      changes.length > 0 && difference(changes),
      effects.map((effect) => h("p", { class: "notice" }, effect)),
      waiting.length > 0 && h("p", { class: "notice warn" }, t("Wait for a restart: {keys}", { keys: waiting.join(", ") })),
    ),
  );
}

const difference = (changes) =>
  table(
    t("What has changed"),
    [
      { title: t("Setting"), class: "name full", cell: (item) => h("code", {}, item.path) },
      { title: t("Change"), cell: (item) => t(CHANGES[item.change] ?? item.change) },
      { title: t("Detail"), cell: (item) => item.detail },
    ],
    changes,
  );

function sections(config) {
  const names = Object.keys(config);
  return [
    h("h2", {}, t("In force, secrets masked")),
    names.map((name) => {
      const value = config[name];
      if (value === null || typeof value !== "object") return definition([[h("code", {}, name), String(value)]]);
      const details = h("details", {}, h("summary", {}, h("code", {}, name), " ", h("span", { class: "quiet" }, String(Object.keys(value).length))));
      details.addEventListener("toggle", () => details.childElementCount > 1 || details.append(codeBlock(JSON.stringify(value, null, 2), name)));
      return details;
    }),
  ];
}

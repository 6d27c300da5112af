// The configuration in force, and what the last reload said.

import { admin, get } from "../api.js";
import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { codeBlock } from "../markdown.js";
import { heading } from "../shell.js";
import { badge, definition, empty, problem, show, table, time } from "../ui.js";

export default async function config({ element }) {
  const state = h("section", { class: "card" });
  const outcome = h("div", { "aria-live": "polite" });
  const whole = h("section", { class: "card" });
  const load = () => Promise.all([show(state, ready, stateCard), show(whole, () => admin.get("/config"), sections)]);
  const reload = h("button", { type: "button", class: "primary" }, t("Read the file again"));
  reload.addEventListener("click", async () => {
    reload.disabled = true;
    try {
      replace(outcome, changes(await admin.post("/reload", {})));
    } catch (error) {
      replace(outcome, problem(error));
    }
    reload.disabled = false;
    load();
  });
  replace(element, heading(t("Configuration"), t("It is changed in its file, which is watched: a valid change is in force for the next request."), reload), outcome, state, whole);
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
  return [
    h("header", {}, h("h2", {}, t("State")), badge(good ? "good" : "bad", good ? t("ready") : report.status)),
    definition([
      [t("Version"), report.version],
      [t("Configuration loaded"), time(report.config.loaded_at)],
      [t("Database"), report.database === "ok" ? t("can be written") : report.database],
    ]),
    report.config.error && h("div", { class: "notice bad", role: "alert" }, h("p", { class: "strong" }, t("The file has errors; what was in force before stays in force:")), h("pre", {}, report.config.error)),
  ];
}

const CHANGES = { added: "added", removed: "removed", changed: "changed" };

function changes(report) {
  if (!report.changes?.length) return h("p", { class: "notice good" }, t("Read again: nothing has changed."));
  return h(
    "section",
    { class: "card" },
    h("h2", {}, t("What has changed")),
    table(
      t("What has changed"),
      [
        { title: t("Key"), class: "name full", cell: (item) => h("code", {}, item.path) },
        { title: t("Change"), cell: (item) => t(CHANGES[item.change] ?? item.change) },
        { title: t("Detail"), cell: (item) => item.detail },
      ],
      report.changes,
    ),
    report.effects?.map((effect) => h("p", { class: "notice" }, effect)),
    report.restart_needed?.length > 0 && h("p", { class: "notice warn" }, t("Wait for a restart: {keys}", { keys: report.restart_needed.join(", ") })),
  );
}

function sections(config) {
  const names = Object.keys(config);
  if (!names.length) return empty(t("Nothing is configured"), "");
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

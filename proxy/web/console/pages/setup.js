// Set up a tool: the exact files and commands, with the key in use.

import { admin, ApiError, get } from "../api.js";
import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { codeBlock, inline } from "../markdown.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { definition, empty, field, input, select, show } from "../ui.js";

const KEY = "{{KEY}}";
const UNKNOWN = "sk-sluice-…";
const PLAIN = /^[\w-]+$/;

export default async function setup({ element, query, setQuery }) {
  const body = h("div", { class: "list" });
  replace(element, heading(t("Set up a tool"), t("Pick a tool and a model; copy what it needs.")), body);
  const base = query.get("base_url") ?? location.origin;
  const load = async () => {
    const [clients, models] = await Promise.all([read(query.get("model"), base), session.isAdmin ? admin.get("/models") : get("/v1/models")]);
    return { clients, models: models.data.map((model) => model.id).filter((id) => !id.includes("*")) };
  };
  await show(body, load, ({ clients, models }) => tools(clients, models, base, query, setQuery));
}

async function read(model, base) {
  try {
    return (await get(session.isAdmin ? "/admin/api/clients" : "/v1/clients", { model, base_url: base })).data;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return [];
    throw error;
  }
}

function tools(clients, models, base, query, setQuery) {
  const model = query.get("model") ?? models[0] ?? "MODEL";
  // An administrator has no API key at hand: one that was just made may be pasted; it stays on this page.
  const key = input("key", { type: "password", autocomplete: "off", placeholder: UNKNOWN });
  const use = () => {
    const given = session.isAdmin ? key.value.trim() : session.key;
    return PLAIN.test(given) ? given : UNKNOWN; // Any other could end the quotes that it is put between.
  };
  const chosen = clients.find((client) => client.name === query.get("tool")) ?? clients[0];
  const content = h("section", { class: "card" });
  const draw = () => replace(content, chosen ? steps(chosen, use()) : addresses(base, model, use()));
  key.addEventListener("input", draw);
  draw();
  const choice = (name, title, options, value) =>
    field(title, select(name, options, value, { onchange: (event) => setQuery({ [name]: event.target.value }) }));
  return [
    h(
      "div",
      { class: "filters" },
      clients.length > 0 && choice("tool", t("Tool"), clients.map((client) => [client.name, client.title]), chosen.name),
      models.length > 0 && choice("model", t("Model"), models.map((name) => [name, name]), model),
      field(t("Address of this gateway"), input("base_url", { type: "url", value: base, onchange: (event) => setQuery({ base_url: event.target.value.replace(/\/+$/, "") }) }), null, "grow"),
      session.isAdmin && field(t("API key"), key, t("Filled in below; sent nowhere"), "grow"),
    ),
    content,
  ];
}

function steps(client, key) {
  return [
    h("h2", {}, client.title),
    client.needs_public_address && h("p", { class: "notice warn" }, t("This tool calls from its own servers: the gateway needs a public https address.")),
    client.steps.length ? null : empty(t("Nothing to set up"), ""),
    h(
      "ol",
      { class: "funds" },
      client.steps.map((step) =>
        h("li", { class: "list" }, h("p", {}, inline(step.text.replaceAll(KEY, key))), step.content !== null && step.content !== undefined && codeBlock(step.content.replaceAll(KEY, key), step.file ?? step.language ?? "")),
      ),
    ),
    (client.notes ?? []).map((note) => h("p", { class: "quiet" }, inline(note.replaceAll(KEY, key)))),
  ];
}

/** What every tool asks for, where there is nothing made for one. */
function addresses(base, model, key) {
  const curl = `curl ${base}/v1/chat/completions \\\n  -H "Authorization: Bearer ${key}" -H "Content-Type: application/json" \\\n  -d '${JSON.stringify({ model, messages: [{ role: "user", content: "Hello!" }] })}'`;
  return [
    h("h2", {}, t("What every tool asks for")),
    definition([
      [t("Base URL, {name} SDK", { name: "OpenAI" }), h("code", {}, `${base}/v1`)],
      [t("Base URL, {name} SDK", { name: "Anthropic" }), h("code", {}, base)],
      [t("API key"), h("code", {}, key)],
      [t("Model"), h("code", {}, model)],
    ]),
    codeBlock(curl, "curl"),
  ];
}
